"""
Which fault, if any, the next request meets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tasks_bridge.sandbox.script import Fault


@dataclass(slots=True)
class _Armed:
    fault: Fault
    since_s: float
    seen: int = 0
    used: int = 0

    def is_over(self, now_s: float) -> bool:
        fault = self.fault
        return (fault.times is not None and self.used >= fault.times) or (
            fault.for_s is not None and now_s >= self.since_s + fault.for_s
        )


class FaultBook:
    """
    The faults of one task, or of the whole server, and how often each has struck.
    """

    def __init__(self, faults: Iterable[Fault] = (), now_s: float = 0.0) -> None:
        self._armed = [_Armed(fault, now_s) for fault in faults]

    def __bool__(self) -> bool:
        return bool(self._armed)

    def add(self, fault: Fault, now_s: float) -> None:
        """
        Arm one more fault, behind those already there.
        """
        self._armed.append(_Armed(fault, now_s))

    def clear(self) -> None:
        """
        Disarm all.
        """
        self._armed.clear()

    def take(self, place: str, now_s: float) -> Fault | None:
        """
        Count one request and return the first fault it meets.

        Every fault for that place counts the request, also when an earlier one spoils it: ``after`` counts
        requests, whatever became of them.
        """
        self._armed = [armed for armed in self._armed if not armed.is_over(now_s)]
        struck: _Armed | None = None
        for armed in self._armed:
            if armed.fault.on not in (place, "any"):
                continue
            armed.seen += 1
            if struck is None and armed.seen > armed.fault.after:
                struck = armed
        if struck is None:
            return None
        struck.used += 1
        return struck.fault
