"""Keeps the traffic of polling out of the worker's log: jobs are logged when they change, not when they are read."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from celery import bootsteps

from tasks_bridge.events import GENERATE, POLL, RECORD, TELL

_LOGGERS: Final = ("celery.worker.strategy", "celery.app.trace", "httpx")
_CHATTER: Final = (POLL, RECORD, TELL)
_ROUTE: Final = "/v1/tasks/"


_hushed = threading.local()


@contextmanager
def hushed_httpx() -> Iterator[None]:
    """Keep `httpx`'s line per request of this thread out of the log: who has the URL of an output has the output."""
    logger = logging.getLogger("httpx")
    if not any(isinstance(known, _Hushed) for known in logger.filters):
        logger.addFilter(_Hushed())
    _hushed.is_on = True
    try:
        yield
    finally:
        _hushed.is_on = False


class _Hushed(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO or not getattr(_hushed, "is_on", False)


class QuietPolling(bootsteps.Step):
    """Worker bootstep: in place before the pool starts, so that its processes inherit it."""

    requires = ()

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            if not any(isinstance(known, _NotPolling) for known in logger.filters):
                logger.addFilter(_NotPolling())


class _NotPolling(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno > logging.INFO:
            return True
        if record.name == "httpx":
            return _ROUTE not in record.getMessage()
        data: Any = record.args if isinstance(record.args, dict) else getattr(record, "data", None)
        if not isinstance(data, dict):
            return True
        # Of a job, its own line says more, and doesn't quote all that ByteSpike says, which may quote the prompt. But
        # that a message is refused that never became a job is said nowhere else.
        is_told = data.get("name") == GENERATE and not str(data.get("exc", "")).startswith("InvalidRequest")
        return data.get("name") not in _CHATTER and not is_told
