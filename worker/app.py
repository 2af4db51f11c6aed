"""
The ready-made deployment: ``celery -A worker.app worker``.

Configured by the environment alone. Callbacks live in your own modules: name them in ``CELERY_IMPORTS``, separated by
commas, and they are imported by the worker.
"""

from __future__ import annotations

import os

from celery import Celery

from tasks_bridge import Settings, install

settings = Settings()

app = Celery("tasks_bridge", broker=settings.broker, backend=settings.backend)
app.conf.update(
    imports=[name.strip() for name in os.environ.get("CELERY_IMPORTS", "").split(",") if name.strip()],
    accept_content=["json"],
    broker_connection_retry_on_startup=True,
    worker_send_task_events=True,
)
install(app, settings)
