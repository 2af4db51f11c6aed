"""The course of tasks as a test sets it from outside: scripts for a model, a start, an end."""

from __future__ import annotations

from typing import Any

import pytest

from tasks_bridge import Client
from tasks_bridge.sandbox import Refusal, Sandbox, SandboxServer
from tasks_bridge.sandbox.plan import read_submission

KEY = "sk-byts-any"


class Course:
    """A sandbox whose clock is the test's, asked without HTTP."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sandbox = Sandbox(clock=lambda: self.now)

    def submit(self, out_task_id: str, model: str = "sora-2", **params: Any) -> None:
        dispatcher = self.sandbox.dispatcher
        submission = read_submission({"model": model, "params": params, "out_task_id": out_task_id})
        dispatcher.submit("me", dispatcher.scripted("me", submission), now_s=self.now, base_url="http://files.test")

    def view(self, out_task_id: str) -> dict[str, Any]:
        entry = self.sandbox.dispatcher.of_job(out_task_id)
        assert entry is not None
        return entry.task.view(self.now)


@pytest.fixture
def course() -> Course:
    return Course()


def test_scripts_go_one_to_each_task_of_the_model_and_the_last_to_all_that_follow(course: Course) -> None:
    course.sandbox.script("sora-2", {"outcome": "failed", "error_code": "nsfw"}, {"duration_s": 5})
    for name in ("one", "two", "three"):
        course.submit(name)
    course.submit("picture", model="seedream-v4")

    course.now += 5
    assert [course.view(name)["status"] for name in ("two", "three")] == ["completed", "completed"]
    course.now += 1000
    assert course.view("one")["error_code"] == "nsfw"
    assert course.view("picture")["status"] == "completed"


def test_a_repeated_submit_keeps_its_script(course: Course) -> None:
    course.sandbox.script(
        "sora-2", {"outcome": "failed", "error_code": "one"}, {"outcome": "failed", "error_code": "two"}
    )
    course.submit("one")
    course.submit("one")
    course.submit("two")

    course.now += 1000
    assert [course.view(name)["error_code"] for name in ("one", "two")] == ["one", "two"]


def test_the_models_own_script_comes_before_that_of_any_and_the_requests_own_before_both(course: Course) -> None:
    course.sandbox.script(None, {"credits": 1})
    course.sandbox.script("sora-2", {"credits": 2})
    course.submit("of-model")
    course.submit("of-any", model="seedream-v4")
    course.submit("own", sandbox={"credits": 3})

    course.now += 1000
    assert [course.view(name)["credits_used"] for name in ("of-model", "of-any", "own")] == [2, 1, 3]


def test_a_model_is_scripted_under_any_of_its_names(course: Course) -> None:
    course.sandbox.script("SeeDream v4".replace(" ", "-"), {"credits": 7})
    course.submit("one", model="seedream-v4")

    course.now += 1000
    assert course.view("one")["credits_used"] == 7


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sora-9", {}), "there is no model 'sora-9'"),
        (("sora-2",), "a script is needed"),
        (("sora-2", {"outcom": "failed"}), "unknown members: outcom"),
    ],
)
def test_a_wrong_script_is_refused_and_changes_nothing(course: Course, arguments: tuple[Any, ...], said: str) -> None:
    course.sandbox.script("sora-2", {"credits": 1})

    with pytest.raises(Refusal) as caught:
        course.sandbox.script(*arguments)

    assert said in caught.value.message
    course.submit("one")
    course.now += 1000
    assert course.view("one")["credits_used"] == 1


def test_a_task_starts_when_it_is_told_and_ends_when_it_would_have(course: Course) -> None:
    course.submit("one", sandbox={"pending_s": 50, "duration_s": 100})

    assert course.sandbox.start_task("one")
    assert course.view("one")["status"] == "running"
    assert not course.sandbox.start_task("one")
    course.now += 100
    assert course.view("one")["status"] == "completed"
    assert not course.sandbox.start_task("one")


def test_a_task_ends_as_it_is_told_once(course: Course) -> None:
    for name in ("done", "failed", "hung"):
        course.submit(name, sandbox={"outcome": "hang"})

    assert course.sandbox.end_task("done", credits=2, output=[{"url": "https://cdn.example/fox"}])
    assert course.sandbox.end_task("failed", outcome="failed", error_code="nsfw")
    assert course.sandbox.end_task("hung", outcome="failed", error_message="Not that.")

    done, failed, hung = (course.view(name) for name in ("done", "failed", "hung"))
    assert (done["status"], done["credits_used"]) == ("completed", 2)
    assert done["output"] == [{"url": "https://cdn.example/fox"}]
    assert (failed["error_code"], failed["error_message"]) == ("nsfw", "The generation failed.")
    assert (hung["error_code"], hung["error_message"]) == ("content_policy_violation", "Not that.")
    assert not course.sandbox.end_task("done", outcome="failed")
    assert course.view("done")["status"] == "completed"


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"duration_s": 1}, "an end takes"),
        ({"outcome": "hang"}, "no way to end"),
        ({"credits": -1}, "params.sandbox.credits must be"),
    ],
)
def test_a_wrong_end_is_refused_and_changes_nothing(course: Course, members: dict[str, Any], said: str) -> None:
    course.submit("one")

    with pytest.raises(Refusal) as caught:
        course.sandbox.end_task("one", **members)

    assert said in caught.value.message
    assert course.view("one")["status"] == "pending"


def test_an_unknown_task_neither_starts_nor_ends(course: Course) -> None:
    for change in (course.sandbox.start_task, course.sandbox.end_task):
        with pytest.raises(Refusal) as caught:
            change("nobody")
        assert caught.value.status == 404


def test_a_reset_forgets_scripts(course: Course) -> None:
    course.sandbox.script(None, {"credits": 1})
    course.sandbox.reset()
    course.submit("one", sandbox={"duration_s": 1})
    course.submit("two")

    course.now += 1000
    assert course.view("two")["credits_used"] != 1


def test_over_http_it_is_the_same_and_the_tasks_tell_what_was_asked_for() -> None:
    with SandboxServer() as server, Client(KEY, server.url) as client:
        server.script("sora-2", {"outcome": "failed", "error_code": "nsfw", "duration_s": 0})
        client.submit("sora-2", {"prompt": "a fox"}, out_task_id="one")
        client.submit("seedream-v4", {"prompt": "a hare"}, out_task_id="two")

        assert client.query(out_task_id="one").error_code == "nsfw"
        assert server.start_task("two")
        assert client.query(out_task_id="two").status == "running"
        assert server.end_task("two", credits=9)
        assert client.query(out_task_id="two").credits_used == 9
        assert [task["params"] for task in server.tasks()] == [{"prompt": "a fox"}, {"prompt": "a hare"}]
