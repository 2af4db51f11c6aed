"""An event loop whose time is the test's: it has no sockets, nothing waits, and nothing happens by itself."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs what can run at this moment, and moves on to another when told to."""

    def __init__(self) -> None:
        super().__init__()
        inside: Any = self
        inside._selector = _Nothing()  # noqa: SLF001 - what a loop of one's own has to set
        self._moment = 0.0

    def time(self) -> float:
        """Seconds since the loop was made, as it was told."""
        return self._moment

    def settle(self) -> None:
        """Run until everything waits for something; beside the loop of an async test, where that is running here."""
        if asyncio._get_running_loop() is None:  # noqa: SLF001 - asyncio exports it
            self._settle()
        else:
            with ThreadPoolExecutor(1) as beside:
                beside.submit(self._settle).result()

    def _settle(self) -> None:
        inside: Any = self
        while True:
            self.call_soon(self.stop)
            self.run_forever()
            timer = self._next_timer()
            if not inside._ready and (timer is None or timer > self._moment):  # noqa: SLF001
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

    def finish(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """
        Run until *tasks* are done, and let as much time pass as they wait for.

        Raises:
            RuntimeError: They wait for something that never comes.
        """
        self.settle()
        while not all(task.done() for task in tasks):
            timer = self._next_timer()
            if timer is None:
                raise RuntimeError("what runs on a test's loop waits for something that never comes")
            self.pass_time(timer - self._moment)

    def _next_timer(self) -> float | None:
        inside: Any = self
        return min((timer._when for timer in inside._scheduled if not timer._cancelled), default=None)  # noqa: SLF001

    # -- what a loop with sockets would have --------------------------------------------------------------------------

    def _process_events(self, event_list: object) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody has to be woken."""


class _Nothing:
    """In the place of a selector."""

    def select(self, timeout: float | None) -> list[Any]:
        """Nothing has happened."""
        return []
