"""`once`: a callback's body runs once for each delivery, however often its message comes."""

import threading
import uuid
from typing import Any

import pytest
from celery import shared_task
from celery.result import allow_join_result

from tasks_bridge import RemoteTask, once
from tests.integration.lab import END_S, Lab, eventually

BODIES: list[str] = []
MAY_GO_ON = threading.Event()
MAY_GO_ON.set()


@shared_task(pydantic=True)
@once
def keep(video: RemoteTask, note: str = "") -> dict[str, Any]:
    BODIES.append(note)
    return {"kept": video.task_id, "run": len(BODIES)}


@shared_task
@once
def slow(note: str) -> str:
    BODIES.append(note)
    MAY_GO_ON.wait(END_S)
    return note


@shared_task
@once
def breaks_at_first(note: str) -> str:
    BODIES.append(note)
    if len(BODIES) == 1:
        raise ValueError(note)
    return note


@shared_task
@once
def returns_nothing(note: str) -> None:
    BODIES.append(note)


@shared_task
@once
def told_by_id(job_id: str) -> None:
    BODIES.append(job_id)


@shared_task
@once
def told_inline(request: Any, exc: BaseException, traceback: Any, note: str) -> None:
    BODIES.append(note)


@shared_task(bind=True)
def fail(self: Any) -> None:
    """As Celery fails a task whose errbacks are of its present form, but twice, as after a crash."""
    for note in ("a", "b", "a", "b"):
        told_inline.s(note)(self.request, ValueError(), None)


@pytest.fixture(autouse=True)
def no_bodies() -> None:
    BODIES.clear()
    MAY_GO_ON.set()


def get(result: Any) -> Any:
    with allow_join_result():
        return result.get(timeout=END_S)


def forget(lab: Lab, task_id: str) -> None:
    """As if the outcome had not been stored, so that the double's own can be seen."""
    backend: Any = lab.app.backend
    backend.client.delete(backend.get_key_for_task(task_id))


def test_a_doubled_callback_runs_once_and_gives_the_first_result_again(lab: Lab) -> None:
    remote = {"task_id": "task_1", "status": "completed"}
    task_id = uuid.uuid4().hex
    first = get(keep.apply_async((remote,), {"note": "a"}, task_id=task_id))
    forget(lab, task_id)
    again = get(keep.apply_async((remote,), {"note": "a"}, task_id=task_id))

    assert first == again == {"kept": "task_1", "run": 1}
    assert BODIES == ["a"]


def test_a_result_of_nothing_is_remembered_too(lab: Lab) -> None:
    task_id = uuid.uuid4().hex
    for _ in range(2):
        assert get(returns_nothing.apply_async(("a",), task_id=task_id)) is None
        forget(lab, task_id)

    assert BODIES == ["a"]


def test_two_deliveries_are_two(lab: Lab) -> None:
    get(returns_nothing.delay("a"))
    get(returns_nothing.delay("a"))

    assert BODIES == ["a", "a"]


def test_a_double_waits_for_the_first_one(lab: Lab) -> None:
    task_id = uuid.uuid4().hex
    MAY_GO_ON.clear()
    result = slow.apply_async(("a",), task_id=task_id)
    eventually(lambda: BODIES, "the first to be at work")
    slow.apply_async(("a",), task_id=task_id)
    eventually(lambda: result.state == "RETRY", "the double to come back later")
    MAY_GO_ON.set()

    eventually(lambda: result.state == "SUCCESS", "both to end")
    assert BODIES == ["a"]


def test_a_body_longer_than_the_lease_keeps_its_place(lab: Lab) -> None:
    task_id = uuid.uuid4().hex
    MAY_GO_ON.clear()
    result = slow.apply_async(("a",), task_id=task_id)
    eventually(lambda: BODIES, "the first to be at work")
    lock = next(lab.bridge.store.client.scan_iter(f"*once-lock*{task_id}"))
    lowest = lab.settings.lease_s * 1000
    for _ in range(7):  # more than two leases, of which each renewal is seen
        eventually(lambda: lab.bridge.store.client.pttl(lock) < lab.settings.lease_s * 900, "the lock to age")
        lowest = min(lowest, lab.bridge.store.client.pttl(lock))
        eventually(lambda: lab.bridge.store.client.pttl(lock) >= lab.settings.lease_s * 900, "a renewal")
        if len(BODIES) > 1:
            break
    MAY_GO_ON.set()
    get(result)

    assert lowest > 0, "the lock should never have run out"
    assert BODIES == ["a"]


def test_a_body_that_was_killed_runs_again(lab: Lab) -> None:
    """What a killed worker leaves behind is a lock that nobody renews."""
    task_id = uuid.uuid4().hex
    name = f"{slow.run.__module__}.slow:{task_id}"
    lock = lab.bridge.store.client.lock(lab.bridge.store.key("once-lock", name), timeout=0.3, thread_local=False)
    assert lock.acquire(blocking=False)

    assert get(slow.apply_async(("a",), task_id=task_id)) == "a"
    assert BODIES == ["a"]


def test_a_body_that_raised_has_not_run(lab: Lab) -> None:
    task_id = uuid.uuid4().hex
    with pytest.raises(ValueError, match="a"):
        get(breaks_at_first.apply_async(("a",), task_id=task_id))
    forget(lab, task_id)

    assert get(breaks_at_first.apply_async(("a",), task_id=task_id)) == "a"


def test_outside_a_task_the_body_just_runs() -> None:
    remote = RemoteTask(task_id="task_1", status="completed")

    assert [once(lambda video: video.task_id)(remote) for _ in range(2)] == ["task_1", "task_1"]


def test_what_is_remembered_expires_with_the_job(lab: Lab) -> None:
    task_id = uuid.uuid4().hex
    get(returns_nothing.apply_async(("a",), task_id=task_id))
    client = lab.bridge.store.client
    key = next(client.scan_iter(f"*:once:*{task_id}"))

    assert 0 < client.pttl(key) <= lab.settings.result_ttl_s * 1000
    assert list(client.scan_iter(f"*once-lock*{task_id}")) == []


def test_an_errback_that_takes_the_id_alone_is_called_with_the_id(lab: Lab) -> None:
    result = lab.submit({"outcome": "failed"}, link_error=told_by_id.s())

    eventually(lambda: BODIES, "the errback to run")
    assert tuple(BODIES) == (result.id,)


def test_an_errback_that_is_called_twice_for_one_failed_task_runs_once_for_each_of_its_arguments(lab: Lab) -> None:
    """It runs inside the failed task, without a message and an id of its own."""
    get(fail.delay())
    assert BODIES == ["a", "b"]

    get(fail.delay())
    assert BODIES == ["a", "b"] * 2, "another task that fails is another delivery"
