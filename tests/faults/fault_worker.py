"""
The worker's end of `smoke_app`, with what a test wants to be different about it, told by environment variables.

``FAULTS_PATIENCE_S``: how long it waits for a Redis that hangs. ``FAULTS_CLOCK_S``: what this machine's clock is
wrong by; ``FAULTS_CLOCK_JUMP_S``: by how much it jumps, back and forth. ``FAULTS_RECORD_VERSION``: the version that
this worker writes and knows. ``FAULTS_CRASHES``: a test may have it die at a step of a job, see `crash`.
``FAULTS_VISIBILITY_S``: after how long the messages of a killed worker are another's.
"""

from __future__ import annotations

import os
import time
from functools import partial

_true_time = time.time
_skew_s = float(os.environ.get("FAULTS_CLOCK_S", "0"))
_jump_s = float(os.environ.get("FAULTS_CLOCK_JUMP_S", "0"))


def _wrong_time() -> float:
    now = _true_time()
    return now + _skew_s + (_jump_s if int(now) % 2 else 0.0)


if _skew_s or _jump_s:
    time.time = _wrong_time

from tasks_bridge import bridge, order  # noqa: E402 - the clock first
from tasks_bridge.store import patience  # noqa: E402
from tests.faults import crash, slow_answer  # noqa: E402, F401 - the latter's task
from tests.smoke.smoke_app import make_app  # noqa: E402

if "FAULTS_PATIENCE_S" in os.environ:
    patience.OF_WORKERS_S = float(os.environ["FAULTS_PATIENCE_S"])  # type: ignore[misc]

app = make_app()

if "FAULTS_VISIBILITY_S" in os.environ:
    visibility_s = float(os.environ["FAULTS_VISIBILITY_S"])
    app.conf.broker_transport_options = {"visibility_timeout": visibility_s, "unacked_restore_throttle": 1}

if "FAULTS_RECORD_VERSION" in os.environ:
    version = int(os.environ["FAULTS_RECORD_VERSION"])
    order.RECORD_VERSION = version  # type: ignore[attr-defined]
    bridge.RedisStore = partial(bridge.RedisStore, version=version)  # type: ignore[assignment,attr-defined]

if "FAULTS_CRASHES" in os.environ:
    crash.instrument(app)
