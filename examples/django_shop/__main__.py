"""``python -m examples.django_shop`` runs the shop with all that it needs: ``make example-django``."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

from examples.run import Example, Surroundings, main


def prepare(surroundings: Surroundings) -> list[str]:
    """The database, and somebody who may enter the admin."""
    password = surroundings.kept("admin_password", lambda: secrets.token_urlsafe(9))
    surroundings.run("prepare.py", ADMIN_PASSWORD=password)
    return [f"Admin      /admin/ as demo, password {password}"]


EXAMPLE = Example(
    folder=Path(__file__).parent,
    title="Paper Moon, a poster shop on Django",
    web=["-m", "uvicorn", "shop.asgi:application", "--port={port}", "--timeout-graceful-shutdown=1", "--lifespan=off"],
    polling_web=["manage.py", "runserver", "--noreload", "{port}"],
    worker=["-m", "celery", "-A", "tasks_bridge.contrib.django", "worker", "-E", "--concurrency=2", "--loglevel=INFO"],
    usual_s={"seedream-v4": 7, "seedance-fast": 20},
    environment={"DJANGO_SETTINGS_MODULE": "shop.settings"},
    prepare=prepare,
    to_try=[
        "Order a print and a moving poster, and watch them come. Reload, or open a second tab: nothing is lost.",
        "Cancel one while it is in the making.",
        "Order something with the word `forbidden` in it: ByteSpike refuses it, and the page says so kindly.",
        "Stop everything with Ctrl-C while a poster is in the making, and start again: it is finished all the same.",
    ],
)

if __name__ == "__main__":
    sys.exit(main(EXAMPLE))
