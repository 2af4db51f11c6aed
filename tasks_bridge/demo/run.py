"""The demo from its first line to its exit status."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import httpx
from rich.console import Console
from rich.text import Text

from tasks_bridge.demo import scenes
from tasks_bridge.demo.report import LEGEND, table
from tasks_bridge.demo.show import Show
from tasks_bridge.demo.stage import Stage
from tasks_bridge.demo.story import Story
from tasks_bridge.demo.surroundings import Interrupted, interruptible
from tasks_bridge.demo.verdict import problems
from tasks_bridge.demo.workers import PROCESSES
from tasks_bridge.jobs import Job
from tasks_bridge.live import LiveView


def run(console: Console, *, redis_url: str | None = None, keep: Path | None = None) -> int:
    """
    Run the demo. Call it from the main thread.

    Args:
        console: Where it is shown.
        redis_url: The server to use; None starts one.
        keep: Directory for a picture and the clip.

    Returns:
        The exit status: 0 if every job ended as it should, 1 if not, 128 and the signal's number if interrupted.

    Raises:
        BridgeError: It could not be set up.
    """
    story = Story(console)
    try:
        with interruptible():
            return _run(console, story, redis_url, keep)
    except Interrupted as interrupted:
        console.print("\nInterrupted. Everything that was started has been stopped.", style="yellow")
        return 128 + interrupted.signum


def _run(console: Console, story: Story, redis_url: str | None, keep: Path | None) -> int:
    story.title()
    kept: list[Path] = []
    with ExitStack() as stack:
        with console.status("starting Redis, a ByteSpike sandbox and two Celery workers"):
            stage = stack.enter_context(Stage(redis_url))
        _introduce(story, stage)
        with LiveView(console, is_kept=False, stamp=story.stamp) as view:
            show = Show(stage, story, view)
            show.play()
            # tasks that were fetched come to their end first: a callback that runs twice would be among them
            stage.stop_workers()
        took_s = story.elapsed_s
        outcomes, once, remote_tasks = show.evidence()
        wrong = [*show.troubles, *problems(outcomes, once, remote_tasks)]
        stage.keeps_logs = bool(wrong)
        if keep is not None and not wrong:
            kept = _keep(stage, keep)
    console.print()
    console.print(table(outcomes))
    _print(console, f" {LEGEND}", style="dim")
    console.print()
    if wrong:
        _print(console, "Not as it should be:", style="bold red")
        for problem in wrong:
            _print(console, f"  {problem}")
        _print(console, f"The workers' logs are in {stage.directory}")
        return 1
    _print(console, f"All as it should be, in {took_s:.0f} s.", style="bold green")
    _print(console, "A worker and two answers were lost on the way. No job was, and none was paid")
    _print(console, "twice; the chain went on once, and the chord's body ran once.")
    for path in kept:
        _print(console, f"Kept {path}")
    return 0


def _introduce(story: Story, stage: Stage) -> None:
    origin = "started for this demo" if stage.is_own_server else f"yours, at {stage.bridge.store.address}"
    story.part("Redis", f"{stage.server.version}, {origin}")
    story.part("ByteSpike", f"a sandbox on this machine, true to its API, at {scenes.SPEED:g} times the speed")
    story.part("Celery", f"workers one and two, {PROCESSES} processes each")
    story.gap()


def _keep(stage: Stage, directory: Path) -> list[Path]:
    """Save what the sandbox serves only while it runs: a picture and the clip."""
    directory.mkdir(parents=True, exist_ok=True)
    kept = []
    for scene in (scenes.FOX, scenes.SKYLINE):
        url = Job(scene.job_id(stage.run), app=stage.app).result().urls[0]
        path = directory / f"{scene.name}{Path(url).suffix}"
        path.write_bytes(httpx.get(url).raise_for_status().content)
        kept.append(path)
    return kept


def _print(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)
