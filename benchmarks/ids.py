"""Task ids that look like ByteSpike's, and tell which job they belong to."""

from __future__ import annotations

import base64
import uuid

PREFIX, PLAIN_PREFIX = "task_", "task-"


def remote_id(job_id: str) -> str:
    """
    ``task_`` and 26 characters, as in the contract, section 2; what is no UUID stays readable.

    >>> job_id_of(remote_id("0f8fad5b-d9cb-469f-a165-70867728950e")), remote_id("x")
    ('0f8fad5b-d9cb-469f-a165-70867728950e', 'task-x')
    """
    try:
        known = uuid.UUID(job_id)
    except ValueError:
        return PLAIN_PREFIX + job_id
    return PREFIX + base64.b32encode(known.bytes).decode().rstrip("=")


def job_id_of(task_id: str) -> str:
    """The job that `remote_id` made *task_id* for."""
    if task_id.startswith(PREFIX):
        return str(uuid.UUID(bytes=base64.b32decode(task_id.removeprefix(PREFIX) + "======")))
    return task_id.removeprefix(PLAIN_PREFIX)
