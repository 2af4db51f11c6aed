"""The app under test: `tasks_bridge` installed as a user would, configured by the environment."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from celery import Celery

from benchmarks.ready import announce
from tasks_bridge import install

REDIS_URL = os.environ["TASKS_BRIDGE_REDIS_URL"]

app = Celery("ours", broker=REDIS_URL, backend=REDIS_URL)
bridge = install(app)
announce(app, bridge.store.client)


@app.task
def note(result: dict[str, Any]) -> None:
    """A completion callback: writes down when it started."""
    bridge.store.client.rpush("bench:notes", json.dumps([result["out_task_id"], time.time()]))
