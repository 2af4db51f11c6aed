"""
What ByteSpike still knows of a job that nobody here does: by the job's id, which is its ``out_task_id``.

For an application that has kept the id in a row of its own: Redis may have lost its data, or have forgotten the job
since, without the row having heard of its end.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING, Final, Self

from tasks_bridge.client import Client
from tasks_bridge.errors import BridgeError, JobFailed, NotFound
from tasks_bridge.record import RECORD_VERSION, JobRecord
from tasks_bridge.settings import DEFAULT_KEY
from tasks_bridge.steps import recorded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tasks_bridge.models import RemoteTask
    from tasks_bridge.settings import Settings
    from tasks_bridge.store import Entry, Store

BATCH: Final = 100
"""Jobs that are looked up in Redis at a time."""


class Service:
    """ByteSpike, asked with one client for each key. A context manager."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = ExitStack()
        self._clients: dict[str, Client] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._clients.clear()
        self._stack.close()

    def task(self, job_id: str, key: str = DEFAULT_KEY) -> RemoteTask | None:
        """
        The task of *job_id*, made with the API key under the alias *key*; None if there is none.

        Raises:
            BridgeError: It can't be said.
        """
        if key not in self._clients:
            settings = self._settings
            client = Client(
                settings.key(key),
                settings.base_url,
                connect_timeout_s=settings.connect_timeout_s,
                query_timeout_s=settings.query_timeout_s,
            )
            self._clients[key] = self._stack.enter_context(client)
        try:
            return self._clients[key].query(out_task_id=job_id)
        except NotFound as error:
            if error.code == "task_not_found":
                return None
            raise


def look_up(
    store: Store, service: Service, job_ids: Iterable[str], key: str
) -> Iterator[tuple[str, Entry | RemoteTask | BridgeError | None]]:
    """
    What is known of each of *job_ids*: to Redis, else to ByteSpike with the key *key*.

    None: nobody knows it. An error: ByteSpike could not say.

    Raises:
        StoreError: Redis can't be reached.
    """
    ids = iter(job_ids)
    while batch := list(islice(ids, BATCH)):
        for job_id, entry in zip(batch, store.get(batch), strict=True):
            if entry is not None:
                yield job_id, entry
                continue
            try:
                yield job_id, service.task(job_id, key)
            except BridgeError as error:
                yield job_id, error


def record_of(remote: RemoteTask | None, key: str = DEFAULT_KEY) -> JobRecord:
    """A record for a job of which no more than *remote* is known."""
    return JobRecord(
        version=RECORD_VERSION,
        model="?",
        key=key,
        digest="",
        created_at=time.time(),
        remote=None if remote is None else remote.to_json(),
    )


def record_of_lost(job_id: str, key: str = DEFAULT_KEY) -> JobRecord:
    """A record for a job that is given up, because nobody knows it."""
    error = JobFailed(job_id, "lost", "neither Redis nor ByteSpike knows the job")
    return record_of(None, key).but(error=recorded(error))
