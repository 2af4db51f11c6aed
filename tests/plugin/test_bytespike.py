"""
`ByteSpike`: jobs, workers and time as a test has them. Nothing here waits.

Celery 5.5 reads a task's annotations as they are: they are no text in this module.
"""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, chain, chord, group, shared_task
from celery.exceptions import TimeoutError as CeleryTimeout
from celery.result import AsyncResult
from pydantic import SecretStr

from tasks_bridge import (
    InvalidRequest,
    Job,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobNotFinished,
    JobState,
    RemoteTask,
    Settings,
    SettingsError,
    generate,
    install,
    once,
    spending,
)
from tasks_bridge.bridge import bridge_of
from tasks_bridge.testing import ByteSpike
from tasks_bridge.testing.apps import current

KEY = "sk-byts-real-0123456789"
VIDEO = ("sora-2", {"prompt": "a fox"})
PICTURE = ("seedream-v4", {"prompt": "a fox"})

RAN: list[Any] = []


@shared_task(pydantic=True)
def publish(video: RemoteTask, user: int = 0) -> str:
    RAN.append((video.status, user))
    return f"published for {user}"


@shared_task
def apologise(request: Any, exc: BaseException, traceback: Any) -> None:
    RAN.append(exc)


@shared_task
def note(text: str) -> str:
    RAN.append(text)
    return text


@shared_task(bind=True)
def note_of(self: Any, *_: Any) -> None:
    RAN.append((self.request.id, self.request.parent_id, self.request.root_id))


@shared_task(bind=True, max_retries=2)
def hesitate(self: Any, text: str) -> None:
    RAN.append(f"{text} {self.request.retries}")
    if self.request.retries < 2:
        raise self.retry(countdown=60)


@shared_task
def explode(*_: Any) -> None:
    raise ZeroDivisionError("of a task")


@shared_task(throws=(KeyError,))
def miss(*_: Any) -> None:
    raise KeyError("as announced")


@shared_task
def explode_inline(request: Any, exc: BaseException, traceback: Any) -> None:
    raise ZeroDivisionError("of an errback")


@shared_task
def collect(found: list[dict[str, Any]]) -> list[str]:
    return [one["status"] for one in found]


@shared_task
@once
def charge(video: dict[str, Any]) -> None:
    RAN.append("charged")


@shared_task
def charge_each_time(video: dict[str, Any]) -> None:
    RAN.append("charged")


@shared_task
def for_ever() -> None:
    for_ever.delay()


@shared_task
def render_and_wait() -> str:
    result: Any = generate.delay(*VIDEO)
    return str(result.get(disable_sync_subtasks=False))


@shared_task
def render_directly() -> str:
    return str(generate(*PICTURE)["status"])


@pytest.fixture(autouse=True)
def nobody_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(seconds: float) -> None:
        raise AssertionError(f"somebody sleeps for {seconds} s")

    monkeypatch.setattr(time, "sleep", refuse)
    RAN.clear()


@pytest.fixture
def app() -> Iterator[Celery]:
    """An app as users have them: with a broker that is not there."""
    found = Celery("shop", broker="redis://localhost:1/0", backend="redis://localhost:1/0", set_as_current=False)
    install(found, Settings(api_key=SecretStr(KEY), api_keys={"studio": SecretStr(KEY)}))
    with current(found):
        yield found


@pytest.fixture
def bytespike(app: Celery) -> Iterator[ByteSpike]:
    with ByteSpike() as found:
        yield found


# -- a job ------------------------------------------------------------------------------------------------------------


def test_a_job_waits_for_the_test_and_then_calls_back(bytespike: ByteSpike) -> None:
    result = generate.apply_async(VIDEO, link=publish.s(user=7))

    assert (result.state, Job(result.id).status, RAN) == ("QUEUED", JobState.QUEUED, [])
    job = bytespike.complete(result)
    assert (job, job.status, result.state) == (Job(result.id), JobState.COMPLETED, "SUCCESS")
    assert RAN == [("completed", 7)]
    assert result.get()["output"][0]["type"] == "video"


def test_a_job_that_fails_calls_its_errback(bytespike: ByteSpike) -> None:
    result = generate.apply_async(VIDEO, link_error=apologise.s())

    bytespike.fail(result, code="nsfw", message="Not that.")

    (error,) = RAN
    assert isinstance(error, JobFailed)
    assert (error.job_id, error.code, error.message) == (result.id, "nsfw", "Not that.")
    with pytest.raises(JobFailed):
        result.get()


def test_a_job_is_seen_at_work(bytespike: ByteSpike) -> None:
    job = Job(generate.apply_async(VIDEO).id)

    bytespike.work()
    assert (job.status, job.state) == (JobState.PENDING, "PENDING_REMOTE")
    bytespike.start()
    bytespike.clock.advance(10)
    assert job.status is JobState.RUNNING
    assert 0 < job.progress < 1
    assert AsyncResult(job.id).info["job"]["polls"] > 0


@pytest.mark.parametrize("name", ["id", "handle", "result", "row", "nothing"])
def test_a_job_is_named_in_any_way(bytespike: ByteSpike, name: str) -> None:
    result = generate.apply_async(VIDEO)
    row = type("Row", (), {"job_id": result.id})()
    names: dict[str, Any] = {"id": result.id, "handle": Job(result.id), "result": result, "row": row, "nothing": None}

    assert bytespike.complete(names[name]).id == result.id


def test_outputs_cost_and_number_are_the_tests_to_say(bytespike: ByteSpike) -> None:
    one = generate.apply_async(PICTURE)
    remote = bytespike.complete(one, urls=["https://cdn.example/1", "https://cdn.example/2"], credits=3).result()
    assert (remote.urls, remote.credits_used) == (["https://cdn.example/1", "https://cdn.example/2"], 3)

    two = generate.apply_async(PICTURE)
    assert len(bytespike.complete(two, count=3).result().urls) == 3


def test_a_job_that_starts_later_is_waited_for(bytespike: ByteSpike) -> None:
    generate.apply_async(VIDEO, countdown=3600, link=publish.s())

    bytespike.work()
    assert bytespike.submits == []
    bytespike.complete()
    assert bytespike.clock.elapsed_s == pytest.approx(3600, abs=1)
    assert RAN == [("completed", 0)]


def test_a_job_that_is_over_can_t_end_again(bytespike: ByteSpike) -> None:
    result = generate.apply_async(VIDEO)
    bytespike.fail(result, code="nsfw", message="Not that.")

    with pytest.raises(AssertionError, match=r"has ended already: it is FAILED: nsfw: Not that\."):
        bytespike.complete(result)


def test_which_of_several_jobs_must_be_said(bytespike: ByteSpike) -> None:
    with pytest.raises(AssertionError, match="say which job: there is no open job"):
        bytespike.complete()
    first, second = generate.apply_async(VIDEO), generate.apply_async(VIDEO)
    with pytest.raises(AssertionError, match=f"say which job: there are 2 open jobs: {first.id}, {second.id}"):
        bytespike.complete()
    with pytest.raises(AssertionError, match="there is no job 'another' in this test"):
        bytespike.complete("another")
    with pytest.raises(TypeError, match="a job is named by"):
        bytespike.complete(7)  # type: ignore[arg-type]


def test_a_wrong_end_is_refused_in_our_words(bytespike: ByteSpike) -> None:
    generate.apply_async(VIDEO)

    with pytest.raises(InvalidRequest, match="an end takes"):
        bytespike.complete(colour="red")
    with pytest.raises(InvalidRequest, match="outcome must be one of"):
        bytespike.script("sora-2", {"outcome": "perhaps"})
    with pytest.raises(InvalidRequest, match="there is no model 'sora-9'"):
        bytespike.script("sora-9", {})
    with pytest.raises(InvalidRequest, match="a script is needed"):
        bytespike.script("sora-2")


# -- scripts and time -------------------------------------------------------------------------------------------------


def test_scripts_are_used_one_by_one_and_the_last_for_all_that_follow(bytespike: ByteSpike) -> None:
    bytespike.script("sora-2", {"outcome": "failed", "error_code": "one"}, {"outcome": "failed", "error_code": "two"})
    bytespike.script(None, {"credits": 5})
    jobs = [generate.apply_async(VIDEO, link_error=apologise.s()) for _ in range(3)]
    other = generate.apply_async(PICTURE)

    bytespike.run()

    assert [error.code for error in sorted(RAN, key=lambda error: [job.id for job in jobs].index(error.job_id))] == [
        "one",
        "two",
        "two",
    ]
    assert Job(other.id).result().credits_used == 5


def test_a_script_in_the_request_comes_first(bytespike: ByteSpike) -> None:
    bytespike.script("sora-2", {"outcome": "failed"})

    result = generate.apply_async(("sora-2", {"prompt": "a fox", "sandbox": {}}))
    bytespike.run()

    assert Job(result.id).status is JobState.COMPLETED


def test_a_job_ends_in_the_very_moment_in_which_its_remote_task_does(bytespike: ByteSpike) -> None:
    bytespike.script(None, {"duration_s": 90})
    job = Job(generate.apply_async(VIDEO).id)

    bytespike.clock.advance(89.9)
    assert job.status == "RUNNING"
    bytespike.clock.advance(0.2)
    assert job.status == "COMPLETED"


def test_time_does_not_go_backwards(bytespike: ByteSpike) -> None:
    with pytest.raises(ValueError, match="backwards"):
        bytespike.clock.advance(-1)


def test_a_deadline_passes_and_the_remote_task_is_cancelled(bytespike: ByteSpike) -> None:
    bytespike.script(None, {"outcome": "hang"})
    result = generate.apply_async(VIDEO, {"deadline_s": 600}, link_error=apologise.s())

    bytespike.clock.advance(599)
    assert RAN == []
    bytespike.clock.advance(1)
    assert isinstance(RAN[0], JobExpired)
    assert [task["status"] for task in bytespike.sandbox.tasks()] == ["cancelled"]
    assert result.state == "FAILURE"


def test_a_job_that_is_not_submitted_in_time_expires(bytespike: ByteSpike) -> None:
    bytespike.sandbox.fail("status", on="submit", status=429, times=None)
    result = generate.apply_async(VIDEO, expires=60, link_error=apologise.s())

    bytespike.run()

    assert isinstance(RAN[0], JobExpired)
    assert Job(result.id).status is JobState.EXPIRED


@pytest.mark.parametrize("way", ["cancel", "revoke"])
def test_a_cancelled_job_is_cancelled_at_bytespike(bytespike: ByteSpike, way: str) -> None:
    result = generate.apply_async(VIDEO, link_error=apologise.s())
    bytespike.start()

    if way == "cancel":
        assert Job(result.id).cancel()
    else:
        result.revoke()
    bytespike.work()

    assert (result.state, type(RAN[0])) == ("REVOKED", JobCancelled)
    assert bytespike.sandbox.stats()["status"] == {"cancelled": 1}


def test_lost_answers_cost_time_and_no_second_task(bytespike: ByteSpike) -> None:
    faults = [
        {"on": "submit", "kind": "lost_response"},
        {"on": "submit", "kind": "hang", "after": 1},
        {"on": "query", "kind": "garbage"},
    ]
    bytespike.script(None, {"faults": faults, "duration_s": 300})
    generate.apply_async(VIDEO, link=publish.s())

    bytespike.run()

    assert RAN == [("completed", 0)]
    assert len(bytespike.submits) == 1
    assert bytespike.sandbox.stats()["duplicate_submits"] >= 1
    assert bytespike.clock.elapsed_s >= 60, "the request that hung took as long as a submit may take"


def test_whoever_waits_for_a_job_lets_its_time_pass(bytespike: ByteSpike) -> None:
    bytespike.script(None, {"duration_s": 100})

    assert generate.apply_async(VIDEO).get()["status"] == "completed"
    assert Job(generate.apply_async(VIDEO).id).wait().status == "completed"
    assert 200 <= bytespike.clock.elapsed_s < 210


def test_whoever_waits_for_less_gives_up(bytespike: ByteSpike) -> None:
    bytespike.script(None, {"duration_s": 100})

    with pytest.raises(CeleryTimeout):
        generate.apply_async(VIDEO).get(timeout=50)
    with pytest.raises(JobNotFinished):
        Job(generate.apply_async(VIDEO).id).wait(timeout_s=50)


def test_a_job_that_is_called_directly_runs_there_in_no_time(bytespike: ByteSpike) -> None:
    bytespike.script(None, {"duration_s": 100})

    assert generate(*PICTURE)["status"] == "completed"
    assert generate.apply(VIDEO).get()["status"] == "completed"
    assert render_directly.delay().get() == "completed"
    assert bytespike.clock.elapsed_s >= 300


# -- Celery -----------------------------------------------------------------------------------------------------------


def test_a_chain_goes_on_with_what_the_job_brought(bytespike: ByteSpike) -> None:
    result: Any = chain(generate.s(*VIDEO), publish.s(user=7), note.si("the end")).delay()

    bytespike.complete()

    assert RAN == [("completed", 7), "the end"]
    assert result.get() == "the end"


def test_a_chain_of_jobs_is_a_chain(bytespike: ByteSpike) -> None:
    chain(note.s("first"), generate.si(*VIDEO), generate.si(*PICTURE), publish.s()).delay()

    (first,) = bytespike.jobs
    bytespike.complete(first)
    second = bytespike.jobs[1]
    bytespike.complete(second)

    assert RAN == ["first", ("completed", 0)]
    assert [submit.model for submit in bytespike.submits] == ["sora-2", "seedream-v4"]


def test_the_body_of_a_chord_runs_once_all_jobs_are_there(bytespike: ByteSpike) -> None:
    result = chord([generate.s(*VIDEO), generate.s(*PICTURE)], collect.s()).delay()

    first, second = bytespike.jobs
    bytespike.complete(second)
    assert not result.ready()
    bytespike.complete(first)
    assert result.get() == ["completed", "completed"]


def test_a_chord_fails_with_one_of_its_jobs(bytespike: ByteSpike) -> None:
    body = collect.s().on_error(note_of.s())
    result = chord([generate.s(*VIDEO), generate.s(*PICTURE)], body).delay()

    first, second = bytespike.jobs
    bytespike.complete(first)
    bytespike.fail(second)

    assert result.state == "FAILURE"
    assert len(RAN) == 1


def test_an_error_in_a_chord_is_raised_once(bytespike: ByteSpike) -> None:
    chord([explode.s(), note.s("a part")], collect.s()).delay()

    with pytest.raises(ZeroDivisionError):
        bytespike.work()


def test_a_group_of_jobs_has_a_result(bytespike: ByteSpike) -> None:
    result: Any = group(generate.s(*VIDEO), generate.s(*PICTURE)).apply_async()

    assert [one["status"] for one in result.get()] == ["completed", "completed"]


def test_many_jobs_are_started_at_once(bytespike: ByteSpike) -> None:
    ids = generate.apply_many([VIDEO] * 5, link=publish.s())

    bytespike.run()

    assert [job.id for job in bytespike.jobs] == ids
    assert len(RAN) == 5


def test_a_task_of_the_application_runs_as_soon_as_it_is_called(bytespike: ByteSpike) -> None:
    result = note.delay("now")

    assert RAN == ["now"]
    assert (result.state, result.get()) == ("SUCCESS", "now")


def test_what_a_worker_could_not_be_sent_can_t_be_sent_here(bytespike: ByteSpike) -> None:
    from kombu.exceptions import EncodeError

    with pytest.raises(EncodeError):
        note.delay(object())  # type: ignore[arg-type]


def test_callbacks_know_their_job_and_are_no_children_of_what_started_it(bytespike: ByteSpike) -> None:
    result = generate.apply_async(VIDEO, link=note_of.s())

    bytespike.complete()

    ((own_id, parent_id, root_id),) = RAN
    assert own_id not in (None, result.id)
    assert (parent_id, root_id) == (result.id, result.id)


def test_a_retry_and_a_countdown_wait_for_the_clock(bytespike: ByteSpike) -> None:
    hesitate.delay("retry")
    note.apply_async(("later",), countdown=90)

    assert RAN == ["retry 0"]
    bytespike.clock.advance(30)  # not 59: of the minute, a busy machine has used up some
    assert RAN == ["retry 0"]
    bytespike.clock.advance(31.5)
    assert RAN == ["retry 0", "retry 1"]
    bytespike.clock.advance(60)
    assert RAN == ["retry 0", "retry 1", "later", "retry 2"]


def test_a_message_that_expires_first_is_not_run(bytespike: ByteSpike) -> None:
    result = note.apply_async(("too late",), countdown=90, expires=60)

    bytespike.clock.advance(120)

    assert RAN == []
    assert str(result.state) == "REVOKED"


def test_a_callback_comes_again_under_its_id(bytespike: ByteSpike) -> None:
    generate.apply_async(VIDEO, link=[charge.s(), charge_each_time.s(), note_of.s()])
    bytespike.complete()

    assert bytespike.redeliver() == 3

    assert RAN.count("charged") == 1 + 2
    first, second = [ran for ran in RAN if ran != "charged"]
    assert first == second


# -- errors -----------------------------------------------------------------------------------------------------------


def test_what_a_callback_raises_is_raised(bytespike: ByteSpike) -> None:
    result = generate.apply_async(VIDEO, link=explode.s())

    with pytest.raises(ZeroDivisionError, match="of a task") as caught:
        bytespike.complete()

    assert caught.value.__notes__ == [f"raised by the task {explode.name}"]
    assert Job(result.id).status is JobState.COMPLETED


def test_what_an_errback_raises_is_raised(bytespike: ByteSpike) -> None:
    result = generate.apply_async(VIDEO, link_error=explode_inline.s())

    with pytest.raises(ZeroDivisionError, match="of an errback"):
        bytespike.fail()

    assert Job(result.id).status is JobState.FAILED


def test_several_errors_are_raised_together(bytespike: ByteSpike) -> None:
    generate.apply_async(VIDEO, link=[explode.s(), explode.s()])

    with pytest.raises(ExceptionGroup) as caught:
        bytespike.complete()

    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError, ZeroDivisionError]


def test_what_a_task_announces_is_no_error(bytespike: ByteSpike) -> None:
    generate.apply_async(VIDEO, link=miss.s())

    bytespike.complete()


def test_an_error_that_nobody_asked_for_is_raised_at_the_end(app: Celery) -> None:
    with pytest.raises(ZeroDivisionError), ByteSpike():
        explode.delay()


def test_an_error_of_the_test_itself_comes_first(app: Celery) -> None:
    def test() -> None:
        with ByteSpike():
            explode.delay()
            raise KeyError("of the test")

    with pytest.raises(KeyError, match="of the test"):
        test()


def test_a_task_that_nobody_knows_is_an_error(bytespike: ByteSpike, app: Celery) -> None:
    app.send_task("shop.tasks.unheard_of")

    with pytest.raises(LookupError, match=r"has no task 'shop\.tasks\.unheard_of'"):
        bytespike.work()


def test_tasks_that_call_each_other_for_ever_are_an_error(
    bytespike: ByteSpike, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks_bridge.testing.bytespike.MOST_TURNS", 50)
    for_ever.delay()

    with pytest.raises(RuntimeError, match="there is no end to what is due at this moment"):
        bytespike.work()


def test_a_task_that_waits_for_a_job_is_an_error(bytespike: ByteSpike) -> None:
    render_and_wait.delay()

    with pytest.raises(RuntimeError, match="can't run before it is over"):
        bytespike.work()


# -- settings ---------------------------------------------------------------------------------------------------------


def test_settings_are_the_apps_own_but_for_where_bytespike_is(app: Celery) -> None:
    install(app, Settings(api_key=SecretStr(KEY), api_keys={"studio": SecretStr(KEY)}, deadline_s=77))

    with ByteSpike() as bytespike:
        settings = bridge_of(app).settings
        assert settings.deadline_s == 77
        assert KEY not in {secret.get_secret_value() for secret in settings.keys.values()}
        assert set(settings.keys) == {"default", "studio"}
        bytespike.run()
        result = generate.apply_async(VIDEO, {"key": "studio"})
        bytespike.complete(result)
        with pytest.raises(SettingsError, match="There is no ByteSpike API key 'ads'"):
            generate.apply_async(VIDEO, {"key": "ads"})


def test_settings_can_be_changed_for_a_test(app: Celery) -> None:
    with ByteSpike(deadline_s=10) as bytespike:
        assert bridge_of(app).settings.deadline_s == 10
        bytespike.configure(deadline_s=20)
        assert bridge_of(app).settings.deadline_s == 20
        with pytest.raises(SettingsError):
            bytespike.configure(dead_line_s=20)
        with pytest.raises(SettingsError):
            bytespike.configure(deadline_s=-1)
        assert bridge_of(app).settings.deadline_s == 20
    assert bridge_of(app).settings.deadline_s is None


def test_limits_on_spending_hold(app: Celery) -> None:
    with ByteSpike(spend_limit=1.0, spend_limit_per_label=0.6) as bytespike:
        bytespike.script(None, {"estimated_credits": 0.5, "credits": 0.5})
        for label in ("a", "a", "b", "c"):
            generate.apply_async(VIDEO, {"label": label, "max_credits": 0.5}, link_error=apologise.s())
        bytespike.run()

        assert [error.scope for error in RAN] == ["label:a", "all"]
        assert spending().used == 1.0
        assert spending("a").left == pytest.approx(0.1)
        bytespike.configure(spend_limit=2.0)
        assert spending().left == 1.0


# -- apps -------------------------------------------------------------------------------------------------------------


def test_everything_is_as_before_after_the_test(app: Celery) -> None:
    app.conf.task_always_eager = True
    assert app.conf.broker_url == "redis://localhost:1/0"
    before = dict(app.conf.changes or {}), bridge_of(app), app.backend

    with ByteSpike() as bytespike:
        generate.apply_async(VIDEO)
        bytespike.complete()
        assert app.conf.task_always_eager is False

    assert (dict(app.conf.changes or {}), bridge_of(app)) == before[:2]
    assert type(app.backend) is type(before[2])


def test_nothing_of_one_test_is_there_in_the_next(app: Celery) -> None:
    with ByteSpike() as bytespike:
        generate.apply_async(VIDEO, task_id="render-1")
        note.apply_async(("of the first",), countdown=10)
        bytespike.complete()
    with ByteSpike() as bytespike:
        assert AsyncResult("render-1").state == "PENDING"
        assert (bytespike.jobs, bytespike.submits) == ([], [])
        bytespike.clock.advance(20)
        assert RAN == []
        generate.apply_async(PICTURE, task_id="render-1")
        bytespike.complete()


def test_an_app_that_is_made_in_the_test_is_led_to_it_too(bytespike: ByteSpike) -> None:
    late = Celery("late", set_as_current=False)
    install(late, Settings(api_key=SecretStr(KEY)))
    late.conf.update(broker_url="redis://localhost:1/0")

    with current(late):
        result = generate.apply_async(VIDEO, link=publish.s())
        bytespike.complete(result)

    assert RAN == [("completed", 0)]
    assert bytespike.jobs[0]._app is late


def test_an_app_under_a_namespace_is_led_to_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://localhost:1/0")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "redis://localhost:1/0")
    found = Celery("named", set_as_current=False)
    source = {"SHOP_BROKER_URL": "redis://localhost:1/0", "SHOP_TASK_ALWAYS_EAGER": True, "SHOP_TASK_PROTOCOL": 1}
    found.config_from_object(type("Conf", (), source), namespace="SHOP")
    install(found, Settings(api_key=SecretStr(KEY)))

    with current(found), ByteSpike() as bytespike:
        generate.apply_async(VIDEO, link=publish.s())
        bytespike.complete()

    assert RAN == [("completed", 0)]
    assert found.conf.task_always_eager is True
    assert found.conf.broker_url == "redis://localhost:1/0"


def test_two_apps_have_jobs_of_their_own(app: Celery) -> None:
    other = Celery("other", set_as_current=False)
    install(other, Settings(api_key=SecretStr(KEY)))
    with ByteSpike() as bytespike:
        generate.apply_async(VIDEO, link=publish.s(user=1))
        with current(other):
            generate.apply_async(PICTURE, link=publish.s(user=2))
        bytespike.run()
        assert len(bytespike.jobs) == 2
    assert sorted(RAN) == [("completed", 1), ("completed", 2)]


def test_one_is_open_at_a_time(bytespike: ByteSpike) -> None:
    with pytest.raises(RuntimeError, match="is open already"), ByteSpike():
        pass


# -- other threads, other loops ---------------------------------------------------------------------------------------


def test_a_job_that_is_started_in_another_thread_is_the_tests_too(bytespike: ByteSpike, app: Celery) -> None:
    def serve() -> None:
        with current(app):
            generate.apply_async(VIDEO, link=publish.s())
            note.delay("served")

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()

    assert RAN == ["served"]
    bytespike.complete()
    assert RAN == ["served", ("completed", 0)]


def test_it_works_within_an_async_test(bytespike: ByteSpike) -> None:
    async def test() -> None:
        generate.apply_async(VIDEO, link=publish.s())
        bytespike.complete()
        await asyncio.to_thread(bytespike.run)
        assert generate(*PICTURE)["status"] == "completed"

    asyncio.run(test())

    assert RAN == [("completed", 0)]
