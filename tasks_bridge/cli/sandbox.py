"""``tasks-bridge sandbox``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tasks_bridge.cli.base import TRY, cli, examples
from tasks_bridge.errors import BridgeError


@cli.command(
    rich_help_panel=TRY,
    short_help="Serve a ByteSpike for development.",
    help="Serve a ByteSpike for development on this machine: true to the documented API, with outputs that can be "
    "viewed. What a job does is scripted in the member sandbox of its params.",
    epilog=examples(
        "tasks-bridge sandbox --speed 10",
        "export BYTESPIKE_BASE_URL=http://127.0.0.1:8765 BYTESPIKE_API_KEY=sk-byts-any",
    ),
)
def sandbox(
    host: Annotated[str, typer.Option(help="Address to listen on. Not for the open internet.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8765,
    speed: Annotated[float, typer.Option(help="How many times faster than life.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Makes durations repeatable.")] = 0,
    key: Annotated[
        list[str] | None, typer.Option(help="An API key to accept; may be given again. Default: any key.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Requests in flight before it answers 429. Default: no limit.")
    ] = None,
    latency_s: Annotated[float, typer.Option("--latency", min=0, help="Seconds added to every answer.")] = 0.0,
    heartbeat_s: Annotated[
        float, typer.Option("--heartbeat", min=0.01, help="Seconds between signs of life on an idle stream.")
    ] = 15.0,
    public_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Where clients reach the outputs, if not where they submit.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Keep the tasks here over a restart.")
    ] = None,
) -> None:
    """Serve the sandbox."""
    from tasks_bridge.sandbox import serve

    if not 0 < speed < float("inf"):
        raise typer.BadParameter("must be above 0", param_hint="--speed")
    try:
        serve(
            host,
            port,
            speed=speed,
            seed=seed,
            keys=key or None,
            concurrency=concurrency,
            latency_s=latency_s,
            heartbeat_s=heartbeat_s,
            public_url=public_url,
            state=state,
        )
    except OSError as error:
        raise BridgeError(f"the sandbox can't be served on {host}:{port}: {error.strerror or error}") from None
