"""
Rights in URLs: whoever has a job's link may see that job until the link ends, and with some links cancel it.

There is no other check, so a link is for whoever may see the page that it stands in. It can't be guessed or changed,
it tells nothing but the job's id, and it always ends: links stand in logs, histories and forwarded mails. Changing the
secret key ends all of them at once.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks_bridge.bridge import bridge_of
from tasks_bridge.errors import InvalidRequest, InvalidToken
from tasks_bridge.tokens import TokenPurpose, sign, verify

if TYPE_CHECKING:
    from celery import Celery


@dataclass(frozen=True, slots=True)
class Access:
    """What a token allows."""

    job_id: str
    """To see this job and to follow it."""
    may_cancel: bool
    """Whether to cancel it as well."""


def status_token(
    job_id: str, *, ttl_s: float | None = None, may_cancel: bool = False, app: Celery | None = None
) -> str:
    """
    The token of *job_id* for a URL; any process with the same secret key can check it.

    Whether there is such a job is not looked up. Equal arguments give the same token for a tenth of its time, so that
    pages with it can be compared and cached.

    Args:
        job_id: The job.
        ttl_s: For how many seconds at least, by this machine's clock; default: ``result_ttl_s``, as long as a finished
            job is remembered.
        may_cancel: Whether it may also cancel the job.
        app: The Celery app, by default the current one.

    Raises:
        SettingsError: There is no secret key.
        InvalidRequest: *job_id* can't be a job's id, or *ttl_s* is no time.
    """
    settings = bridge_of(app).settings
    wanted_s = settings.result_ttl_s if ttl_s is None else ttl_s
    if not 0 < wanted_s < math.inf:
        raise InvalidRequest("ttl_s must be a number of seconds greater than 0.")
    step_s = wanted_s / 10
    expires_at = math.floor(time.time() / step_s + 1) * step_s + wanted_s
    purpose = TokenPurpose.CONTROL if may_cancel else TokenPurpose.STATUS
    return sign(settings.secret_keys[0], purpose, job_id, expires_at=expires_at)


def check_token(token: str, *, app: Celery | None = None) -> Access:
    """
    What *token*, as it came in a URL, allows. Nothing is asked of Redis.

    Raises:
        InvalidToken: Nothing: it is none, or has ended. Which of these is not told.
        SettingsError: There is no secret key.
    """
    secrets, now = bridge_of(app).settings.secret_keys, time.time()
    try:
        return Access(verify(secrets, TokenPurpose.STATUS, token, now=now), may_cancel=False)
    except InvalidToken:
        return Access(verify(secrets, TokenPurpose.CONTROL, token, now=now), may_cancel=True)
