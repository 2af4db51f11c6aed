"""A Celery application without this library, to try the nodes themselves."""

from __future__ import annotations

import os
import time

from celery import Celery, shared_task


def make_app(broker_url: str | None, result_backend: str | None) -> Celery:
    app = Celery("plain", broker=broker_url, backend=result_backend)
    app.conf.broker_connection_retry_on_startup = True
    return app


@shared_task
def add(x: int, y: int) -> int:
    return x + y


@shared_task
def pool_process() -> int:
    return os.getpid()


@shared_task(acks_late=True, reject_on_worker_lost=True)
def nap(seconds: float) -> str:
    time.sleep(seconds)
    return "rested"


app = make_app(os.environ.get("PLAIN_BROKER_URL"), os.environ.get("PLAIN_RESULT_BACKEND"))
