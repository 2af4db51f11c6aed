"""What receivers are told: in this process, and in a real worker that is killed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, current_app

from tasks_bridge import Job, JobState, generate
from tasks_bridge.contrib.flask import (
    NotYet,
    TasksBridge,
    job_cancelled,
    job_changed,
    job_completed,
    job_failed,
    job_url,
)
from tasks_bridge.contrib.flask.signals import announce
from tasks_bridge.events import TELL, Change
from tasks_bridge.record import JobRecord, RecordedError
from tasks_bridge.testing import ByteSpike
from tests.flask import shop
from tests.flask.conftest import ended, fails, heard
from tests.smoke.processes import LocalProcess, eventually

OUTPUT = [{"type": "image", "url": "https://cdn.example/fox.png"}]
REFUSED = RecordedError(name="BadRequest", args=["bad", 400, "invalid_param", None])


def change(job_id: str, state: JobState, *, error: RecordedError | None = None, **told: Any) -> Change:
    """What a worker reports."""
    remote = {"task_id": "task_1", "status": state.value.lower(), **told}
    record = JobRecord(version=1, model="m", key="default", digest="d", created_at=0, remote=remote, error=error)
    return Change(job_id, state, record)


@pytest.mark.parametrize(
    ("state", "known", "expected"),
    [
        (JobState.RUNNING, {}, []),
        (JobState.COMPLETED, {"output": OUTPUT}, ["completed with 1 output, None"]),
        (JobState.FAILED, {"error_code": "content_policy_violation"}, ["failed: content_policy_violation"]),
        (JobState.FAILED, {"error": REFUSED}, ["failed: invalid_param"]),
        (JobState.EXPIRED, {}, ["failed: JobExpired"]),
        (JobState.CANCELLED, {}, ["cancelled: JobCancelled"]),
    ],
)
def test_each_change_is_told_and_each_end_by_its_own_signal_too(
    app: Flask, namespace: str, state: JobState, known: dict[str, Any], expected: list[str]
) -> None:
    announce(app, change(namespace, state, **known))

    assert heard(app, namespace) == [f"-> {state}", *expected]


def test_a_receiver_that_fails_keeps_the_others_from_nothing(
    app: Flask, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    fails(app, namespace, "COMPLETED", "bug")

    announce(app, change(namespace, JobState.COMPLETED, output=OUTPUT))

    assert heard(app, namespace) == ["-> COMPLETED", "completed with 1 output, None"]
    assert "a receiver of its change to COMPLETED failed" in caplog.text
    assert "a bug in the application" in caplog.text


def test_a_receiver_that_is_not_able_yet_says_so_once_all_have_been_told(app: Flask, namespace: str) -> None:
    fails(app, namespace, "COMPLETED", "away")

    with pytest.raises(NotYet, match="the database is away"):
        announce(app, change(namespace, JobState.COMPLETED, output=OUTPUT))

    assert heard(app, namespace) == ["-> COMPLETED", "completed with 1 output, None"]


def test_a_receiver_of_one_app_hears_of_its_jobs_alone(app: Flask, environment: dict[str, str], namespace: str) -> None:
    other = shop.create_app(environment)
    told = []

    def hear(sender: Flask, job_id: str, **_: Any) -> None:
        told.append((sender is app, current_app == app, job_id))

    with job_completed.connected_to(hear, sender=app):
        for one in (app, other):
            announce(one, change(namespace, JobState.COMPLETED, output=OUTPUT))

    assert told == [(True, True, namespace)]


def test_the_states_between_are_told_by_a_task_unless_the_job_is_past_them(app: Flask, context: None) -> None:
    celery = app.extensions["celery"]
    job = generate.apply_async((shop.MODEL, shop.params()), countdown=600)

    celery.tasks[TELL].apply(([(job.id, "QUEUED"), ("never-seen", "PENDING")],)).get()
    celery.tasks[TELL].apply(([(job.id, "RUNNING")],)).get()

    assert heard(app, job.id) == ["-> QUEUED"]
    Job(job.id).cancel()


def test_no_message_is_sent_where_nobody_listens(
    environment: dict[str, str], namespace: str, request: pytest.FixtureRequest
) -> None:
    app = shop.create_app(environment, CELERY={"task_default_queue": namespace})  # of no worker
    bridge = app.extensions["tasks-bridge"].bridge
    changes = [change("nobody-s", JobState.RUNNING)]

    bridge.hooks[0].changed(changes)
    assert bridge.store.client.llen(namespace) == 1
    request.getfixturevalue("deaf_shop")
    bridge.hooks[0].changed(changes)
    assert bridge.store.client.llen(namespace) == 1


def test_an_eager_job_tells_of_its_end_where_it_is_started(environment: dict[str, str]) -> None:
    app = shop.create_app(environment, CELERY={"task_always_eager": True})

    with app.app_context():
        done = generate.apply_async((shop.MODEL, shop.params()), link=shop.publish.s())

    assert heard(app, done.id) == ["-> COMPLETED", "completed with 1 output, None", "callback"]


@pytest.fixture
def deaf_shop() -> Iterator[None]:
    """The shop's receivers hear nothing: they write to Redis, which the test does without."""
    connected: dict[Any, Any] = {
        job_changed: shop.hear_change,
        job_completed: shop.hear_outputs,
        job_failed: shop.hear_failure,
        job_cancelled: shop.hear_cancel,
    }
    for signal, receiver in connected.items():
        signal.disconnect(receiver)
    yield
    for signal, receiver in connected.items():
        signal.connect(receiver)


def test_in_tests_of_users_jobs_end_when_the_test_says_so(deaf_shop: None) -> None:
    app = Flask("tested")
    app.config.from_mapping(SECRET_KEY="x", TASKS_BRIDGE={"API_KEY": "sk-byts-tested", "REDIS_URL": "redis://nowhere"})
    TasksBridge(app)
    told = []

    def hear(sender: Flask, state: JobState, **_: Any) -> None:
        told.append((state, current_app.name))

    with ByteSpike() as bytespike, job_changed.connected_to(hear, sender=app), app.test_request_context():
        job_id = generate.delay("sora-2", {"prompt": "a fox"}).id
        bytespike.start(job_id)
        bytespike.run()
        shown: Any = app.test_client().get(job_url(job_id)).json

    assert told == [(state, "tested") for state in (JobState.PENDING, JobState.RUNNING, JobState.COMPLETED)]
    assert (shown["state"], len(shown["outputs"])) == ("COMPLETED", 1)


# -- with a worker ----------------------------------------------------------------------------------------------------


def start(app: Flask, job_id: str, **script: Any) -> str:
    with app.app_context():
        generate.apply_async((shop.MODEL, shop.params(**script)), task_id=job_id, link=shop.publish.s())
    return job_id


def test_a_job_s_end_is_told_before_its_callback_and_the_states_before_it(
    app: Flask, worker: LocalProcess, namespace: str
) -> None:
    job_id = start(app, namespace, duration_s=4)

    ended(app, job_id, worker)

    eventually(lambda: "callback" in heard(app, job_id), expected="the callback", show=worker.tail)
    *between, change, end, callback = heard(app, job_id)
    assert [change, end, callback] == ["-> COMPLETED", "completed with 1 output, None", "callback"]
    # one between may be missed, but none is made up
    assert set(between) <= {"-> PENDING", "-> RUNNING"}
    assert between, "expected to hear of a job that takes four seconds before it ends"
    assert f"{TELL}[" not in worker.logs(), "expected the log to speak of jobs"


def test_a_cancelled_job_is_told_as_such(app: Flask, worker: LocalProcess, namespace: str) -> None:
    job_id = start(app, namespace, duration_s=60)
    with app.app_context():
        eventually(lambda: Job(job_id).remote, expected="the job to be accepted", show=worker.tail)
        Job(job_id).cancel()

    ended(app, job_id, worker)

    assert heard(app, job_id)[-2:] == ["-> CANCELLED", "cancelled: JobCancelled"]


@pytest.mark.parametrize("kind", ["killed", "away", "bug"])
def test_whatever_interrupts_a_receiver_the_end_is_told_and_the_callback_follows(
    app: Flask, worker: LocalProcess, namespace: str, kind: str
) -> None:
    """The receiver is killed with its process, isn't able, or has a bug, each time once it has written down the end."""
    fails(app, namespace, "COMPLETED", kind)
    job_id = start(app, namespace)

    ended(app, job_id, worker)

    eventually(lambda: "callback" in heard(app, job_id), expected="the callback", show=worker.tail)
    told = heard(app, job_id)
    times = 1 if kind == "bug" else 2
    assert told.count("-> COMPLETED") == times, f"expected the end to be told {times} times: {told}"
    assert told[-2:] == ["completed with 1 output, None", "callback"]
