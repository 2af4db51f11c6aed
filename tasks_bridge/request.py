"""How the worker's main process treats `generate` messages."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from celery.worker.request import Request
from celery.worker.state import revoked, revoked_stamps

from tasks_bridge.bridge import bridge_of
from tasks_bridge.errors import BridgeError

if TYPE_CHECKING:
    from celery.concurrency.base import BasePool

log = logging.getLogger(__name__)


class JobRequest(Request):
    """
    A request whose revocation cancels the job instead of dropping the message.

    Celery would drop it and store REVOKED at once, in this worker only. But the remote task has to be cancelled first,
    it may turn out to have completed, and then its callbacks must run: so the wish goes to the store, and the message
    is handled as any other.
    """

    def revoked(self) -> bool:
        """Whether to drop the message; only one that belongs to no job."""
        if (self.id in revoked or self._has_revoked_stamp()) and cancel(self.app, self.id):
            revoked.discard(self.id)
            return False
        return bool(super().revoked())

    def terminate(self, pool: BasePool, signal: Any = None) -> None:
        """Cancel the job; the process that works on it is left alone."""
        if not cancel(self.app, self.id):
            super().terminate(pool, signal)

    def _has_revoked_stamp(self) -> bool:
        for header, values in self.stamps.items():
            unwanted = revoked_stamps.get(header)
            if unwanted is not None and set(_listed(values)) & set(_listed(unwanted)):
                return True
        return False


def cancel(app: Any, job_id: str) -> bool:
    """Ask durably for the job's cancellation. False if there is no such job, or it can't be told."""
    try:
        return bridge_of(app).store.request_cancel(job_id, "revoked") is not None
    except BridgeError as error:
        log.error("job %s could not be cancelled: %s", job_id, error)  # noqa: TRY400 - expected, no bug
        return False


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple | set) else [value]
