"""
ByteSpike's word that a job has ended: the URL it is given, and what the view behind that URL does.

A callback is neither signed nor reliable (contract, sections 6 and 14). So it has no authority: its token only tells
which job to look at, its body is never read, and polling goes on without it, at a slower pace. Early, late, repeated
and lost callbacks are all harmless. A flood of them makes at most one query in ``poll_min_s``, the first at once, and
one after its end: ``seconds / poll_min_s + 2`` for each job, whoever calls how often; none for jobs that are over.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tasks_bridge.bridge import bridge_of
from tasks_bridge.errors import SettingsError
from tasks_bridge.tokens import TokenPurpose, sign, verify

if TYPE_CHECKING:
    from celery import Celery

    from tasks_bridge.settings import Settings


def receive(token: str, *, app: Celery | None = None) -> bool:
    """
    Have a worker look at the job that *token* stands for: all that a callback's view has to do.

    It is one command to Redis. Answer 2xx whichever it returns, 404 to `InvalidToken`, and never read more of the
    request than its path.

    Args:
        token: The last segment of the path.
        app: The Celery app, by default the current one.

    Returns:
        Whether the job is still open.

    Raises:
        InvalidToken: Nothing was done.
        SettingsError: There is no secret key.
        StoreError: Redis can't be reached.
    """
    bridge = bridge_of(app)
    job_id = verify(bridge.settings.secret_keys, TokenPurpose.CALLBACK, token, now=time.time())
    return bridge.store.announce(job_id, bridge.settings.poll_min_s)


def callback_url(job_id: str, *, app: Celery | None = None) -> str:
    """
    Where ByteSpike is told to call for *job_id*: a token under ``callback_base_url``, valid as long as its secret.

    Raises:
        SettingsError: There is no base URL, or no secret key.
        InvalidRequest: *job_id* can't be a job's id.
    """
    url = callback_url_if_on(bridge_of(app).settings, job_id)
    if url is None:
        raise SettingsError("There is no address for callbacks: set TASKS_BRIDGE_CALLBACK_BASE_URL")
    return url


def callback_url_if_on(settings: Settings, job_id: str) -> str | None:
    """The same, and None where callbacks are off."""
    if settings.callback_base_url is None:
        return None
    return f"{settings.callback_base_url}/{sign(settings.secret_keys[0], TokenPurpose.CALLBACK, job_id)}"
