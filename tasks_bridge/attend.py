"""
Attend to leased jobs: ask ByteSpike, decide, write back, tell everybody.

Order of the writes for one job, and what a crash after each leaves behind:

1. the store, fenced: the lease brings the job back, and the same question is asked again;
2. the result backend: its entry is one read behind until the next poll, which writes it in any case;
3. a finished job's `generate` message: the store has the job as claimed, so the message is published again;
4. monitors and hooks: Flower misses a change, a row is late until the next one;
5. what was learned, and the journal: it lacks some lines.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from tasks_bridge import events, facts, logs, measures, steps
from tasks_bridge.ask import ask
from tasks_bridge.compensate import compensate
from tasks_bridge.durations import End
from tasks_bridge.errors import BridgeError, SpendLimitReached, StoreError
from tasks_bridge.hooks import tell_changed
from tasks_bridge.journal import Line
from tasks_bridge.knowledge import Mode
from tasks_bridge.models import RemoteTask
from tasks_bridge.publish import publish_generate
from tasks_bridge.record import JobState
from tasks_bridge.steps import Action, Step, View
from tasks_bridge.store.base import Write

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tasks_bridge.bridge import Bridge
    from tasks_bridge.store import Lease

log = logging.getLogger("tasks_bridge.jobs")

SUBMIT_WAIT_S: Final = 1.0
"""About how long a job waits for a place when the cap on submits is reached."""

SETTLE_S: Final = 0.01
"""How long the first answers wait for others to share their write."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A leased job, what was done and what to write."""

    lease: Lease
    action: Action
    step: Step
    answer: RemoteTask | BridgeError | None = None
    """What ByteSpike said; None if it was not asked."""
    decided_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    """On the event loop's clock."""

    def delay_s(self, now: float) -> float:
        """What is left of the countdown at *now* on that clock: it runs from the decision, not from its write."""
        return max(self.step.delay_s - (now - self.decided_at), 0.0)

    @property
    def may_have_made_a_task(self) -> bool:
        """Whether there may be a task, made or found by this, that the job did not have before."""
        if self.lease.record.remote_id is not None:
            return False
        is_open = self.action is Action.SUBMIT and self.answer is not None and steps.is_outage(self.answer)
        return is_open or self.step.record.remote_id is not None


async def attend(bridge: Bridge, leases: Sequence[Lease]) -> None:
    """Bring every one of *leases* one step further. Never raises: what can't be done now is due again later."""
    if not leases:
        return
    begun = asyncio.get_running_loop().time()
    await _recall(bridge, leases)
    plans = [_plan(bridge, lease, begun) for lease in leases]
    try:
        await _hold_back(bridge, plans)
    except StoreError as error:
        log.error("%d jobs are left to their leases: %s", len(plans), error)  # noqa: TRY400 - expected, no bug
        return
    working = {asyncio.create_task(_work(bridge, plan)): plan.lease for plan in plans}
    keeper = asyncio.create_task(_keep(bridge, working))
    unwritten: list[Outcome] = []
    try:
        while working:
            await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
            done, _ = await asyncio.wait(working, timeout=SETTLE_S)
            outcomes = []
            for task in done:
                lease = working.pop(task)
                bug = task.exception()
                if isinstance(bug, StoreError):
                    log.error("job %s: left to its lease: %s", lease.job_id, bug)
                elif bug:
                    log.error("job %s: left to its lease by a bug", lease.job_id, exc_info=bug)
                else:
                    outcomes.append(task.result())
            unwritten += await _settle(bridge, outcomes)
    finally:
        keeper.cancel()
    for outcome in unwritten:
        if outcome.may_have_made_a_task:
            await compensate(bridge, outcome.lease, outcome.step.record)


@dataclass(slots=True)
class Plan:
    """A leased job and what to do with it."""

    lease: Lease
    view: View
    action: Action
    begun: float
    """On the event loop's clock."""
    wait_s: float | None = None
    """Set where the action is held back for so long."""
    step: Step | None = None
    """Set where it is decided already."""

    @property
    def age_s(self) -> float:
        """Since the lease began, on this process' own clock."""
        return asyncio.get_running_loop().time() - self.begun

    def view_now(self) -> View:
        """The job at this moment of the work on it."""
        return self.view.answered_at(self.lease.now + self.age_s)


async def _recall(bridge: Bridge, leases: Sequence[Lease]) -> None:
    """Have at hand what was learned of the jobs' models; without it, they go by the published rule."""
    if bridge.learning is None:
        return
    now = max(lease.now for lease in leases)
    if stale := bridge.learning.stale([lease.record.model for lease in leases], now):
        try:
            await bridge.reactor.blocking(bridge.learning.refresh, stale, now)
        except StoreError as error:
            log.debug("countdowns go by what was known before: %s", error)


def _plan(bridge: Bridge, lease: Lease, begun: float) -> Plan:
    view = View(
        job_id=lease.job_id,
        state=lease.state,
        record=lease.record,
        cancel=lease.cancel,
        # the holder before may have sent it and died, unless it wrote back that it had not
        may_be_submitted=lease.state is not JobState.QUEUED or lease.token - 1 > lease.record.unsent,
        now=lease.now,
        settings=bridge.settings,
        random=random.random(),  # noqa: S311 - spreads requests, keeps no secret
        known=bridge.learning.of(lease.record.model) if bridge.learning else None,
    )
    return Plan(lease, view, steps.next_action(view), begun)


async def _hold_back(bridge: Bridge, plans: Sequence[Plan]) -> None:
    """Mark those of *plans* that must wait: for the budget, for the API to come back, or for a place to submit."""
    if bridge.budget.is_on:
        # first, because what the budget holds back must not use up the probe of an API that is down
        await _reserve(bridge, [plan for plan in plans if plan.action is Action.SUBMIT])
    requests = [plan for plan in plans if plan.action in steps.REQUESTS and plan.step is None]
    if not requests:
        return
    admission = await bridge.reactor.blocking(bridge.gate.admit, len(requests))
    for plan in requests[admission.admitted :]:
        # spread over the time until the probe after the next
        plan.wait_s = admission.wait_s * (1 + plan.view.random)
    if not bridge.gate.is_capped:
        return
    for plan in requests[: admission.admitted]:
        if plan.action is Action.SUBMIT and not await bridge.reactor.blocking(
            bridge.gate.take_submit, plan.lease.job_id
        ):
            plan.wait_s = SUBMIT_WAIT_S * (0.5 + plan.view.random)


async def _reserve(bridge: Bridge, plans: Sequence[Plan]) -> None:
    """Book what the jobs of *plans* may cost; decide about those that may not."""
    for plan in plans:
        view = plan.view
        answer = await bridge.reactor.blocking(bridge.budget.reserve, view.job_id, view.record)
        if isinstance(answer, SpendLimitReached):
            plan.step = steps.over_limit(view, answer)
        elif answer:
            plan.view = replace(view, record=view.record.but(is_booked=True))
        else:
            plan.step = steps.held_back(view, plan.action, 0)


async def _keep(bridge: Bridge, working: dict[asyncio.Task[Outcome], Lease]) -> None:
    """Renew the leases of what is still being worked on."""
    while True:
        await asyncio.sleep(bridge.settings.lease_s / 3)
        try:
            await bridge.reactor.blocking(bridge.store.renew, list(working.values()), bridge.settings.lease_s)
        except StoreError as error:
            log.warning("%d leases could not be renewed: %s", len(working), error)


async def _work(bridge: Bridge, plan: Plan) -> Outcome:
    outcome = await _act(bridge, plan)
    return replace(outcome, step=steps.timed(plan.lease.state, outcome.step, plan.view_now().now))


async def _act(bridge: Bridge, plan: Plan) -> Outcome:
    lease, view, action = plan.lease, plan.view, plan.action
    if action is Action.DROP:
        return Outcome(lease, action, steps.dropped(view))
    if action is Action.FINISH:
        return Outcome(lease, action, Step(lease.state, lease.record, 0, "finished"))
    if plan.step is not None:
        return _known_unsent(view, Outcome(lease, action, plan.step))
    if plan.wait_s is not None:
        return _known_unsent(view, Outcome(lease, action, steps.held_back(view, action, plan.wait_s)))
    answer = await (_submit(bridge, plan) if action is Action.SUBMIT else ask(bridge, lease, action))
    step = await _affordable(bridge, plan, _decide(plan.view_now(), action, answer))
    return _known_unsent(view, Outcome(lease, action, step, answer))


async def _submit(bridge: Bridge, plan: Plan) -> RemoteTask | BridgeError:
    """
    Submit, unless the lease has run out meanwhile: then the job may have ended, and nobody would wait for its task.

    Raises:
        StoreError: It has.
    """
    try:
        if plan.age_s >= bridge.settings.lease_s:
            raise StoreError("its lease ran out before it could be submitted")
        return await ask(bridge, plan.lease, Action.SUBMIT)
    finally:
        if bridge.gate.is_capped:
            with suppress(StoreError):  # then the place is free after the submit's timeout
                await bridge.reactor.blocking(bridge.gate.free_submit, plan.lease.job_id)


async def _affordable(bridge: Bridge, plan: Plan, step: Step) -> Step:
    """*step*, if the job's price is within the limits; else what came of cancelling it at once, while that is free."""
    view, record, budget = plan.view, step.record, bridge.budget
    if step.state.is_terminal or plan.action is Action.CANCEL:
        return step
    estimate = steps.new_estimate(view.record, record)
    # a lost submit's reservation may not be in the record
    is_booked = budget.is_on and (record.is_booked or plan.action is Action.LOOKUP)
    if record.error is None and is_booked and estimate is not None:
        error = await bridge.reactor.blocking(budget.adjust, view.job_id, record, estimate)
        step = step if error is None else steps.too_dear(step, error)
    if step.record.error is None:
        return step
    log.warning("job %s %s: %s", view.job_id, record.remote_id or "-", step.reason)
    answer = await ask(bridge, replace(plan.lease, record=step.record), Action.CANCEL)
    accepted = replace(plan.view_now(), state=step.state, record=step.record, may_be_submitted=True)
    step = steps.after_cancel(accepted, answer)
    if is_booked and estimate is not None and not step.state.is_terminal:
        # it goes on, so that is what it may cost
        await bridge.reactor.blocking(partial(budget.adjust, force=True), view.job_id, record, estimate)
    return step


def _known_unsent(view: View, outcome: Outcome) -> Outcome:
    """Note in a job that is still to be submitted that no request of it can have got through, if that is so."""
    step, lease = outcome.step, outcome.lease
    is_ambiguous = view.may_be_submitted or step.record.attempts > lease.record.attempts
    if step.state is not JobState.QUEUED or is_ambiguous:
        return outcome
    return replace(outcome, step=replace(step, record=step.record.but(unsent=lease.token)))


def _decide(view: View, action: Action, answer: RemoteTask | BridgeError) -> Step:
    match action:
        case Action.SUBMIT:
            return steps.after_submit(view, answer)
        case Action.LOOKUP:
            return steps.after_lookup(view, answer)
        case Action.CANCEL:
            return steps.after_cancel(view, answer)
        case _:
            return steps.after_query(view, answer)


async def _settle(bridge: Bridge, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Write *outcomes* back; returns those that the store refused, their leases being lost, or may not have."""
    try:
        now = asyncio.get_running_loop().time()
        unwritten = await bridge.reactor.blocking(_write_back, bridge, outcomes, now)
        await _report_health(bridge, outcomes)
    except StoreError as error:
        log.error("%d jobs are left to their leases: %s", len(outcomes), error)  # noqa: TRY400 - expected, no bug
        return list(outcomes)
    except Exception:
        log.exception("a bug left %d jobs to their leases", len(outcomes))
        return list(outcomes)
    for outcome in unwritten:
        log.info("job %s: lease lost, answer ignored", outcome.lease.job_id)
    return unwritten


async def _report_health(bridge: Bridge, outcomes: Sequence[Outcome]) -> None:
    asked = [(outcome.lease.now, steps.is_outage(outcome.answer)) for outcome in outcomes if outcome.answer is not None]
    good = [at for at, is_outage in asked if not is_outage]
    bad = len(asked) - len(good)
    if bad or bridge.gate.expects_news:
        report = partial(bridge.gate.report, good=len(good), bad=bad, asked_at=max(good, default=None))
        await bridge.reactor.blocking(report)


def _write_back(bridge: Bridge, outcomes: Sequence[Outcome], now: float) -> list[Outcome]:
    """Write *outcomes* at *now* and tell everybody of those that held; returns those whose lease was lost."""
    held = bridge.store.write_many([_as_write(bridge, outcome, now) for outcome in outcomes])
    kept = [outcome for outcome, is_held in zip(outcomes, held, strict=True) if is_held]
    for outcome in kept:
        logs.transition(outcome.lease, outcome.step)
    _report(bridge, [outcome for outcome in kept if not outcome.step.state.is_terminal])
    for outcome in kept:
        if outcome.step.state.is_terminal:
            _publish_finish(bridge, outcome)
    open_ones = [outcome for outcome in kept if not outcome.step.state.is_terminal]
    events.send(bridge.app, [_as_change(outcome) for outcome in open_ones if _is_news(outcome)], node=bridge.node)
    moved = [outcome for outcome in open_ones if outcome.step.state is not outcome.lease.state]
    tell_changed(bridge.hooks, [_as_change(outcome) for outcome in moved])
    # last: a job's callbacks matter more than the next one's countdowns
    _learn(bridge, [outcome for outcome in kept if outcome.step.state.is_terminal])
    _count(bridge, outcomes, held)
    _note(bridge, kept)
    return [outcome for outcome, is_held in zip(outcomes, held, strict=True) if not is_held]


def _learn(bridge: Bridge, outcomes: Iterable[Outcome]) -> None:
    """Note what the ends of jobs tell of their models' pace. What is lost here is one observation."""
    learning = bridge.learning
    if learning is None:
        return
    ends: dict[str, list[End]] = {}
    for outcome in outcomes:
        lease, model = outcome.lease, outcome.lease.record.model
        known = learning.of(model)
        end = steps.end_of(
            lease.record,
            outcome.step,
            now=lease.now,
            heard_at=lease.heard_at,
            is_learned=known is not None and known.mode is Mode.LEARNED,
        )
        if end is not None:
            ends.setdefault(model, []).append(end)
    try:
        learning.note(ends)
    except StoreError as error:
        log.debug("nothing was learned of %d ends: %s", len(ends), error)


def _count(bridge: Bridge, outcomes: Sequence[Outcome], held: Sequence[bool]) -> None:
    try:
        bridge.counts.add(measures.of_outcomes(outcomes, held))
    except Exception:
        log.exception("a bug: %d jobs are not counted; they go on", len(outcomes))


def _note(bridge: Bridge, outcomes: Sequence[Outcome]) -> None:
    """Write into the journal what was done. What is lost here is some lines of it."""
    if bridge.journal is None or not outcomes:
        return
    try:
        bridge.journal.note([_as_line(outcome) for outcome in outcomes])
    except StoreError as error:
        log.debug("%d lines are missing in the journal: %s", len(outcomes), error)
    except Exception:
        log.exception("a bug: the journal lacks %d lines; the jobs go on", len(outcomes))


def _as_line(outcome: Outcome) -> Line:
    lease, step = outcome.lease, outcome.step
    is_look = step.state is lease.state and not isinstance(outcome.answer, BridgeError) and not step.is_trouble
    return Line(lease.job_id, lease.token, lease.state, step.state, step.reason, step.delay_s, is_look=is_look)


def _as_write(bridge: Bridge, outcome: Outcome, now: float) -> Write:
    lease, step = outcome.lease, outcome.step
    is_over = step.state.is_terminal
    notice = None
    if _is_change(outcome):
        notice = facts.notice(lease.job_id, step.state, step.record, token=lease.token, now=lease.now)
    return Write(
        lease,
        step.state,
        step.record,
        # a finished job's message is about to be published: should it be lost, the lease brings it back
        delay_s=bridge.settings.lease_s if is_over else outcome.delay_s(now),
        published=is_over,
        notice=notice,
    )


def _as_change(outcome: Outcome) -> events.Change:
    return events.Change(outcome.lease.job_id, outcome.step.state, outcome.step.record)


def _publish_finish(bridge: Bridge, outcome: Outcome) -> None:
    try:
        publish_generate(bridge.app, outcome.lease.job_id, outcome.step.record)
    except Exception as error:  # noqa: BLE001 - one job's trouble is not its neighbours'
        log.warning("job %s is over; its callbacks wait for the lease: %r", outcome.lease.job_id, error)


def _report(bridge: Bridge, outcomes: Iterable[Outcome]) -> None:
    try:
        bridge.results.write(
            [
                facts.report(
                    outcome.lease.job_id,
                    outcome.step.state,
                    outcome.step.record,
                    token=outcome.lease.token,
                    now=outcome.lease.now,
                    next_poll_s=outcome.step.delay_s,
                )
                for outcome in outcomes
                if not outcome.step.record.options.get("ignore_result")
            ]
        )
    except StoreError as error:
        log.warning("the result backend is one poll behind: %s", error)


def _is_news(outcome: Outcome) -> bool:
    return _is_change(outcome) or events.has_moved(outcome.lease.record, outcome.step.record)


def _is_change(outcome: Outcome) -> bool:
    lease, step = outcome.lease, outcome.step
    return step.state is not lease.state or step.record.remote != lease.record.remote
