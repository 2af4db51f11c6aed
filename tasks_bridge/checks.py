"""
What can be wrong with an application that is about to run jobs, whatever its framework.

An error: with it nothing works. A warning: it works, and something is dangerous, or missing here and now.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from tasks_bridge.errors import BridgeError, SettingsError, StoreError
from tasks_bridge.events import POLL
from tasks_bridge.settings import DEFAULT_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks_bridge.bridge import Bridge

VISIBILITY_MIN_S: Final = 300.0
"""Celery's own default is an hour. A callback that a worker holds for longer than this is given to another as well."""

TASK_LIMIT_MIN_S: Final = 30.0
"""A task of this library runs for a second; while Redis hangs, for the time that a worker waits for it."""

REDIS_WAIT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    code: str
    """``E`` or ``W`` and a number, for whoever looks it up or silences it."""
    message: str
    hint: str | None = None
    """What to do."""

    @property
    def is_error(self) -> bool:
        """Whether nothing works with it."""
        return self.code.startswith("E")


STOPPING: Final = ("W001", "W008")
"""No API key, no Redis: a build may go on without them, and a deployment that is asked about itself may not."""


def stops(finding: Finding) -> bool:
    """Whether a deployment could run no jobs with it."""
    return finding.is_error or finding.code in STOPPING


def check_settings(bridge: Bridge) -> Iterator[Finding]:
    """What the library's own settings lack."""
    try:
        bridge.settings.key(DEFAULT_KEY)
    except SettingsError as error:
        if not bridge.settings.api_keys:
            yield Finding("W001", str(error), 'Or TASKS_BRIDGE = {"API_KEY": …}.')
    if not bridge.settings.alarm:
        yield Finding(
            "W003",
            "ALARM is off for every process of this project: no worker will ever poll a job",
            "Set TASKS_BRIDGE_ALARM=false in the environment of those workers that must not.",
        )


def check_celery(bridge: Bridge) -> Iterator[Finding]:
    """How the Celery app is configured."""
    settings: Any = bridge.app.conf
    if "json" not in settings.accept_content and "application/json" not in settings.accept_content:
        yield Finding("E002", "Celery's accept_content lacks json, which messages of jobs are")
    broker = str(settings.broker_url or bridge.settings.broker)
    wait_s = (settings.broker_transport_options or {}).get("visibility_timeout")
    if broker.startswith(("redis", "rediss", "sentinel", "unix")) and wait_s is not None and wait_s < VISIBILITY_MIN_S:
        yield Finding(
            "W004",
            f"Celery's visibility_timeout is {wait_s:g} s: a callback with acks_late, an ETA or a long queue before it "
            "is delivered again after that, while the first may be at work",
            "Jobs don't depend on it. Leave it at its default, an hour, or above your longest task.",
        )
    scheduled = [name for name, entry in (settings.beat_schedule or {}).items() if entry.get("task") == POLL]
    if scheduled:
        yield Finding(
            "W005",
            f"Celery beat polls jobs ({', '.join(scheduled)}), which the workers do by themselves",
            "Take these entries out of beat_schedule. Nothing here needs beat.",
        )
    if settings.task_always_eager:
        yield Finding(
            "W006",
            "task_always_eager is on: each job runs to its end in the process that starts it",
            "For tests only.",
        )


def check_workers(bridge: Bridge) -> Iterator[Finding]:
    """How the workers of the Celery app are configured."""
    settings: Any = bridge.app.conf
    if settings.worker_prefetch_multiplier == 0:
        yield Finding(
            "W009",
            "worker_prefetch_multiplier is 0: a worker takes all messages there are, and while it is at the first of "
            "them, the callbacks and jobs of the others wait although other workers are free",
            "Leave it at its default, 4, or set it to 1 where callbacks take long.",
        )
    limits = {name: settings[name] for name in ("task_time_limit", "task_soft_time_limit")}
    short = {name: limit for name, limit in limits.items() if limit is not None and limit < TASK_LIMIT_MIN_S}
    if short:
        named = " and ".join(f"{name} is {limit:g} s" for name, limit in short.items())
        yield Finding(
            "W010",
            f"{named}, for tasks of this library as well: while Redis hangs, polls are killed in the middle",
            f"Raise it to {TASK_LIMIT_MIN_S:g} s or more, or set it on your own tasks instead of all.",
        )
    if not settings.worker_enable_remote_control:
        yield Finding(
            "W011",
            "worker_enable_remote_control is off: revoke, also Flower's button, reaches no worker, and nor does a look "
            "at them",
            "Leave it on; job.cancel() works either way.",
        )
    if settings.task_send_sent_event:
        yield Finding(
            "W012",
            "task_send_sent_event is on: monitors get an event for each poll message",
            "Switch it off; jobs have events of their own.",
        )


def check_callbacks(bridge: Bridge, path: str | None, hint: str) -> Iterator[Finding]:
    """
    Whether ByteSpike's callbacks lead to the application's view for them.

    Args:
        bridge: Whose settings.
        path: The view's, without the token; None: the application has none.
        hint: How it gets one.
    """
    address = bridge.settings.callback_base_url
    if address is None:
        return
    if path is None:
        yield Finding("E003", "ByteSpike is to call back, and there is no URL for that in this project", hint)
        return
    if not urlsplit(address).path.endswith(path):
        yield Finding(
            "E004",
            f"The callbacks' address {address} does not lead to their view, which is at …{path}",
            f'TASKS_BRIDGE = {{"CALLBACK_BASE_URL": "https://<your host>{path}"}}',
        )
    if urlsplit(address).scheme != "https":
        yield Finding(
            "W007", f"The callbacks' address {address} is not https, which only the sandbox on this machine calls"
        )


def check_redis(bridge: Bridge) -> Iterator[Finding]:
    """Whether Redis can be reached, in two seconds at most, and keeps what it is given."""
    found: list[BridgeError | None] = []

    def look() -> None:
        try:
            bridge.store.check()
        except BridgeError as error:
            found.append(error)
        else:
            found.append(None)

    # the store itself waits for a server that restarts; a check must not
    thread = threading.Thread(target=look, name="tasks-bridge-check", daemon=True)
    thread.start()
    thread.join(REDIS_WAIT_S)
    problem = found[0] if found else StoreError(f"Redis at {bridge.store.address} did not answer in {REDIS_WAIT_S:g} s")
    if isinstance(problem, StoreError):
        yield Finding("W008", str(problem), "Jobs can't be started without it.")
    elif problem is not None:
        yield Finding("E005", str(problem))
