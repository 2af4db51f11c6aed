"""``tasks-bridge cadence``."""

from __future__ import annotations

from typing import Annotated

import typer

from tasks_bridge.cli.base import OPERATE, AppOption, JsonOption, bridge_for, cli, examples, print_json


@cli.command(
    rich_help_panel=OPERATE,
    short_help="Say when jobs of a model are looked at, and why.",
    help="Say when jobs of a model are looked at, and why: how long its latest jobs took, what was learned from that, "
    "and what it is expected to cost beside ByteSpike's published rule.",
    epilog=examples("tasks-bridge cadence sora-2-pro", "tasks-bridge cadence sora-2-pro --estimate 35 --json"),
)
def cadence(
    model: Annotated[str, typer.Argument(help="Model, such as sora-2-pro.", show_default=False)],
    estimate_s: Annotated[
        float | None,
        typer.Option(
            "--estimate", metavar="SECONDS", help="For jobs with this estimate. Default: that of the jobs of late."
        ),
    ] = None,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say when jobs of a model are looked at."""
    from tasks_bridge.explain import Explanation
    from tasks_bridge.knowledge import Knowledge, Pace
    from tasks_bridge.learning import RedisEnds

    if estimate_s is not None and not 0 < estimate_s < float("inf"):
        raise typer.BadParameter("must be above 0", param_hint="--estimate")
    bridge = bridge_for(app)
    [kept] = RedisEnds(bridge.store).latest([model])
    known = Knowledge(kept, Pace.of(bridge.settings), now=bridge.store.now())
    found = Explanation.of(model, kept, known, is_on=bridge.settings.learn_cadence, estimate_s=estimate_s)
    if as_json:
        print_json(found.described())
        return
    for line in found.lines():
        typer.echo(line)
