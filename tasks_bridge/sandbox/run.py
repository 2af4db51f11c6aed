"""
Serve a sandbox from the command line.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

from tasks_bridge.sandbox.host import Host
from tasks_bridge.sandbox.sandbox import Sandbox

# Flushed: whoever reads the line through a pipe waits for it.
_PRINT: Final = partial(print, flush=True)


def serve(
    host: str = "127.0.0.1",
    port: int = 8765,
    *,
    speed: float = 1.0,
    seed: int = 0,
    keys: Iterable[str] | None = None,
    concurrency: int | None = None,
    latency_s: float = 0.0,
    heartbeat_s: float = 15.0,
    public_url: str | None = None,
    state: str | Path | None = None,
    announce: Callable[[str], None] = _PRINT,
) -> None:
    """
    Serve until SIGINT or SIGTERM, which stop it at once. Call it from the main thread.

    Args:
        announce: Receives one line with the URL once connections are accepted; printed at once by default.
        port: 0 takes a free one.

    The other parameters are those of `Sandbox`.

    Raises:
        OSError: The port is taken.
    """
    sandbox = Sandbox(
        speed=speed,
        seed=seed,
        keys=keys,
        concurrency=concurrency,
        latency_s=latency_s,
        heartbeat_s=heartbeat_s,
        public_url=public_url,
        state=state,
    )
    asyncio.run(_serve(sandbox, host, port, announce))


async def _serve(sandbox: Sandbox, host: str, port: int, announce: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, stop.set)
    server = Host(sandbox, host, port)
    try:
        await server.start()
        announce(f"ByteSpike sandbox on {server.url}")
        await stop.wait()
    finally:
        await server.stop()
