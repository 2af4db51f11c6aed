"""
A process dies by SIGKILL at each step of a job's life, on both brokers: the job ends once, in time, and is paid once.

The workers are all alike: the first that comes to the step is the one that dies, and another goes on. The steps are
those of `tests.faults.crash`; ``-s`` shows how long it was from each death to the job's last callback.

Beside these tests runs what takes two minutes of waiting, see `tests.faults.unhurried`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from celery import chain, chord

from tasks_bridge import Client, Job, JobState, Settings, generate
from tasks_bridge.embedded import EmbeddedRedis
from tasks_bridge.gate import FAILURES
from tests.faults import crash, unhurried
from tests.faults.crash import Step
from tests.faults.crash_caller import CANCEL_CREDITS, DURATION_S, first_id, params, start
from tests.faults.stage import API_KEY, Stage
from tests.smoke import smoke_app
from tests.smoke.nodes import ROOT, RabbitMQServer, WorkerNode
from tests.smoke.processes import LocalProcess, Reaper, eventually
from tests.smoke.scene import MODEL, Scene

LEASE_S: Final = 0.5
TICK_S: Final = 0.1
COUNTDOWN_S: Final = 0.15
REMOTE_S: Final = DURATION_S + 1.1 * COUNTDOWN_S
"""Of a job to which nothing happens: its end is seen by the first poll after it, whose countdown has jitter."""
SLACK_S: Final = 3.0
"""For the processes that a message goes through, on a machine that others use too."""

WHILE_IT_RUNS: Final = crash.named("answer read", "rescheduled")
OF_FAILURE: Final = crash.named("terminal recorded", "result stored", "errbacks called", "removed")
OF_POOL: Final = crash.named("request sent", "terminal recorded", "callbacks published", "result stored")
OF_CHAIN: Final = crash.named("terminal recorded", "finish published", "callbacks published", "result stored")
OF_CHORD: Final = crash.named(
    *("terminal recorded", "finish published", "result stored"),
    *("part counted", "body due", "body published", "last part counted"),
)
DOUBLED: Final = crash.named("first callback published", "callbacks published", "errbacks called")
CALLED_BEFORE: Final = crash.named("result stored", "removed")
"""Of a job that completes: its callbacks have been published, and are not again."""
DEFAULTS: Final = {name: field.default for name, field in Settings.model_fields.items()}

Measured = defaultdict[tuple[str, Step], list[str]]


class Crew:
    """Workers of which any may be the one that dies, and beside them one that has the callbacks in its hands."""

    SIZE: Final = 3
    """Two in a test, and one that starts meanwhile."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._mortals: list[WorkerNode] = []
        stage.scene.start_callback_worker()

    def be_two(self) -> None:
        """Wait until two are up: the one that will go on is there before the other dies."""
        self.recruit()
        eventually(lambda: sum(map(is_ready, self._mortals)) > 1, expected="two workers ready")

    def recruit(self) -> None:
        """Bury the dead and start others for them, without waiting."""
        for node in self._mortals[:]:
            if node.container.status != "running":
                self._mortals.remove(node)
                self._stage.bury(node)
        while len(self._mortals) < self.SIZE:
            self._mortals.append(self._stage.new_worker("--concurrency", "1", FAULTS_CRASHES="yes"))

    def has_lost(self, group: int) -> bool:
        """Whether all processes of one of the workers are dead by SIGKILL."""
        node = next(node for node in self._mortals if node.container.process.pid == group)
        return node.container.process.exit_code == -signal.SIGKILL and not node.processes()


def is_ready(node: WorkerNode) -> bool:
    return node.container.status == "running" and " ready." in node.container.process.logs_of_this_run()


class Trial:
    """One death, and what becomes of the jobs."""

    def __init__(self, stage: Stage, crew: Crew) -> None:
        crew.be_two()
        self.scene: Scene = stage.clear()
        self._stage = stage
        self._crew = crew
        self._notices = self.scene.redis.pubsub()
        self._notices.psubscribe(self.scene.bridge.store.channel("*"))
        assert self._notices.get_message(timeout=10), "the subscription should have been confirmed"
        self._died_at = 0.0
        self._used_before = self.scene.bridge.budget.books().used

    def call(self, turn: str, job_id: str) -> None:
        """Start a job from a process that does nothing else, by its *turn* of calls, and wait until that has died."""
        caller = self._stage.new_process("caller", sys.executable, "-m", "tests.faults.crash_caller", turn, job_id)
        caller.start()
        assert caller.wait(timeout_s=30) == -signal.SIGKILL, caller.tail()
        self.see_process_die()

    def complete(self, job_id: str) -> None:
        """Have ByteSpike complete a task that would run for ever."""
        with Client(API_KEY, self.scene.sandbox.url) as client:
            client.cancel(out_task_id=job_id)

    def see_worker_die(self) -> None:
        """Wait until a whole worker is gone."""
        group = self._wait_for_death()["group"]
        eventually(lambda: self._crew.has_lost(group), expected="the whole worker gone")
        self._crew.recruit()

    def see_process_die(self) -> None:
        """Wait until a process is gone, whoever it was."""
        self._wait_for_death()

    def _wait_for_death(self) -> dict[str, Any]:
        crashed = self.scene.wait_until(lambda: self.scene.redis.get(crash.CRASHED_KEY), "a process at the step")
        death: dict[str, Any] = json.loads(crashed)
        self._died_at = death["at"]
        return death

    def assert_ended_once(self, *job_ids: str) -> None:
        """Each job is off the schedule, after one terminal transition and with one remote task."""
        self.scene.wait_until(lambda: self.scene.bridge.store.open_count() == 0, "no job left on the schedule")
        # behind this message there is no other callback
        smoke_app.overtake_nothing.apply_async(queue="callbacks").get(timeout=30)

        seen = [(notice["id"], JobState(notice["state"])) for notice in self._read_notices()]
        ends = sorted(job_id for job_id, state in seen if state.is_terminal)
        assert ends == sorted(job_ids), f"expected one terminal transition each, got {seen}\n{self.scene.show()}"
        tasks = self.scene.sandbox.tasks()
        assert sorted(task["out_task_id"] for task in tasks) == sorted(job_ids), "expected one remote task each"
        self._assert_books_balance(task["task_id"] for task in tasks)

    def _assert_books_balance(self, task_ids: Iterable[str]) -> None:
        books = self.scene.bridge.budget.books()
        with Client(API_KEY, self.scene.sandbox.url) as client:
            charged = sum(client.query(task_id).credits_used or 0.0 for task_id in task_ids)

        assert books.used - self._used_before == pytest.approx(charged), "expected to be booked what was charged"
        assert books.reserved == 0, "expected nothing to stay reserved"

    def _read_notices(self) -> Iterator[dict[str, Any]]:
        last = self.scene.bridge.store.channel("end-of-test")
        self.scene.redis.publish(last, "")
        while True:
            message = self._notices.get_message(timeout=10)
            assert message is not None, "the last notice should have come"
            if message["channel"] == last.encode():
                self._notices.close()
                return
            yield json.loads(message["data"])

    def assert_in_time(self, calls: list[dict[str, Any]], notes: list[str], remote_s: float = REMOTE_S) -> None:
        """The last of *calls* came within the lease, the tick and the remote time; how soon is noted."""
        took_s: float = max(call["at"] for call in calls) - self._died_at
        bound_s = LEASE_S + TICK_S + remote_s
        notes.append(f"{max(took_s, 0):.2f}")

        assert took_s < bound_s + SLACK_S, f"expected the last callback after {bound_s:.2f} s, got {took_s:.2f} s"


@pytest.fixture(scope="module", autouse=True)
def beside(
    request: pytest.FixtureRequest, bare_environment: None, reaper: Reaper, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LocalProcess, Path] | None]:
    """
    The program whose test needs two minutes of waiting, and its directory. None if that test is not asked for.

    It is started before the first test of this file, so that it is over when its own, the last, comes.
    """
    its_own = test_a_redis_that_stands_still_for_20_s_and_a_bytespike_that_is_gone_for_a_minute_lose_nothing
    if not any(getattr(item, "function", None) is its_own for item in request.session.items):
        yield None
        return
    directory = tmp_path_factory.mktemp("unhurried")
    argv = [sys.executable, "-m", "tests.faults.unhurried", str(directory)]
    process = LocalProcess("unhurried", argv, env=os.environ, cwd=ROOT, log=directory / "log", reaper=reaper)
    process.start()
    yield process, directory
    process.remove()


@pytest.fixture(scope="module")
def server(bare_environment: None, directory: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(directory=directory / "redis") as server:
        yield server


@pytest.fixture(scope="module", params=["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def broker(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def stage(
    request: pytest.FixtureRequest, broker: str, server: EmbeddedRedis, directory: Path, reaper: Reaper
) -> Iterator[Stage]:
    pace: dict[str, Any] = {"lease_s": LEASE_S, "tick_s": TICK_S, "result_ttl_s": 20}
    pace |= {"poll_min_s": COUNTDOWN_S, "poll_max_s": COUNTDOWN_S, "spend_limit": 1000, "spend_period_s": 1e9}
    if broker == "redis":
        with Stage(directory, reaper, server.url, **pace) as stage:
            yield stage
        return
    rabbitmq = RabbitMQServer(request.getfixturevalue("rabbitmq_url"))
    with Stage(
        directory, reaper, server.url, broker_url=rabbitmq.url, result_backend=server.url, namespace=broker, **pace
    ) as stage:
        yield stage
    rabbitmq.delete_queues(stage.scene.queues)


@pytest.fixture(scope="module")
def crew(stage: Stage) -> Crew:
    return Crew(stage)


@pytest.fixture
def trial(stage: Stage, crew: Crew) -> Trial:
    return Trial(stage, crew)


@pytest.fixture(scope="module")
def measured() -> Iterator[Measured]:
    """Seconds from the death to the last callback, on one broker and the other; shown as in docs/reliability.md."""
    measured: Measured = defaultdict(list)
    yield measured
    print()  # noqa: T201
    for (kind, step), took_s in measured.items():
        print("|", ", ".join(filter(None, (step.name, kind))), "|", step.where, "|", " | ".join(took_s), "|")  # noqa: T201


def each(steps: Sequence[Step]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("step", [pytest.param(step, id=step.name) for step in steps])


def assert_called(calls: Sequence[dict[str, Any]], step: Step, *labels: str) -> None:
    """Each of the callbacks ran, a double under the id of the first, and the one under `once` ran once."""
    ran = [call["label"] for call in calls]

    assert set(ran) == set(labels), f"expected each callback, got {calls}"
    assert ran.count("once") == 1, f"expected one run under once, got {calls}"
    assert ran.count("") > (step in DOUBLED), f"expected one callback, or its double too, got {calls}"
    assert len({call.get("call") for call in calls if not call["label"]}) == 1, f"expected one id, got {calls}"


@pytest.mark.parametrize("turn", ["first", "later"])
@each(crash.IN_CALLER)
def test_a_job_goes_on_whatever_step_its_caller_is_killed_at(trial: Trial, step: Step, turn: str, measured: Measured):
    job_id = uuid.uuid4().hex
    crash.arm(trial.scene.app, step)

    trial.call(turn, job_id)

    trial.assert_ended_once(job_id, *([first_id(job_id)] if turn == "later" else []))
    calls = trial.scene.calls("completed")
    assert_called(calls, step, "", "once")
    trial.assert_in_time(calls, measured["" if turn == "first" else "in a later call", step])


@each(crash.STEPS[len(crash.IN_CALLER) :])
def test_a_job_completes_once_and_in_time_whatever_step_its_worker_is_killed_at(
    trial: Trial, step: Step, measured: Measured
):
    job_id = uuid.uuid4().hex
    crash.arm(trial.scene.app, step)

    start(job_id, "hang" if step in WHILE_IT_RUNS else "completed")
    trial.see_worker_die()
    if step in WHILE_IT_RUNS:
        trial.complete(job_id)

    trial.assert_ended_once(job_id)
    assert trial.scene.app.AsyncResult(job_id).state == "SUCCESS"
    calls = trial.scene.calls("completed")
    assert_called(calls, step, "", "once")
    assert step not in CALLED_BEFORE or len(calls) == 2, f"expected no double, got {calls}"
    trial.assert_in_time(calls, measured["", step])


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
@each(crash.OF_BUDGET)
def test_the_books_balance_whatever_step_of_theirs_a_worker_is_killed_at(trial: Trial, step: Step, measured: Measured):
    job_id = uuid.uuid4().hex
    crash.arm(trial.scene.app, step)

    start(job_id, "completed")
    trial.see_worker_die()

    trial.assert_ended_once(job_id)
    trial.assert_in_time(trial.scene.calls("completed"), measured["", step])


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
@each(crash.named("terminal recorded", "settled"))
def test_the_books_have_what_a_cancelled_job_is_charged_whatever_step_its_worker_is_killed_at(trial: Trial, step: Step):
    job_id = uuid.uuid4().hex
    start(job_id, "cancelled")
    job = Job(job_id, app=trial.scene.app)
    trial.scene.wait_until(lambda: job.status is JobState.RUNNING, "the job to run")
    crash.arm(trial.scene.app, step)

    job.cancel()
    trial.see_worker_die()

    trial.assert_ended_once(job_id)
    assert job.status is JobState.CANCELLED
    assert job.remote is not None
    assert job.remote.credits_used == CANCEL_CREDITS


@each(OF_FAILURE)
def test_a_job_fails_once_and_in_time_whatever_step_its_worker_is_killed_at(
    trial: Trial, step: Step, measured: Measured
):
    job_id = uuid.uuid4().hex
    crash.arm(trial.scene.app, step)

    start(job_id, "failed")
    trial.see_worker_die()

    trial.assert_ended_once(job_id)
    assert trial.scene.app.AsyncResult(job_id).state == "FAILURE"
    calls = trial.scene.calls("failed")
    assert_called(calls, step, "", "once", "by id")
    trial.assert_in_time(calls, measured["failed", step])


@each(OF_CHAIN)
def test_a_chain_of_jobs_goes_on_once_and_in_time_whatever_step_its_worker_is_killed_at(
    trial: Trial, step: Step, measured: Measured
):
    first, second = uuid.uuid4().hex, uuid.uuid4().hex
    crash.arm(trial.scene.app, step)

    chain(
        generate.s(MODEL, params()).set(task_id=first),
        generate.si(MODEL, params()).set(task_id=second),
        smoke_app.completed_once.s().set(queue="callbacks"),
    ).apply_async()
    trial.see_worker_die()

    # the second is registered before the first is off the schedule
    trial.assert_ended_once(first, second)
    calls = trial.scene.calls("completed")
    assert [call["job"] for call in calls] == [second], "expected one run of what comes last"
    trial.assert_in_time(calls, measured["chain", step], remote_s=2 * REMOTE_S)


@each(OF_CHORD)
def test_the_body_of_a_chord_runs_once_and_in_time_whatever_step_a_worker_of_it_is_killed_at(
    trial: Trial, step: Step, measured: Measured
):
    jobs = [uuid.uuid4().hex for _ in range(3)]
    crash.arm(trial.scene.app, step)

    header = [generate.s(MODEL, params()).set(task_id=job_id) for job_id in jobs]
    body = smoke_app.assemble if step.name == "last part counted" else smoke_app.assemble_once
    chord(header)(body.s().set(queue="callbacks"))
    trial.see_worker_die()

    trial.assert_ended_once(*jobs)
    calls = trial.scene.calls("assembled")
    assert [call["jobs"] for call in calls] == [jobs], "expected one run of the body, with all results"
    trial.assert_in_time(calls, measured["chord", step])


@each(crash.named("body's failure due"))
def test_the_body_of_a_chord_with_a_failed_job_fails_in_time_when_the_worker_that_is_to_tell_it_is_killed(
    trial: Trial, step: Step, measured: Measured
):
    jobs = [uuid.uuid4().hex for _ in range(3)]
    crash.arm(trial.scene.app, step)

    header = [
        generate.s(MODEL, params(outcome)).set(task_id=job_id)
        for job_id, outcome in zip(jobs, ("completed", "failed", "completed"), strict=True)
    ]
    errback = smoke_app.failed_by_id.s().set(queue="callbacks")
    body = chord(header)(smoke_app.assemble_once.s().set(queue="callbacks").on_error(errback))
    trial.see_worker_die()

    trial.assert_ended_once(*jobs)
    assert body.state == "FAILURE"
    assert trial.scene.calls("assembled") == []
    calls = trial.scene.calls("failed")
    assert {call["job"] for call in calls} == {body.id}
    trial.assert_in_time(calls, measured["chord", step])


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
@each(OF_POOL)
def test_a_job_completes_once_whatever_step_a_process_of_its_pool_is_killed_at(trial: Trial, step: Step):
    """Its worker lives on, and what it hands to the dead process until it notices has to be published again."""
    job_id = uuid.uuid4().hex
    crash.arm(trial.scene.app, step, whom="process")

    start(job_id, "completed")
    trial.see_process_die()

    trial.assert_ended_once(job_id)
    assert trial.scene.app.AsyncResult(job_id).state == "SUCCESS"
    assert_called(trial.scene.calls("completed"), step, "", "once")


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_a_new_process_of_a_pool_has_what_its_first_request_needs(crew: Crew):
    """Imported in the event loop, it would hold up the renewal of leases."""
    assert smoke_app.has_imported.apply_async(("httpx_aiohttp",), queue="callbacks").get(timeout=30)


@pytest.mark.timeout(300)
def test_a_redis_that_stands_still_for_20_s_and_a_bytespike_that_is_gone_for_a_minute_lose_nothing(
    beside: tuple[LocalProcess, Path],
):
    process, directory = beside

    assert process.wait(timeout_s=240) == 0, process.tail()

    seen = json.loads((directory / "seen.json").read_text())
    print(seen)  # noqa: T201 - the figures for the documentation
    assert seen["caller_waited_s"] < DEFAULTS["store_timeout_s"] + 2
    # what is under way when the circuit opens, and probes after 1, 2, 4, 8 s and then every 15 s
    assert seen["requests_while_gone"] <= unhurried.JOBS + FAILURES + 4 + 60 / DEFAULTS["breaker_max_s"]
    assert seen["most_late_s"] < DEFAULTS["retry_max_s"]
    assert seen["submits"] == [1], "no submit should have been repeated"
