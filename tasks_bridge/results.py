"""
The latest state of each job in Celery's result backend, where `AsyncResult` reads it. No decisions.

Celery itself stores how a job ended. Until then these writes keep the entry true: fenced by the job's token, so that a
late worker never puts an older state over a newer one, nor over the outcome.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import redis
from celery.backends.redis import RedisBackend

from tasks_bridge.errors import StoreError
from tasks_bridge.store.base import Beside

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from celery import Celery

    from tasks_bridge.store import RedisStore

_LUA = (files("tasks_bridge") / "results.lua").read_text()


@dataclass(frozen=True, slots=True)
class Report:
    """What the result backend should say of an open job."""

    job_id: str
    state: str
    """A Celery state: ``QUEUED``, ``PENDING_REMOTE`` or ``RUNNING``."""
    info: dict[str, Any]
    """The remote object, and our facts under ``job``."""
    token: int


class Results:
    """Writer to one app's result backend."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    @property
    def are_in_redis(self) -> bool:
        """Whether the backend is Celery's for Redis."""
        return isinstance(self._app.backend, RedisBackend)

    def write(self, reports: Sequence[Report]) -> None:
        """
        Store *reports*, in one round trip where the backend is Redis; a backend of another kind is not fenced.

        Raises:
            StoreError: The backend can't be reached.
        """
        if not reports:
            return
        backend: Any = self._app.backend
        if _is_plain_redis(backend):
            self._write_redis(backend, reports)
        else:
            for report in reports:
                backend.store_result(report.job_id, report.info, report.state)

    def besides(self, reports: Iterable[Report], store: RedisStore) -> dict[str, Beside]:
        """*reports* as what is set along with their jobs, by job id; empty if the backend is not in the same Redis."""
        backend: Any = self._app.backend
        if not _is_plain_redis(backend) or not store.shares_server(backend.client.connection_pool):
            return {}
        ttl_s = int(backend.expires or 0)
        return {
            report.job_id: Beside(_text(backend.get_key_for_task(report.job_id)), _entry(report), ttl_s)
            for report in reports
        }

    def _write_redis(self, backend: Any, reports: Sequence[Report]) -> None:
        arguments: list[str | int] = [int(backend.expires or 0)]
        for report in reports:
            arguments += (_entry(report), report.token)
        keys = [backend.get_key_for_task(report.job_id) for report in reports]
        try:
            backend.client.register_script(_LUA)(keys=keys, args=arguments)
        except redis.RedisError as error:
            raise StoreError(f"The result backend can't be written: {error}") from None


def _entry(report: Report) -> str:
    # Celery's own layout of an unfinished task (celery.backends.base, _get_result_meta) but for the fields that say
    # nothing until it is over, `traceback`, `date_done` and `children`: readers take them for null when missing
    return json.dumps(
        {
            "status": report.state,
            "result": report.info,
            "task_id": report.job_id,
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def _text(key: str | bytes) -> str:
    return key.decode() if isinstance(key, bytes) else key


def _is_plain_redis(backend: Any) -> bool:
    """Whether entries are JSON text in Redis, which the script can read; ``result_compression`` hides it."""
    if not isinstance(backend, RedisBackend):
        return False
    options: Any = backend
    return options.serializer == "json" and not getattr(options, "compression", None)
