"""The time of a test."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks_bridge.testing.loop import VirtualLoop


class FastClock:
    """
    A clock that stands still until somebody moves it: the test, or whoever waits for a job.

    It is the clock of jobs, their deadlines and countdowns, and of the remote tasks. What else asks for the time, such
    as ``time.time`` in the application's own code, gets the machine's.

    ::

        fast_clock.advance(60)          # a minute later, with all that happens in it
    """

    def __init__(self, loop: VirtualLoop, move: Callable[[float], None]) -> None:
        """Be the clock of *loop*; *move* lets time pass, and does what is due in it."""
        self._loop = loop
        self._move = move
        self._began_at = time.time() - loop.time()

    def __repr__(self) -> str:
        return f"<FastClock {self.elapsed_s:g} s after the test began>"

    def now(self) -> float:
        """Seconds since the epoch: the time at which the test began, and what it has let pass."""
        return self._began_at + self._loop.time()

    @property
    def elapsed_s(self) -> float:
        """How much time has passed in the test."""
        return self._loop.time()

    def advance(self, seconds: float) -> None:
        """
        Let *seconds* pass. What is due in them happens, each at its moment, as if a worker were up.

        Raises:
            ValueError: Time does not go backwards.
            Exception: Whatever one of the application's tasks raised.
        """
        if seconds < 0:
            raise ValueError(f"time does not go backwards: advance({seconds!r})")
        self._move(seconds)
