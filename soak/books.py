"""Whether every promise was kept. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from soak.evidence import Delivery
from soak.plan import Flow, Planned
from tasks_bridge.record import JobState

UNITS = 1_000_000
"""In one credit; sums are compared in whole ones."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of one job in the end."""

    state: str | None
    """In the store; None: it isn't there."""
    error: str | None
    """The name of the error it ended with, where that is not ByteSpike's to say."""
    celery_state: str | None
    """In the result backend."""
    remote: Sequence[Mapping[str, Any]]
    """The tasks that ByteSpike has under its id, as the sandbox reports them."""
    charged: float
    """What ByteSpike takes for them."""
    notices: Collection[tuple[str, int]] = ()
    """The final states that were announced, each with the token of who wrote it."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was found."""

    jobs: Mapping[str, Found]
    deliveries: Mapping[str, Sequence[Delivery]]
    """Of each callback, by its name."""
    published: Mapping[str, Sequence[float]]
    """When each callback was published, by its name."""
    remote_tasks: int
    """How many tasks ByteSpike has in all."""
    used: Mapping[str | None, float]
    """The spend guard's books: what was used under each label; None: by all."""
    reserved: float
    """What is still reserved."""
    harm: Sequence[float] = ()
    """When a worker or the broker was hurt."""
    has_spend_limit: bool = False
    """Whether jobs may be refused for what they cost."""


@dataclass(slots=True)
class Verdict:
    """What is wrong, and what is worth counting."""

    problems: dict[str, list[str]] = field(default_factory=dict)
    """By the id of the job or flow; under ``""`` what concerns all."""
    ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Jobs by course and state."""
    refused_for_cost: int = 0
    """Jobs that a limit on spending kept from being submitted, or cancelled when their price was known."""
    callbacks: int = 0
    """That had to run."""
    doubles: int = 0
    """Messages that came again."""
    suppressed: int = 0
    """Of these, how many `once` kept from running."""
    cut_off: int = 0
    """Bodies under `once` that ran again because they, or the note of their end, were cut off."""
    dropped: list[str] = field(default_factory=list)
    """Callbacks that were published and that the broker lost when it or a worker was hurt; see `HARM_S`."""
    recoveries_s: list[float] = field(default_factory=list)
    """From each remote end to the job's first callback."""

    @property
    def is_good(self) -> bool:
        """Whether the books balance."""
        return not self.problems

    def add(self, subject: str, problem: str) -> None:
        """Note a problem."""
        self.problems.setdefault(subject, []).append(problem)


HARM_S = 5.0
"""
A callback's message counts as lost by the broker only if a worker or the broker was hurt so soon after its publication.

kombu takes a message off its list in Redis before it notes that it has it: who dies in between takes the message along.
"""


def check(flows: Sequence[Flow], evidence: Evidence, once: Collection[str]) -> Verdict:
    """
    Compare what was found with what was planned.

    Args:
        once: The names of the callbacks whose tasks are under `once`.
    """
    verdict = Verdict()
    expected_calls: set[str] = set()
    for flow in flows:
        states = {job.id: evidence.jobs[job.id].state for job in flow.jobs}
        for job in flow.jobs:
            if flow.is_due(job, states):
                _check_job(job, evidence, verdict)
            elif evidence.jobs[job.id].state is not None or evidence.jobs[job.id].remote:
                verdict.add(job.id, "was started though the job before it has not completed")
        calls = flow.expected(states)
        expected_calls |= calls
        for call in sorted(calls):
            _check_call(call, evidence, verdict, is_once=call in once)
    for call in sorted(set(evidence.deliveries) - expected_calls):
        verdict.add(call.rpartition(".")[0], f"callback {call} ran though it should not")
    _check_money(flows, evidence, verdict)
    known = sum(len(found.remote) for found in evidence.jobs.values())
    strangers = evidence.remote_tasks - known
    if strangers:
        verdict.add("", f"ByteSpike has {evidence.remote_tasks} tasks, {strangers} of them for no job")
    return verdict


def _check_job(job: Planned, evidence: Evidence, verdict: Verdict) -> None:
    found = evidence.jobs[job.id]
    state = found.state
    verdict.ends[job.course, state or "lost"] += 1
    if state is None:
        verdict.add(job.id, "is lost: the store does not know it")
        return
    if not JobState(state).is_terminal:
        verdict.add(job.id, f"has not ended: it is {state}")
        return
    outcomes = [str(task["status"]) for task in found.remote]
    if len(outcomes) > 1:
        verdict.add(job.id, f"has {len(outcomes)} tasks at ByteSpike")
    end = (state, outcomes[0] if outcomes else None)
    is_refused_for_cost = (
        evidence.has_spend_limit and found.error == "SpendLimitReached" and end[1] in (None, "cancelled", "completed")
    )
    verdict.refused_for_cost += is_refused_for_cost
    if end not in job.ends and not is_refused_for_cost:
        wanted = " or ".join(sorted(f"{state} ({remote or 'no task'})" for state, remote in job.ends))
        verdict.add(job.id, f"is {end[0]} ({end[1] or 'no task'}) instead of {wanted}")
    if found.celery_state != JobState(state).celery_state:
        verdict.add(job.id, f"is {state}, but Celery's result says {found.celery_state}")
    if len(set(found.notices)) > 1:
        verdict.add(job.id, f"ended more than once: {sorted(set(found.notices))}")


def _check_call(call: str, evidence: Evidence, verdict: Verdict, *, is_once: bool) -> None:
    subject = call.rpartition(".")[0]
    came = sorted(evidence.deliveries.get(call, ()), key=lambda delivery: delivery.came_at)
    ran = [delivery for delivery in came if delivery.ran_at is not None]
    verdict.callbacks += 1
    if not ran:
        published = evidence.published.get(call, ())
        times = [*published, *(delivery.came_at for delivery in came)]
        if published and any(0 <= harm - at <= HARM_S or 0 <= at - harm <= 1 for at in times for harm in evidence.harm):
            verdict.dropped.append(call)
        else:
            how = f"{len(published)} times" if published else "never"
            verdict.add(subject, f"callback {call} never ran; it was published {how}, and came {len(came)} times")
        return
    verdict.doubles += len(came) - 1
    remote = evidence.jobs[subject].remote if subject in evidence.jobs else ()
    if remote and remote[0].get("ended_s"):
        verdict.recoveries_s.append(max(ran[0].came_at - float(remote[0]["ended_s"]), 0.0))
    if not is_once:
        return
    verdict.suppressed += sum(delivery.ran_at is None and delivery.done_at is not None for delivery in came)
    verdict.cut_off += len(ran) - 1
    first_done_at = min((delivery.done_at for delivery in ran if delivery.done_at is not None), default=None)
    if first_done_at is not None and any((delivery.ran_at or 0.0) > first_done_at for delivery in ran):
        verdict.add(subject, f"callback {call} is under `once` and ran again after it had run to its end")


def _check_money(flows: Sequence[Flow], evidence: Evidence, verdict: Verdict) -> None:
    charged: Counter[str | None] = Counter()
    for flow in flows:
        for job in flow.jobs:
            units = round(evidence.jobs[job.id].charged * UNITS)
            charged[None] += units
            if job.label:
                charged[job.label] += units
    for label in sorted({*charged, *evidence.used}, key=str):
        whose = f"label {label}" if label else "all jobs"
        booked = round(evidence.used.get(label, 0.0) * UNITS)
        if booked != charged[label]:
            is_charged = charged[label] / UNITS
            verdict.add("", f"{booked / UNITS} credits are booked for {whose}, and ByteSpike charges {is_charged}")
    if round(evidence.reserved * UNITS):
        verdict.add("", f"{evidence.reserved} credits are still reserved though every job is over")
