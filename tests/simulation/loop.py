"""An event loop whose time is the test's: nothing waits, and nothing happens by itself."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Sequence
from typing import Any


class _NeverWaits(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> Sequence[Any]:  # type: ignore[override]
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs what can run at this moment, and moves on to another when told to."""

    def __init__(self) -> None:
        super().__init__(_NeverWaits())
        self._moment = 0.0

    def time(self) -> float:
        """Seconds since the loop was made, as `pass_time` has it."""
        return self._moment

    def settle(self) -> None:
        """Run until everything waits for something."""
        inside: Any = self
        while True:
            self.call_soon(self.stop)
            self.run_forever()
            timer = self._next_timer()
            if not inside._ready and (timer is None or timer > self._moment):
                return

    def pass_time(self, seconds: float) -> None:
        """Let *seconds* pass, with everything that is due in them, each at its moment."""
        until = self._moment + seconds
        self.settle()
        while (timer := self._next_timer()) is not None and timer <= until:
            self._moment = max(timer, self._moment)
            self.settle()
        self._moment = until
        self.settle()

    def _next_timer(self) -> float | None:
        inside: Any = self
        return min((timer._when for timer in inside._scheduled if not timer._cancelled), default=None)
