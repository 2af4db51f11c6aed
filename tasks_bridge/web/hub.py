"""
What open streams are fed from: one thread and one connection to Redis in each process, however many look on.

A notice on a job's channel is a hint: the hub reads the job anew, all that changed at the same time in one round trip,
and gives the entry to everybody who follows it. Every few seconds it reads all followed jobs in any case. So a notice
that was lost, with the connection or while it was being made, costs seconds and nothing else.

The pattern is subscribed to rather than each job's channel: no traffic at all when somebody comes or goes, and nothing
to keep in step. The price is that a process with an open stream hears of all jobs of its namespace, about three times
each, and drops what nobody here follows.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import defaultdict
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import redis

from tasks_bridge.errors import BridgeError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tasks_bridge.bridge import Bridge
    from tasks_bridge.store import Entry
    from tasks_bridge.store.redis import RedisStore

    Listener = Callable[[Entry | None], None]

log = logging.getLogger(__name__)

SWEEP_S: Final = 5.0
"""How often all followed jobs are read: the most that a lost notice costs, and when progress bars are corrected."""

LISTEN_S: Final = 0.25
"""How soon a newcomer's job is read, and how long the thread outlives the last stream."""

SETTLE_S: Final = 0.01
"""How long the first notice waits for others to share its reading."""

TROUBLE_WAIT_S: Final = 2.0
"""Pause after Redis could not be reached."""

READ_MOST: Final = 100
"""Jobs read in one round trip: a script holds everybody else in Redis up."""


class Full(BridgeError):
    """This process keeps as many streams open as it may."""


class Hub:
    """Hands the entries of followed jobs to their followers. Its thread is there while somebody follows."""

    def __init__(self, store: RedisStore, most: int, *, sweep_s: float = SWEEP_S) -> None:
        """
        Follow jobs of *store*.

        Args:
            store: Where they are.
            most: Followers that it takes.
            sweep_s: How often all followed jobs are read.
        """
        self._store = store
        self._most = most
        self._sweep_s = sweep_s
        self._lock = threading.Lock()
        self._listeners: defaultdict[str, list[Listener]] = defaultdict(list)
        self._count = 0
        self._new: set[str] = set()
        self._thread: threading.Thread | None = None
        self._idle = threading.Event()
        self._in_trouble = False

    def __len__(self) -> int:
        """How many follow."""
        return self._count

    @property
    def is_full(self) -> bool:
        """Whether it takes nobody more."""
        return self._count >= self._most

    @contextmanager
    def following(self, job_id: str, listener: Listener) -> Iterator[None]:
        """
        Call *listener* with the job's entry, soon and then at each change and each sweep, until the block is left.

        It is called in the hub's thread and must not block; None is for a job that is no longer known.

        Raises:
            Full: There are enough.
        """
        with self._lock:
            if self.is_full:
                raise Full("There are as many open streams as TASKS_BRIDGE_STREAM_LIMIT allows")
            self._count += 1
            self._listeners[job_id].append(listener)
            self._new.add(job_id)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tasks-bridge-hub", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1
                self._listeners[job_id].remove(listener)
                if not self._listeners[job_id]:
                    del self._listeners[job_id]

    def _run(self) -> None:
        while self._goes_on():
            try:
                with closing(_pubsub(self._store)) as channel:
                    channel.psubscribe(self._store.channel("*"))
                    self._listen(channel)
            except (redis.RedisError, StoreError, OSError) as error:
                if not self._in_trouble:
                    log.warning("open streams show nothing new until Redis is back: %s", error)
                self._in_trouble = True
                self._idle.wait(TROUBLE_WAIT_S)
            except Exception:
                log.exception("a bug in the hub; it goes on")
                self._idle.wait(TROUBLE_WAIT_S)

    def _goes_on(self) -> bool:
        with self._lock:
            if self._count:
                return True
            self._thread = None  # whoever comes next starts another
            return False

    def _listen(self, channel: Any) -> None:
        sweep_at = 0.0
        while True:
            with self._lock:
                if not self._count:
                    return
            heard = self._heard(channel)
            with self._lock:
                followed = self._listeners.keys()
                if heard is None or time.monotonic() >= sweep_at:
                    sweep_at = time.monotonic() + self._sweep_s
                    wanted = list(followed)
                else:
                    wanted = [job_id for job_id in followed if job_id in heard or job_id in self._new]
                self._new.clear()
            self._tell(wanted)
            if self._in_trouble:
                log.info("open streams are up to date again")
            self._in_trouble = False

    def _heard(self, channel: Any) -> set[str] | None:
        """The jobs of which there was a notice; None if some notices may have been missed."""
        ids: set[str] = set()
        wait_s = LISTEN_S
        settled_at = None
        while settled_at is None or time.monotonic() < settled_at:
            message = channel.get_message(timeout=wait_s)
            if message is None:
                break
            if message["type"] == "psubscribe":  # at first, and after the connection was lost
                return None
            if message["type"] == "pmessage":
                ids.add(message["channel"].decode().partition(":notice:")[2])
            settled_at = settled_at or time.monotonic() + SETTLE_S
            wait_s = SETTLE_S
        return ids

    def _tell(self, job_ids: list[str]) -> None:
        for start in range(0, len(job_ids), READ_MOST):
            some = job_ids[start : start + READ_MOST]
            for job_id, entry in zip(some, self._store.get(some), strict=True):
                for listener in self._listeners_of(job_id):
                    listener(entry)

    def _listeners_of(self, job_id: str) -> Iterable[Listener]:
        with self._lock:
            return tuple(self._listeners.get(job_id, ()))


def _pubsub(store: RedisStore) -> Any:
    client: Any = store.client  # pubsub() has no types
    return client.pubsub()


_hubs: WeakKeyDictionary[Bridge, tuple[int, Hub]] = WeakKeyDictionary()
_hubs_lock = threading.Lock()


def hub_of(bridge: Bridge) -> Hub:
    """This process' hub of *bridge*; made when first asked for, and again in a forked child."""
    with _hubs_lock:
        pid, hub = _hubs.get(bridge, (0, None))
        if hub is None or pid != os.getpid():
            hub = Hub(bridge.store, bridge.settings.stream_limit)
            _hubs[bridge] = (os.getpid(), hub)
        return hub
