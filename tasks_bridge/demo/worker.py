"""What the demo's workers run: ``celery -A tasks_bridge.demo.worker worker``, configured by the environment alone."""

from __future__ import annotations

import warnings
from typing import Any

from celery.signals import task_prerun, worker_ready

from tasks_bridge.bridge import bridge_of
from tasks_bridge.demo.app import make_app
from tasks_bridge.demo.duty import note_at_work, note_ready
from tasks_bridge.events import GENERATE
from tasks_bridge.settings import Settings

# containers often have root only, and this worker reads nothing but JSON
warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")

app = make_app(Settings())


@worker_ready.connect
def _tell_ready(sender: Any, **_: Any) -> None:
    note_ready(bridge_of(app), sender.hostname)


@task_prerun.connect
def _tell_at_work(task_id: str, task: Any, **_: Any) -> None:
    if task.name == GENERATE:
        note_at_work(bridge_of(app), task_id, task.request.hostname)
