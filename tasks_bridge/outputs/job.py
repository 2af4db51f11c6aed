"""What `save_output` has to know of the job whose outputs it saves, and whom it asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tasks_bridge import steps
from tasks_bridge.errors import (
    ApiError,
    AuthenticationError,
    JobNotFinished,
    JobNotFound,
    NotFound,
    PermissionDenied,
)
from tasks_bridge.models import RemoteTask
from tasks_bridge.record import JobState

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks_bridge.client import Client
    from tasks_bridge.settings import Settings
    from tasks_bridge.store import Entry, Store

UNKNOWN_MODEL: Final = "unknown"


class JobFacts:
    """
    One job, as far as it is remembered.

    Args:
        job_id: Its id, ByteSpike's ``out_task_id``.
        settings: With the aliases of the API keys.
        store: Where it is remembered; None without Redis.
        make_client: From an alias to a client with that key, to be closed.

    Raises:
        StoreError: From every method, if Redis can't be reached.
    """

    def __init__(
        self, job_id: str, settings: Settings, store: Store | None, make_client: Callable[[str], Client]
    ) -> None:
        self.job_id = job_id
        self._make_client = make_client
        self._settings = settings
        self._store = store
        self._entry: Entry | None = None
        self._is_read = False

    @property
    def model(self) -> str:
        """The model; `UNKNOWN_MODEL` of a job that is forgotten, or never was in Redis."""
        entry = self._read()
        return UNKNOWN_MODEL if entry is None else entry.record.model

    def outcome(self) -> RemoteTask:
        """
        The remote task of a job that has completed; ByteSpike is asked for one that is forgotten here.

        Raises:
            JobNotFinished: It is still under way.
            JobNotFound: ByteSpike doesn't know it either.
            JobFailed, JobCancelled, JobExpired, ApiStatusError: It ended otherwise.
            ApiError, SettingsError: As `ask`.
        """
        entry = self._read()
        if entry is not None:
            if not entry.state.is_terminal:
                raise JobNotFinished(self.job_id, entry.state.value)
            if entry.state is not JobState.COMPLETED or entry.record.remote_task is None:
                raise steps.failure(self.job_id, entry.state, entry.record)
            return entry.record.remote_task
        task = self.ask(None)
        if task is None:
            raise JobNotFound(self.job_id)
        if not task.is_terminal:
            raise JobNotFinished(self.job_id)
        return task

    def ask(self, task_id: str | None) -> RemoteTask | None:
        """
        Ask ByteSpike for the task as it is now, by *task_id* or else by the job's id.

        With the key that it was made with, which alone can see it; with each in turn, if that is forgotten.

        Returns:
            The task; None if ByteSpike knows none.

        Raises:
            ApiError: It can't be asked.
            SettingsError: There is no such API key here.
        """
        entry = self._read()
        aliases = [entry.record.key] if entry is not None else list(self._settings.keys) or ["default"]
        refusal: ApiError | None = None
        for alias in aliases:
            try:
                with self._make_client(alias) as client:
                    return client.query(task_id) if task_id else client.query(out_task_id=self.job_id)
            except NotFound:
                continue
            except (AuthenticationError, PermissionDenied) as error:  # of this key: another may be the one
                refusal = error
        if refusal is not None:
            raise refusal
        return None

    def _read(self) -> Entry | None:
        if not self._is_read and self._store is not None and self.job_id:
            (self._entry,) = self._store.get([self.job_id])
        self._is_read = True
        return self._entry
