"""How things are with all jobs, workers and ByteSpike at one moment: what `tasks-bridge top` shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tasks_bridge.gate import Circuit
from tasks_bridge.journal import Activity
from tasks_bridge.record import JobState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tasks_bridge.bridge import Bridge

ACTIVITY_S: Final = 30.0

COLUMNS: Final = tuple(state.value for state in JobState if not state.is_terminal)


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker that answered."""

    name: str
    slots: int
    polls: bool
    """Whether it reads the poll queue."""


@dataclass(frozen=True, slots=True)
class Overview:
    """One moment."""

    at: float
    namespace: str
    address: str
    open: int
    """Jobs on the schedule, those that are over and whose callbacks are on their way included."""
    due: int
    next_due_s: float | None
    """Not above 0 if a job is due."""
    newer: int
    """Jobs that wait for workers of a newer version."""
    models: Mapping[str, Counter[str]]
    """How many jobs of each model are in each state, those that are over left out."""
    activity: Activity
    circuit: Circuit
    workers: Sequence[WorkerSeen] | None = field(default=None)
    """None: they have not been asked yet."""

    @property
    def states(self) -> Counter[str]:
        """Of all models together."""
        return sum(self.models.values(), Counter())

    @property
    def ending(self) -> int:
        """How many jobs are over, and their callbacks on their way."""
        return max(self.open - self.states.total(), 0)

    @property
    def overdue_s(self) -> float:
        """For how long the job that is due first has been due."""
        return 0.0 if self.next_due_s is None else max(-self.next_due_s, 0.0)

    def described(self) -> dict[str, Any]:
        """
        For programs.

        ``{"at", "namespace", "redis", "open", "due", "overdue_s", "next_due_s", "newer", "ending", "states": {…},
        "models": {model: {state: count}}, "activity": {"period_s", "looks", "changes", "troubles"}, "breaker":
        {"is_open", "opened_at", "probe_at"}, "workers": [{"name", "slots", "polls"}] | null}``.
        """
        activity, circuit = self.activity, self.circuit
        return {
            "at": round(self.at, 3),
            "namespace": self.namespace,
            "redis": self.address,
            "open": self.open,
            "due": self.due,
            "overdue_s": round(self.overdue_s, 1),
            "next_due_s": None if self.next_due_s is None else round(self.next_due_s, 1),
            "newer": self.newer,
            "ending": self.ending,
            "states": dict(self.states),
            "models": {model: dict(counted) for model, counted in self.models.items()},
            "activity": {
                "period_s": activity.period_s,
                "looks": activity.looks,
                "changes": activity.changes,
                "troubles": activity.troubles,
            },
            "breaker": {
                "is_open": circuit.opened_at is not None,
                "opened_at": circuit.opened_at,
                "probe_at": circuit.probe_at,
            },
            "workers": None
            if self.workers is None
            else [{"name": one.name, "slots": one.slots, "polls": one.polls} for one in self.workers],
        }


def overview(bridge: Bridge, workers: Sequence[WorkerSeen] | None = None) -> Overview:
    """
    Look at everything but the *workers*, which are asked by `ask_workers`.

    Raises:
        StoreError: Redis can't be reached.
    """
    store = bridge.store
    surveyed = store.survey(0.0)
    models: dict[str, Counter[str]] = {}
    for (state, model), count in surveyed.census.items():
        models.setdefault(model, Counter())[state.value] += count
    now = store.now()
    activity = Activity(ACTIVITY_S, 0, 0, 0) if bridge.journal is None else bridge.journal.activity(now, ACTIVITY_S)
    return Overview(
        at=now,
        namespace=bridge.settings.namespace,
        address=store.address,
        open=store.open_count(),
        due=store.due_count(),
        next_due_s=store.next_due_s(),
        newer=surveyed.newer,
        models=dict(sorted(models.items(), key=lambda item: (-item[1].total(), item[0]))),
        activity=activity,
        circuit=bridge.gate.circuit(),
        workers=workers,
    )


def ask_workers(bridge: Bridge, wait_s: float) -> list[WorkerSeen]:
    """
    The workers that answer within *wait_s*; it takes twice as long.

    Raises:
        Exception: Whatever the broker's client raises when the broker can't be reached.
    """
    app: Any = bridge.app
    inspect = app.control.inspect(timeout=wait_s)
    queues = inspect.active_queues() or {}
    stats = (inspect.stats() or {}) if queues else {}
    return [
        WorkerSeen(
            name,
            int((stats.get(name, {}).get("pool") or {}).get("max-concurrency") or 1),
            bridge.settings.poll_queue in {queue["name"] for queue in read},
        )
        for name, read in sorted(queues.items())
    ]
