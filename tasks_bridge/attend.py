"""
Attend to leased jobs: ask ByteSpike, decide, write back, tell everybody.

Order of the writes for one job, and what a crash after each leaves behind:

1. the store, fenced: the lease brings the job back, and the same question is asked again;
2. the result backend: its entry is one read behind until the next poll, which writes it in any case;
3. a finished job's `generate` message: the store has the job as claimed, so the message is published again;
4. monitors: Flower misses a change.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from tasks_bridge import events, facts, steps
from tasks_bridge.errors import ApiStatusError, BridgeError, NotFound, StoreError
from tasks_bridge.models import RemoteTask
from tasks_bridge.publish import publish_generate
from tasks_bridge.record import JobState
from tasks_bridge.steps import Action, Step, View
from tasks_bridge.store.base import Write

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Sequence

    from tasks_bridge.bridge import Bridge
    from tasks_bridge.store import Lease

log = logging.getLogger("tasks_bridge.jobs")

SETTLE_S: Final = 0.01
"""How long the first answers wait for others to share their write."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A leased job, what was done and what to write."""

    lease: Lease
    action: Action
    step: Step


async def attend(bridge: Bridge, leases: Sequence[Lease]) -> None:
    """Bring every one of *leases* one step further. Never raises: what can't be done now is due again later."""
    begun = asyncio.get_running_loop().time()
    working = {asyncio.create_task(_work(bridge, lease, begun)): lease for lease in leases}
    keeper = asyncio.create_task(_keep(bridge, working))
    try:
        while working:
            await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
            done, _ = await asyncio.wait(working, timeout=SETTLE_S)
            outcomes = []
            for task in done:
                lease = working.pop(task)
                if error := task.exception():
                    log.error("job %s: left to its lease by a bug", lease.job_id, exc_info=error)
                else:
                    outcomes.append(task.result())
            await _settle(bridge, outcomes)
    finally:
        keeper.cancel()


async def _keep(bridge: Bridge, working: dict[asyncio.Task[Outcome], Lease]) -> None:
    """Renew the leases of what is still being worked on."""
    while True:
        await asyncio.sleep(bridge.settings.lease_s / 3)
        try:
            await bridge.reactor.blocking(bridge.store.renew, list(working.values()), bridge.settings.lease_s)
        except StoreError as error:
            log.warning("%d leases could not be renewed: %s", len(working), error)


async def _work(bridge: Bridge, lease: Lease, begun: float) -> Outcome:
    view = View(
        job_id=lease.job_id,
        state=lease.state,
        record=lease.record,
        cancel=lease.cancel,
        may_be_submitted=lease.state is not JobState.QUEUED or lease.token > 1,
        now=lease.now,
        settings=bridge.settings,
        random=random.random(),  # noqa: S311 - spreads requests, keeps no secret
    )
    action = steps.next_action(view)
    if action is Action.DROP:
        return Outcome(lease, action, steps.dropped(view))
    if action is Action.FINISH:
        return Outcome(lease, action, Step(lease.state, lease.record, 0, "finished"))
    answer = await _ask(bridge, lease, action)
    elapsed_s = asyncio.get_running_loop().time() - begun
    return Outcome(lease, action, _decide(view.at(lease.now + elapsed_s), action, answer))


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


async def _ask(bridge: Bridge, lease: Lease, action: Action) -> RemoteTask | BridgeError:
    remote_id = lease.record.remote_id
    out_task_id = lease.job_id if remote_id is None else None
    try:
        client = bridge.client(lease.record.key)
        match action:
            case Action.SUBMIT:
                return await client.submit_bytes(lease.body or b"")
            case Action.CANCEL:
                answer = await _caught(client.cancel(remote_id, out_task_id=out_task_id))
                if isinstance(answer, ApiStatusError) and not isinstance(answer, NotFound):
                    # perhaps it can't be cancelled because it is over
                    state = await _caught(client.query(remote_id, out_task_id=out_task_id))
                    if isinstance(state, RemoteTask) and state.is_terminal:
                        return state
                return answer
            case _:
                return await client.query(remote_id, out_task_id=out_task_id)
    except BridgeError as error:
        return error


async def _caught(call: Awaitable[RemoteTask]) -> RemoteTask | BridgeError:
    try:
        return await call
    except BridgeError as error:
        return error


async def _settle(bridge: Bridge, outcomes: Sequence[Outcome]) -> None:
    try:
        lost = await bridge.reactor.blocking(_write_back, bridge, outcomes)
    except StoreError as error:
        log.error("%d jobs are left to their leases: %s", len(outcomes), error)  # noqa: TRY400 - expected, no bug
        return
    except Exception:
        log.exception("a bug left %d jobs to their leases", len(outcomes))
        return
    for outcome in lost:
        await _compensate(bridge, outcome)


def _write_back(bridge: Bridge, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Write *outcomes* and tell everybody of those that held; returns those whose lease was lost."""
    held = bridge.store.write_many([_as_write(bridge, outcome) for outcome in outcomes])
    kept = [outcome for outcome, is_held in zip(outcomes, held, strict=True) if is_held]
    for outcome in kept:
        _log(outcome)
    _report(bridge, [outcome for outcome in kept if not outcome.step.state.is_terminal])
    for outcome in kept:
        if outcome.step.state.is_terminal:
            _publish_finish(bridge, outcome)
    events.send(
        bridge.app,
        [
            events.Change(outcome.lease.job_id, outcome.step.state, outcome.step.record)
            for outcome in kept
            if _is_change(outcome) and not outcome.step.state.is_terminal
        ],
    )
    return [outcome for outcome, is_held in zip(outcomes, held, strict=True) if not is_held]


def _as_write(bridge: Bridge, outcome: Outcome) -> Write:
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
        delay_s=bridge.settings.lease_s if is_over else step.delay_s,
        published=is_over,
        notice=notice,
    )


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


async def _compensate(bridge: Bridge, outcome: Outcome) -> None:
    """
    Undo a submit that arrived after its job had ended.

    The holder was thought dead, the job was cancelled or expired meanwhile because ByteSpike knew no task, and then
    the request got through after all: nobody waits for that task, so it must not be paid for.
    """
    log.info("job %s: lease lost, answer ignored", outcome.lease.job_id)
    if outcome.action is not Action.SUBMIT or outcome.step.record.remote_id is None:
        return
    try:
        entry = (await bridge.reactor.blocking(bridge.store.get, [outcome.lease.job_id]))[0]
    except StoreError as error:
        log.error("job %s: a late submit may be left running: %s", outcome.lease.job_id, error)  # noqa: TRY400
        return
    if entry is None or entry.state in (JobState.CANCELLED, JobState.EXPIRED):
        answer = await _ask(bridge, replace(outcome.lease, record=outcome.step.record), Action.CANCEL)
        log.warning("job %s: a submit arrived after the job had ended; cancelled: %s", outcome.lease.job_id, answer)


def _is_change(outcome: Outcome) -> bool:
    lease, step = outcome.lease, outcome.step
    return step.state is not lease.state or step.record.remote != lease.record.remote


def _log(outcome: Outcome) -> None:
    lease, step = outcome.lease, outcome.step
    level = logging.WARNING if step.is_trouble else logging.INFO if step.state is not lease.state else logging.DEBUG
    log.log(
        level,
        "job %s %s: %s -> %s: %s",
        lease.job_id,
        step.record.remote_id or "-",
        lease.state,
        step.state,
        step.reason,
    )
