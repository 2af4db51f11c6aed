"""Assertions about jobs, whose failures say what is the matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from celery.result import EagerResult

from tasks_bridge.bridge import bridge_of
from tasks_bridge.record import JobState
from tasks_bridge.testing import bytespike, outcome, servers
from tasks_bridge.testing.bytespike import JobRef, Submit, id_of
from tasks_bridge.testing.outcome import Outcome

if TYPE_CHECKING:
    from tasks_bridge.models import RemoteTask

WITHIN_S: Final = 10.0
"""How long a job of real workers is waited for."""


def assert_job_completed(job: JobRef | None = None, *, within_s: float = WITHIN_S) -> RemoteTask:
    """
    Assert that *job* has completed, and return the remote task: its ``urls``, its ``credits_used``.

    ::

        video = assert_job_completed(result)
        assert len(video.urls) == 1

    Args:
        job: Its id, its `Job`, what ``apply_async`` returned, or a row with a ``job_id``. With the fixture
            `bytespike` it may be left out if the test has one job.
        within_s: Seconds for which a job of real workers is waited for. No time passes on a `FastClock`.
    """
    __tracebackhide__ = True
    found = _ended(job, JobState.COMPLETED, within_s)
    if found.remote is None:
        raise AssertionError(f"job {found.job_id} should have completed, but it has no remote task")
    return found.remote


def assert_job_failed(
    job: JobRef | None = None, *, code: str | None = None, within_s: float = WITHIN_S
) -> BaseException:
    """
    Assert that *job* has failed, and return the error that its errbacks get.

    Args:
        job: As for `assert_job_completed`.
        code: ByteSpike's ``error_code``, as ``"content_policy_violation"``, also of a submit that it refused; or the
            name of an error, as ``"SpendLimitReached"``. Default: any.
        within_s: As for `assert_job_completed`.
    """
    __tracebackhide__ = True
    found = _ended(job, JobState.FAILED, within_s)
    if code is not None and found.code != code:
        raise AssertionError(f"job {found.job_id} should have failed with {code!r}, but it {found}")
    return _error(found)


def assert_job_cancelled(job: JobRef | None = None, *, within_s: float = WITHIN_S) -> BaseException:
    """Assert that *job* was cancelled, here and at ByteSpike, and return the error that its errbacks get."""
    __tracebackhide__ = True
    return _error(_ended(job, JobState.CANCELLED, within_s))


def assert_job_expired(job: JobRef | None = None, *, within_s: float = WITHIN_S) -> BaseException:
    """Assert that *job*'s deadline has passed, and return the error that its errbacks get."""
    __tracebackhide__ = True
    return _error(_ended(job, JobState.EXPIRED, within_s))


def assert_job_submitted(
    job: JobRef | None = None, *, model: str | None = None, params: Mapping[str, Any] | None = None
) -> Submit:
    """
    Assert that ByteSpike was asked for something, exactly once, and return what: ``model``, ``params``, ``job_id``.

    ::

        assert_job_submitted(model="sora-2", params={"prompt": "a fox"})

    Args:
        job: By which job; default: any.
        model: Of which model; default: any.
        params: What must be among the parameters; others may be there too.
    """
    __tracebackhide__ = True
    wanted_id = None if job is None else id_of(job)
    submits = _submits()
    fits = [one for one in submits if not _differences(one, wanted_id, model, params)]
    if len(fits) == 1:
        return fits[0]
    named = {"job": wanted_id, "model": model, "params": None if params is None else dict(params)}
    wanted = ", ".join(f"{name}={value!r}" for name, value in named.items() if value is not None) or "anything"
    lines = [
        f"ByteSpike should have been asked once for {wanted}, but "
        + (f"was {len(fits)} times" if fits else "never was")
    ]
    lines.append("what it was asked for:" if submits else "it was asked for nothing at all" + _why_nothing())
    for one in submits:
        lines.append(f"  {one.model} {one.params!r}, by job {one.job_id}")
        lines += [f"    {text}" for text in ([] if one in fits else _differences(one, wanted_id, model, params))]
    raise AssertionError("\n".join(lines))


def assert_no_jobs() -> None:
    """Assert that the test has started no job."""
    __tracebackhide__ = True
    stage = bytespike.active()
    if stage is not None:
        stage.work()
        started = [f"{one.id}, which {outcome.of_entry(stage.entry(one))}" for one in stage.jobs]
    else:
        started = [f"{one.job_id}: {one.model} {one.params!r}" for one in _submits()]
        started += [f"{bridge_of().store.open_count()} in Redis"] if bridge_of().store.open_count() else []
    if started:
        raise AssertionError("\n".join(["no job should have been started, but there are:", *started]))


def _ended(job: JobRef | None, state: JobState, within_s: float) -> Outcome:
    __tracebackhide__ = True
    stage = bytespike.active()
    if isinstance(job, EagerResult):
        found = outcome.of_eager(job)
    elif stage is not None:
        stage.work()
        found = outcome.of_entry(stage.entry(stage.find(job)))
    elif job is None:
        raise TypeError("say which job: it may be left out with the fixture `bytespike` only")
    else:
        found = outcome.of_worker(id_of(job), within_s)
    if found.state is state:
        return found
    is_open = found.state is not None and not found.state.is_terminal
    hint = (_how_to_end(stage) if stage is not None else f" after {within_s:g} s") if is_open else ""
    raise AssertionError(f"job {found.job_id} should be {state}, but it {found}{hint}")


def _error(found: Outcome) -> BaseException:
    return found.error or AssertionError(f"job {found.job_id} has no error")


def _how_to_end(stage: bytespike.ByteSpike) -> str:
    at = stage.next_at()
    due = "nothing is due" if at is None else f"something is due in {at - stage.clock.now():.1f} s"
    return (
        f".\nNo time passes by itself, and {due}: end it with bytespike.complete(job) or bytespike.fail(job), "
        "let it end as it is scripted with bytespike.run(), or let time pass with fast_clock.advance(seconds)."
    )


def _submits() -> list[Submit]:
    stage = bytespike.active()
    if stage is not None:
        return stage.submits
    server = servers.active()
    if server is None:
        raise TypeError("what was submitted is known with the fixtures `bytespike` and `bytespike_sandbox` only")
    return [Submit(task["out_task_id"] or "", task["model"], task["params"] or {}) for task in server.tasks()]


def _why_nothing() -> str:
    stage = bytespike.active()
    if stage is None or not stage.jobs:
        return ": no job was started"
    return "".join(f"\n  job {one.id} {outcome.of_entry(stage.entry(one))}" for one in stage.jobs)


def _differences(one: Submit, job_id: str | None, model: str | None, params: Mapping[str, Any] | None) -> list[str]:
    found = []
    if job_id is not None and one.job_id != job_id:
        found.append(f"job: expected {job_id!r}")
    if model is not None and one.model != model:
        found.append(f"model: expected {model!r}")
    for name, value in (params or {}).items():
        if name not in one.params:
            found.append(f"params[{name!r}]: expected {value!r}, but there is none")
        elif one.params[name] != value:
            found.append(f"params[{name!r}]: expected {value!r}, not {one.params[name]!r}")
    return found
