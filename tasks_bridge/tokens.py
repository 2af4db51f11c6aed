"""
Signed tokens that stand for a job in a URL: who has one may do one thing with this one job, and no more.

A token is ``1~<expiry>~<job id>~<mac>``: the format's version, Unix seconds or nothing, the id in clear, and
HMAC-SHA256 over all of that and the purpose, in URL-safe Base64. Every character may stand in a path as it is.

It is HMAC from the standard library rather than itsdangerous: that signs moments and leaves the age to whoever reads,
where we need an expiry chosen by whoever signs; and what it would save, the lines below, is not worth a dependency of
every installation. Nothing here is our own cryptography.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from pydantic import SecretStr

from tasks_bridge.errors import InvalidRequest, InvalidToken
from tasks_bridge.wire import check_out_task_id

MIN_SECRET_CHARS: Final = 32
"""As many bytes as the hash has, below which a key weakens it. Source: RFC 2104, section 3."""

MAX_TOKEN_CHARS: Final = 200
"""More than any token has: what is longer is refused before anything is computed."""

_VERSION: Final = "1"
_SEPARATOR: Final = "~"
_SCOPE: Final = "tasks-bridge"


class TokenPurpose(StrEnum):
    """What a token is good for; it is good for nothing else."""

    STATUS = "status"  # see the job and follow it
    CONTROL = "control"  # the same, and cancel it
    CALLBACK = "callback"  # say that it has changed


def sign(secret: SecretStr, purpose: TokenPurpose, job_id: str, *, expires_at: float | None = None) -> str:
    """
    Return a token for *job_id*; equal arguments give equal tokens.

    Args:
        secret: At least `MIN_SECRET_CHARS` characters.
        purpose: What it will be good for.
        job_id: The job.
        expires_at: Unix seconds, rounded up; None: never.

    Raises:
        InvalidRequest: The secret is too short, or an argument can't be part of a token.
    """
    if len(secret.get_secret_value()) < MIN_SECRET_CHARS:
        raise InvalidRequest(f"The secret to sign with must have at least {MIN_SECRET_CHARS} characters.")
    if expires_at is not None and not 0 <= expires_at < 1e12:  # noqa: PLR2004  also NaN; later is milliseconds
        raise InvalidRequest("expires_at must be Unix seconds.")
    expiry = "" if expires_at is None else str(math.ceil(expires_at))
    content = _SEPARATOR.join((_VERSION, expiry, check_out_task_id(job_id)))
    return f"{content}{_SEPARATOR}{_mac(secret, purpose, content)}"


def verify(secrets: Sequence[SecretStr], purpose: TokenPurpose, token: str, *, now: float) -> str:
    """
    Return the id of the job that *token* stands for.

    A token may be used any number of times: until it ends, it is a right and no event. Every refusal takes the same
    steps up to the comparison, which stops at no difference; only what we have signed ourselves is looked into.

    Args:
        secrets: One of these must have signed it. Several, while one takes over from another.
        purpose: What it must be good for.
        token: What came in the URL: anything.
        now: Unix seconds.

    Raises:
        InvalidToken: It is none, or not for this, or too old. Which of these is not told.
    """
    content, _, mac = token.rpartition(_SEPARATOR) if len(token) <= MAX_TOKEN_CHARS else ("", "", "")
    # compared as bytes, because text beyond ASCII is an error to compare_digest; with every secret, whichever fits
    given = mac.encode(errors="replace")
    fits = [hmac.compare_digest(_mac(secret, purpose, content).encode(), given) for secret in secrets]
    if not any(fits):
        raise InvalidToken
    # from here on it is our own text, if perhaps a newer version's
    version, _, rest = content.partition(_SEPARATOR)
    if version != _VERSION:
        raise InvalidToken
    expiry, _, job_id = rest.partition(_SEPARATOR)
    if expiry and now >= int(expiry):
        raise InvalidToken
    return job_id


def derive_secret(key: str | bytes) -> str:
    """A secret to sign with, from a framework's own *key*: good for this alone, and telling nothing of the key."""
    encoded = key.encode(errors="surrogatepass") if isinstance(key, str) else key
    return hmac.digest(encoded, f"{_SCOPE}\nsecret".encode(), hashlib.sha256).hex()


def _mac(secret: SecretStr, purpose: TokenPurpose, content: str) -> str:
    # no part has a line feed, so no two sets of parts make the same message
    message = f"{_SCOPE}\n{purpose}\n{content}".encode(errors="surrogatepass")
    digest = hmac.digest(secret.get_secret_value().encode(errors="surrogatepass"), message, hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
