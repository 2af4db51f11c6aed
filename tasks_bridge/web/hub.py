"""
What open streams are fed from: one thread and one connection to Redis in each process, however many look on.

A notice on a job's channel is a hint: the hub reads the job anew, all that changed at the same time in one round trip,
and gives the entry to everybody who follows it. Every few seconds it reads all followed jobs in any case. So a notice
that was lost, with the connection or while it was being made, costs seconds and nothing else.
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
"""How soon a newcomer's job is subscribed to, and how long the thread outlives the last stream."""

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
        self._thread: threading.Thread | None = None
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
                with closing(_pubsub(self._store)) as channels:
                    self._listen(channels)
            except (redis.RedisError, StoreError, OSError) as error:
                if not self._in_trouble:
                    log.warning("open streams are late until this is over: %s", error)
                self._in_trouble = True
                time.sleep(TROUBLE_WAIT_S)
            except Exception:
                log.exception("a bug in the hub; it goes on")
                time.sleep(TROUBLE_WAIT_S)

    def _goes_on(self) -> bool:
        with self._lock:
            if self._count:
                return True
            self._thread = None  # whoever comes next starts another
            return False

    def _listen(self, channels: Any) -> None:
        """Read what changes, until nobody follows any more."""
        subscribed: set[str] = set()
        sweep_at = 0.0
        while followed := self._followed():
            # before listening, so that who may read and not subscribe is told something too
            if time.monotonic() >= sweep_at:
                sweep_at = time.monotonic() + self._sweep_s
                self._tell(followed)
            self._subscribe(channels, followed - subscribed)
            self._unsubscribe(channels, subscribed - followed)
            subscribed = followed
            self._tell(self._heard(channels))
            if self._in_trouble:
                log.info("open streams are up to date again")
            self._in_trouble = False

    def _subscribe(self, channels: Any, job_ids: set[str]) -> None:
        if job_ids:
            channels.subscribe(*map(self._store.channel, job_ids))

    def _unsubscribe(self, channels: Any, job_ids: set[str]) -> None:
        if job_ids:
            channels.unsubscribe(*map(self._store.channel, job_ids))

    def _heard(self, channels: Any) -> set[str]:
        """
        The jobs that may have changed: there was a notice, or their subscription has begun.

        It begins with each newcomer, and anew after the connection was lost: what happened before was not heard.
        """
        job_ids: set[str] = set()
        wait_s = LISTEN_S
        settled_at = None
        while settled_at is None or time.monotonic() < settled_at:
            message = channels.get_message(timeout=wait_s)
            if message is None:
                break
            if message["type"] in ("message", "subscribe"):
                job_ids.add(message["channel"].decode().partition(":notice:")[2])
            settled_at = settled_at or time.monotonic() + SETTLE_S
            wait_s = SETTLE_S
        return job_ids

    def _followed(self) -> set[str]:
        with self._lock:
            return set(self._listeners)

    def _tell(self, job_ids: set[str]) -> None:
        wanted = sorted(job_ids)
        for start in range(0, len(wanted), READ_MOST):
            some = wanted[start : start + READ_MOST]
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
