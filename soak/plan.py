"""What is asked for, from a seed: jobs with the course each will take, and how they hang together. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tasks_bridge.record import JobState

Json = dict[str, Any]
End = tuple[str, str | None]
"""A job's state, and how its remote task ended; None: there is no remote task."""

COMPLETED: Final[End] = ("COMPLETED", "completed")
FAILED: Final[End] = ("FAILED", "failed")
REFUSED: Final[End] = ("FAILED", None)
CANCELLED: Final[End] = ("CANCELLED", "cancelled")
EXPIRED: Final[End] = ("EXPIRED", "cancelled")
NEVER_SENT: Final[frozenset[End]] = frozenset({("CANCELLED", None), ("EXPIRED", None)})

MODELS: Final = ("seedream-v4", "sora-2")
LABELS: Final = ("anna", "ben", "chloe", None)
PRICE: Final = 0.04

PASSING: Final[tuple[Json, ...]] = (
    {"on": "submit", "kind": "lost_response"},
    {"on": "submit", "kind": "refused"},
    {"on": "submit", "kind": "status", "status": 503},
    {"on": "submit", "kind": "status", "status": 429, "code": "rate_limited", "retry_after_s": 1},
    {"on": "submit", "kind": "hang", "work_done": True, "hang_s": 3},
    {"on": "submit", "kind": "slow", "delay_s": 1.3},
    {"on": "submit", "kind": "half_close"},
    {"on": "submit", "kind": "garbage"},
    {"on": "query", "kind": "status", "status": 500, "times": 2},
    {"on": "query", "kind": "status", "status": 429, "code": "rate_limited", "retry_after_s": 1},
    {"on": "query", "kind": "garbage"},
    {"on": "query", "kind": "wrong_content_type"},
    {"on": "query", "kind": "hang", "hang_s": 3},
    {"on": "query", "kind": "half_close"},
)
"""Faults that only delay a job."""

READ_AFTER_WRITE: Final[Json] = {"on": "query", "kind": "not_found"}
"""A task not found though it is there: only for jobs that nobody gives up, whom a wrong answer would mislead."""

CANCEL_FAULTS: Final[tuple[Json, ...]] = (
    {"on": "cancel", "kind": "lost_response"},
    {"on": "cancel", "kind": "status", "status": 503},
    {"on": "cancel", "kind": "garbage"},
)


@dataclass(frozen=True, slots=True)
class Planned:
    """One job and its script."""

    id: str
    course: str
    """The name of the row that it counts in."""
    model: str
    script: Json
    ends: frozenset[End]
    """How it may end."""
    label: str | None = None
    deadline_s: float | None = None
    cancel_after_s: float | None = None
    is_once: bool = False
    """Whether its callbacks are under `once`."""
    is_errback_published: bool = False
    """Whether its errback takes the id alone, and so has a message of its own."""

    @property
    def link(self) -> str:
        """Name of its completion callback."""
        return f"{self.id}.link"

    @property
    def errback(self) -> str:
        """Name of its failure callback."""
        return f"{self.id}.errback"


@dataclass(frozen=True, slots=True)
class Flow:
    """What one call starts."""

    id: str
    kind: str
    """``single``; ``steps``: a chain of a job and two callbacks; ``sequel``: a chain of two jobs; ``chord``."""
    at_s: float
    jobs: tuple[Planned, ...]

    @property
    def steps(self) -> tuple[str, str]:
        """Names of the callbacks in the chain."""
        return f"{self.id}.framed", f"{self.id}.hung"

    @property
    def body(self) -> str:
        """Name of the chord's body."""
        return f"{self.id}.body"

    @property
    def body_errback(self) -> str:
        """Name of the body's errback."""
        return f"{self.id}.body-errback"

    def is_due(self, job: Planned, states: Mapping[str, str | None]) -> bool:
        """Whether *job* should have been started, *states* being how the others ended."""
        return self.kind != "sequel" or job is self.jobs[0] or states.get(self.jobs[0].id) == JobState.COMPLETED

    def expected(self, states: Mapping[str, str | None]) -> frozenset[str]:
        """The names of the callbacks that must run if the jobs end in *states*."""
        calls: set[str] = set()
        for job in self.jobs:
            state = states.get(job.id)
            if state is None:
                continue
            if state != JobState.COMPLETED:
                calls.add(job.errback)
            elif self.kind == "single" or (self.kind == "sequel" and job is self.jobs[-1]):
                calls.add(job.link)
            elif self.kind == "steps":
                calls.update(self.steps)
        if self.kind == "chord" and all(states.get(job.id) is not None for job in self.jobs):
            is_good = all(states[job.id] == JobState.COMPLETED for job in self.jobs)
            calls.add(self.body if is_good else self.body_errback)
        return frozenset(calls)


def plan(seed: int, jobs: int, spread_s: float) -> list[Flow]:
    """*jobs* jobs in flows, to be started over *spread_s* seconds; the same for the same arguments."""
    chance = random.Random(f"{seed}:plan")  # noqa: S311 - no secret
    flows: list[Flow] = []
    made = 0
    while made < jobs:
        left = jobs - made
        kind = chance.choices(("single", "steps", "sequel", "chord"), (80, 8, 4, 5))[0]
        size = {"single": 1, "steps": 1, "sequel": 2, "chord": 3}[kind]
        if size > left:
            kind, size = "single", 1
        flow_id = f"s{seed}-{len(flows):04}"
        members = tuple(_job(chance, f"{flow_id}-{place}", kind, place) for place in range(size))
        flows.append(Flow(flow_id, kind, chance.uniform(0, spread_s), members))
        made += size
    return sorted(flows, key=lambda flow: flow.at_s)


@dataclass(frozen=True, slots=True)
class _Course:
    weight: int
    make: Callable[[random.Random], Json]
    ends: frozenset[End]
    is_for_flows: bool = False
    rest: Json = field(default_factory=dict)


def _job(chance: random.Random, job_id: str, kind: str, place: int) -> Planned:
    courses = {name: course for name, course in _COURSES.items() if kind == "single" or course.is_for_flows}
    name = chance.choices(list(courses), [course.weight for course in courses.values()])[0]
    if kind == "sequel" and place == 0 and chance.random() < 0.8:  # noqa: PLR2004 - else few would have a second job
        name = "completed"
    course = courses[name]
    script = {"duration_s": 2.0, "estimate_s": 3, "credits": _price(chance), **course.make(chance)}
    script["estimated_credits"] = _price(chance)
    if chance.random() < 0.1:  # noqa: PLR2004 - a tenth
        script["dialect"] = "old"
    if chance.random() < 0.1:  # noqa: PLR2004 - a tenth
        script["unknown_field"] = True
    rest = dict(course.rest)
    if name.startswith("cancelled"):
        rest["cancel_after_s"] = chance.uniform(0, 5)
    if name == "expired":
        rest["deadline_s"] = round(chance.uniform(3, 7), 1)
    return Planned(
        id=job_id,
        course=name,
        model=rest.pop("model", None) or chance.choice(MODELS),
        script=script,
        ends=course.ends,
        label=chance.choice(LABELS),
        is_once=chance.random() < 0.5,  # noqa: PLR2004 - half
        is_errback_published=chance.random() < 0.5,  # noqa: PLR2004 - half
        **rest,
    )


def _price(chance: random.Random) -> float:
    return round(PRICE * chance.randint(1, 50), 2)


def _times(chance: random.Random) -> Json:
    duration_s = chance.choice((0.0, chance.uniform(0.2, 2), chance.uniform(2, 12)))
    return {
        "duration_s": round(duration_s, 2),
        "pending_s": round(duration_s * chance.random(), 2),
        "estimate_s": chance.choice((None, 1, max(1, round(duration_s)), 20)),
    }


def _faults(chance: random.Random, *more: Json) -> Json:
    return {"faults": [*more, *chance.sample(PASSING, chance.choice((1, 1, 2, 3)))]}


def _never_ends(chance: random.Random) -> Json:
    return {"outcome": "hang", "pending_s": round(chance.uniform(0, 3), 2)}


def _refusal(chance: random.Random) -> Json:
    status, code = chance.choice(
        (
            (400, "invalid_param"),
            (402, "insufficient_balance"),
            (403, "permission_denied"),
            (404, "model_not_found"),
            (451, "content_policy"),
        )
    )
    return {"faults": [{"on": "submit", "kind": "status", "status": status, "code": code, "times": None}]}


def _cancel(chance: random.Random, policy: str, **more: Any) -> Json:
    faults = chance.sample(CANCEL_FAULTS, chance.choice((0, 0, 1)))
    return {"cancel": policy, "faults": faults, **more}


_COURSES: Final[Mapping[str, _Course]] = {
    "completed": _Course(34, _times, frozenset({COMPLETED}), is_for_flows=True),
    "completed through faults": _Course(
        20, lambda chance: _times(chance) | _faults(chance), frozenset({COMPLETED}), is_for_flows=True
    ),
    "completed, not found at first": _Course(
        3, lambda chance: _times(chance) | _faults(chance, READ_AFTER_WRITE), frozenset({COMPLETED})
    ),
    "completed, unknown status": _Course(
        3, lambda chance: _times(chance) | {"unknown_status": "upscaling"}, frozenset({COMPLETED}), is_for_flows=True
    ),
    "failed": _Course(
        10,
        lambda chance: _times(chance) | {"outcome": "failed", "error_code": "content_policy"},
        frozenset({FAILED}),
        is_for_flows=True,
    ),
    "failed through faults": _Course(
        4,
        lambda chance: _times(chance) | {"outcome": "failed", "error_code": "upstream_error"} | _faults(chance),
        frozenset({FAILED}),
    ),
    "refused": _Course(6, _refusal, frozenset({REFUSED}), is_for_flows=True),
    "refused, unknown model": _Course(1, lambda _: {}, frozenset({REFUSED}), rest={"model": "no-such-model"}),
    "cancelled": _Course(
        7, lambda chance: _never_ends(chance) | _cancel(chance, "free"), frozenset({CANCELLED}) | NEVER_SENT
    ),
    "cancelled, billed": _Course(
        4,
        lambda chance: _never_ends(chance) | _cancel(chance, "billed", cancel_credits=_price(chance)),
        frozenset({CANCELLED}) | NEVER_SENT,
    ),
    "cancelled, completes instead": _Course(
        2, lambda chance: _never_ends(chance) | _cancel(chance, "completes"), frozenset({COMPLETED}) | NEVER_SENT
    ),
    "cancelled, ByteSpike refuses": _Course(
        2,
        lambda chance: {"duration_s": round(chance.uniform(4, 12), 2)} | _cancel(chance, "refused"),
        frozenset({COMPLETED}) | NEVER_SENT,
    ),
    "expired": _Course(4, _never_ends, frozenset({EXPIRED}) | NEVER_SENT),
}
