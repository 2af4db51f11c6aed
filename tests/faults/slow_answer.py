"""Tasks whose pool process is slow to say that they are over."""

from __future__ import annotations

import array
import fcntl
import os
import struct
import termios
import time
from typing import Any

from billiard.connection import Connection
from celery import current_app, shared_task

from tasks_bridge.bridge import bridge_of
from tests.smoke.smoke_app import record

HALF = "smoke:half-may-be-said"
"""Redis key: the process may say the first half."""
GO = "smoke:go"
"""Redis key: the process may say the rest."""


@shared_task
def answer_in_two_parts() -> None:
    """
    Say how long the answer is as it ends, and the answer once the test lets it.

    Billiard writes every answer of more than 16 kB in these two parts; here a whole outage lies between them.
    """
    connections: Any = Connection
    whole = connections._send_bytes

    def in_two_parts(self: Any, answer: bytes) -> None:
        connections._send_bytes = whole
        record("over", pid=os.getpid())
        wait_for(HALF)
        self._send(struct.pack("!i", len(answer)))
        while unread(self.fileno()):
            time.sleep(0.01)
        record("half")
        wait_for(GO)
        self._send(answer)

    def wait_for(key: str) -> None:
        redis = bridge_of(current_app).store.client
        while not redis.exists(key):
            time.sleep(0.01)

    connections._send_bytes = in_two_parts


def unread(pipe: int) -> int:
    """How many bytes wait in *pipe* to be read."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]
