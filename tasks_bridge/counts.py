"""
What a worker counts, gathered in its main process, where it is asked for.

A process of its pool adds up by itself and writes what is new, twice a second, into a pipe that all of them inherit.
So there is no file, no shared memory and no lock that a killed process could leave behind: one that dies takes half a
second of its counts with it, and nothing needs to be cleaned up, however many come and go. What is written at once is
no longer than a pipe takes as a whole (`select.PIPE_BUF`), so the lines of two processes never mix. In a pool of
threads, or none, the main process counts directly.

Counts begin at zero with the worker, as Prometheus expects of counters.

Source: POSIX, write(): "write requests of {PIPE_BUF} bytes or less shall not be interleaved".
"""

from __future__ import annotations

import json
import os
import select
import threading
import weakref
from typing import TYPE_CHECKING, Final

from tasks_bridge.series import COUNTED, Increment, Key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SEND_S: Final = 0.5
"""How often a pool's process writes what is new."""

MOST_MODELS: Final = 200
"""As labels; what comes beyond is ``other``. Callers may ask for models that don't exist, without end."""

_OF_MODELS: Final = frozenset(metric.name for metric in COUNTED if metric.labels[:1] == ("model",))
_READ_BYTES: Final = 1 << 16


class Counts:
    """The counts of one app's processes; safe to share between threads. Off, and free of cost, until `open`."""

    def __init__(self) -> None:
        self.is_on = False
        """Whether anybody is going to ask."""
        self._lock = threading.Lock()
        self._sums: dict[Key, float] = {}
        self._models: set[str] = set()
        self._pipe: tuple[int, int] | None = None
        self._partial = b""
        self._is_child = False
        self._sender: threading.Thread | None = None
        self._news = threading.Event()

    def open(self) -> None:
        """Begin to count: in a worker's main process, before its pool has processes."""
        if self.is_on:
            return
        self._pipe = os.pipe()
        for end in self._pipe:
            os.set_blocking(end, False)
        self.is_on = True
        itself = weakref.ref(self)

        def begin() -> None:
            if counts := itself():
                counts._begin_as_child()  # noqa: SLF001

        os.register_at_fork(after_in_child=begin)

    def close(self) -> None:
        """Count no more, and forget what was counted."""
        with self._lock:
            pipe, self._pipe = self._pipe, None
            self.is_on = False
            self._sums, self._partial = {}, b""
            self._models.clear()
        for end in pipe or ():
            os.close(end)

    def add(self, increments: Iterable[Increment]) -> None:
        """Count *increments*. They are many at a time, for each costs less then."""
        if not self.is_on:
            return
        with self._lock:
            self._merge(increments)
        if self._is_child:
            self._tell()

    def snapshot(self) -> Mapping[Key, float]:
        """All that was counted so far, and has come."""
        with self._lock:
            return dict(self._sums)

    def gather(self, wait_s: float) -> None:
        """Take what the pool's processes have written; waits for it for at most *wait_s*."""
        pipe = self._pipe
        if pipe is None:
            return
        poll = select.poll()
        poll.register(pipe[0], select.POLLIN)
        if not poll.poll(wait_s * 1000):
            return
        try:
            *lines, self._partial = (self._partial + os.read(pipe[0], _READ_BYTES)).split(b"\n")
        except BlockingIOError:
            return
        with self._lock:
            for line in lines:
                self._merge(((name, tuple(labels), part), by) for name, labels, part, by in json.loads(line))

    def send(self) -> None:
        """In a process of the pool: write what is new. What there is no room for stays for the next time."""
        with self._lock:
            pipe, sums = self._pipe, self._sums
            if not self._is_child or pipe is None:
                return
            for line, keys in _lines(sums):
                try:
                    os.write(pipe[1], line)
                except BlockingIOError:
                    return
                except OSError:  # the main process is gone, and this one will be
                    self.is_on = False
                    return
                for key in keys:
                    del sums[key]

    def _merge(self, increments: Iterable[Increment]) -> None:
        sums = self._sums
        for key, by in increments:
            known = sums.get(key)
            if known is not None:
                sums[key] = known + by
            else:
                named = self._named(key)
                sums[named] = sums.get(named, 0.0) + by

    def _named(self, key: Key) -> Key:
        name, labels, part = key
        if name not in _OF_MODELS or labels[0] in self._models:
            return key
        if len(self._models) < MOST_MODELS:
            self._models.add(labels[0])
            return key
        return name, ("other", *labels[1:]), part

    def _begin_as_child(self) -> None:
        """After a fork, before anything else runs: what the parent has counted is not this process' to tell."""
        if not self.is_on or self._pipe is None:
            return
        # another thread may have held the lock
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._sender = None
        self._sums = {}
        if not self._is_child:
            self._is_child = True
            os.close(self._pipe[0])

    def _tell(self) -> None:
        self._news.set()
        if self._sender is None:
            with self._lock:
                if self._sender is None:
                    self._sender = threading.Thread(target=self._send_all, name="tasks-bridge-counts", daemon=True)
                    self._sender.start()

    def _send_all(self) -> None:
        pause = threading.Event()
        while self.is_on:
            self._news.wait()
            pause.wait(SEND_S)
            self._news.clear()
            self.send()
            if self._sums:
                self._news.set()


def _lines(sums: Mapping[Key, float]) -> Iterator[tuple[bytes, list[Key]]]:
    """*sums* as lines, each short enough to be written as a whole, with the keys that are in it."""
    parts: list[str] = []
    keys: list[Key] = []
    size = 0
    for key, by in list(sums.items()):
        part = json.dumps([*key, by], separators=(",", ":"))
        if parts and size + len(part) + 3 > select.PIPE_BUF:
            yield f"[{','.join(parts)}]\n".encode(), keys
            parts, keys, size = [], [], 0
        parts.append(part)
        keys.append(key)
        size += len(part) + 1
    if parts:
        yield f"[{','.join(parts)}]\n".encode(), keys
