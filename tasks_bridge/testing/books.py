"""The books of the spend limits in memory: the twin of those in Redis, for a test without one."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

from tasks_bridge.budget import Budget
from tasks_bridge.record import JobState

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks_bridge.settings import Settings
    from tasks_bridge.store.memory import MemoryStore

_OK: Final = [b"ok"]

Period = tuple[float, int]
"""Its length in seconds, and its number."""


@dataclass(slots=True)
class Entry:
    """What one job has booked, in millionths of a credit."""

    period: Period
    label: str
    model: str
    reserved: int
    used: int | None = None

    @property
    def booked(self) -> int:
        """What it takes from a limit."""
        return self.reserved if self.used is None else self.used


@dataclass
class Ledger:
    """The books themselves, which several budgets may share."""

    entries: dict[str, Entry] = field(default_factory=dict)
    """By job id."""
    seen: defaultdict[tuple[Period, str], int] = field(default_factory=lambda: defaultdict(int))
    """The most that one job of a model was seen to cost in a period."""
    lock: RLock = field(default_factory=RLock)


class MemoryBudget(Budget):
    """`Budget` with the operations of ``budget.lua`` in Python: the same replies, one at a time."""

    def __init__(
        self, store: MemoryStore, settings: Settings, *, clock: Callable[[], float], ledger: Ledger | None = None
    ) -> None:
        self._jobs = store
        self._settings = settings
        self._time = clock
        self._ledger = Ledger() if ledger is None else ledger
        self.is_on = settings.has_spend_limit  # type: ignore[misc]  # it is final there as well

    def under(self, settings: Settings) -> MemoryBudget:
        """The same books under other limits."""
        return MemoryBudget(self._jobs, settings, clock=self._time, ledger=self._ledger)

    def _run(self, operation: str, subject: str, *arguments: Any) -> Any:
        operations: dict[str, Callable[..., Any]] = {
            "reserve": self._do_reserve,
            "adjust": self._do_adjust,
            "settle": self._do_settle,
            "read": self._do_read,
            "list": self._do_list,
        }
        with self._ledger.lock:
            return operations[operation](subject, *arguments)

    def _do_reserve(self, job_id: str, label: str, model: str, most: str, unknown: str, *limits: str) -> Any:
        if job_id in self._ledger.entries:
            return _OK
        (found,) = self._jobs.get([job_id])
        if found is None or found.state is not JobState.QUEUED:
            return [b"stale"]
        of_all, of_label, of_job = map(_amount, limits)
        period, wanted = self._period(), _amount(most)
        if wanted is None:
            seen = (self._ledger.seen[period, model], self._ledger.seen[_before(period), model])
            guess = max(seen) or _amount(unknown) or 0
            wanted = min(guess, *(limit for limit in (guess, of_all, of_label) if limit is not None))
        wanted = wanted if of_job is None else min(wanted, of_job)
        refusal = self._broken(period, label, wanted, wanted, (of_all, of_label))
        if refusal is None:
            self._ledger.entries[job_id] = Entry(period, label, model, wanted)
        return refusal or _OK

    def _do_adjust(self, job_id: str, estimate: str, of_all: str, of_label: str, force: int) -> Any:
        entry = self._ledger.entries.get(job_id)
        if entry is None or entry.used is not None:
            return _OK
        amount = int(estimate)
        more = amount - entry.reserved
        if more > 0 and not force:
            limits = (_amount(of_all), _amount(of_label))
            refusal = self._broken(entry.period, entry.label, more, amount, limits, but=entry.reserved)
            if refusal is not None:
                return refusal
        entry.reserved = amount
        if not force:
            self._learn(entry.model, amount)
        return _OK

    def _do_settle(self, job_id: str, used: str) -> Any:
        entry, cost = self._ledger.entries.get(job_id), _amount(used)
        if entry is None:
            return _OK
        if cost is None or (entry.used is not None and cost < entry.used):
            cost = entry.booked
        entry.used = cost
        if cost > 0:
            self._learn(entry.model, cost)
        return _OK

    def _do_read(self, label: str, periods_ago: int) -> Any:
        return self._rows(self._period(periods_ago), [label])

    def _do_list(self, _: str, periods_ago: int) -> Any:
        period = self._period(periods_ago)
        labels = {entry.label for entry in self._ledger.entries.values() if entry.period == period and entry.label}
        return self._rows(period, ["", *labels])

    def _rows(self, period: Period, labels: list[str]) -> Any:
        reply: list[Any] = [f"{period[0] * period[1]:.6f}".encode()]
        for label in labels:
            entries = self._of(period, label)
            used = sum(entry.used for entry in entries if entry.used is not None)
            reply += (label.encode(), used, sum(entry.reserved for entry in entries if entry.used is None))
        return reply

    def _broken(
        self, period: Period, label: str, more: int, wanted: int, limits: tuple[int | None, int | None], *, but: int = 0
    ) -> Any:
        """The limit that *more* would break, in the script's words; None if none."""
        scopes = [("", "all"), (label, f"label:{label}")]
        for (scope, name), limit in zip(scopes if label else scopes[:1], limits, strict=False):
            booked = sum(entry.booked for entry in self._of(period, scope))
            if limit is not None and (booked + more > limit or (more == 0 and booked >= limit)):
                return [name.encode(), *(str(amount).encode() for amount in (limit, wanted, booked - but))]
        return None

    def _of(self, period: Period, label: str) -> list[Entry]:
        entries = self._ledger.entries.values()
        return [entry for entry in entries if entry.period == period and label in ("", entry.label)]

    def _learn(self, model: str, amount: int) -> None:
        seen, key = self._ledger.seen, (self._period(), model)
        seen[key] = max(seen[key], amount)

    def _period(self, periods_ago: int = 0) -> Period:
        length_s = self._settings.spend_period_s
        return length_s, int(self._time() // length_s) - periods_ago


def _before(period: Period) -> Period:
    return period[0], period[1] - 1


def _amount(text: str) -> int | None:
    return int(text) if text else None
