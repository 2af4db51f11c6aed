"""``python -m examples.flask_studio`` runs the studio with all that it needs: ``make example-flask``."""

from __future__ import annotations

import sys
from pathlib import Path

from examples.run import Example, Surroundings, main


def prepare(surroundings: Surroundings) -> list[str]:
    """The database."""
    surroundings.run("-m", "flask", "--app", "studio", "create-tables")
    return []


EXAMPLE = Example(
    folder=Path(__file__).parent,
    title="Slate, a storyboard studio on Flask",
    web=["-m", "uvicorn", "asgi:application", "--port={port}", "--timeout-graceful-shutdown=1"],
    polling_web=["-m", "flask", "--app", "studio", "run", "--port={port}"],
    worker=["-m", "celery", "-A", "tasks_bridge.contrib.flask", "worker", "-E", "--concurrency=2", "--loglevel=INFO"],
    usual_s={"seedream-v4": 7},
    environment={"FLASK_APP": "studio"},
    prepare=prepare,
    to_try=[
        "Shoot a storyboard of a few lines, and watch its pictures come; the contact sheet follows the last of them.",
        "Cancel a shot while it is being made, and shoot it again: the contact sheet has waited for it.",
        "Write a line with the word `forbidden` in it: ByteSpike refuses that shot, and the page says so kindly.",
        "Stop everything with Ctrl-C in the middle of a shot, and start again: it is finished all the same.",
    ],
)

if __name__ == "__main__":
    sys.exit(main(EXAMPLE))
