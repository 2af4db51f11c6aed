from __future__ import annotations

import json
from typing import Any

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks_bridge.models import RemoteStatus, RemoteTask, SavedOutput

RUNNING: dict[str, Any] = {
    "task_id": "task_01HQX9F2P6Y8VEX3CRZ8GXJVD9",
    "out_task_id": "my-render-2026-05-25-001",
    "status": "running",
    "estimated_credits": 1.50,
    "estimated_seconds": 35,
}
COMPLETED: dict[str, Any] = {
    "task_id": "task_01HQX9F2P6Y8VEX3CRZ8GXJVD9",
    "out_task_id": "my-render-2026-05-25-001",
    "status": "completed",
    "credits_used": 1.47,
    "output": [
        {
            "type": "video",
            "url": "https://cdn.bytespike.ai/multimodal/sora-2/2026-05-25/01HQX9F2P6Y8VEX3CRZ8GXJVD9.mp4",
            "duration_seconds": 8,
            "width": 1920,
            "height": 1080,
        }
    ],
}
FAILED: dict[str, Any] = {
    "task_id": "task_01HQX9F2P6Y8VEX3CRZ8GXJVD9",
    "out_task_id": "my-render-2026-05-25-001",
    "status": "failed",
    "error_code": "content_policy_violation",
    "error_message": "The prompt was rejected under content policy.",
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
task_objects = st.dictionaries(
    st.sampled_from(sorted(RemoteTask.model_fields)) | st.text(), json_values, max_size=12
).map(lambda fields: fields | {"task_id": "task_1", "status": "running"})


@pytest.mark.parametrize("data", [RUNNING, COMPLETED, FAILED], ids=lambda data: data["status"])
def test_the_documented_answers_come_back_as_they_were(data: dict[str, Any]) -> None:
    assert RemoteTask.model_validate(data).to_json() == data


@given(task_objects)
def test_any_task_object_is_read_and_its_json_is_the_same_task(data: dict[str, Any]) -> None:
    task = RemoteTask.model_validate(data)

    assert RemoteTask.model_validate(json.loads(json.dumps(task.to_json()))) == task
    assert all(isinstance(url, str) for url in task.urls)


@given(task_objects)
def test_unknown_fields_are_kept_as_they_came(data: dict[str, Any]) -> None:
    unknown = {name: value for name, value in data.items() if name not in RemoteTask.model_fields}

    assert unknown.items() <= RemoteTask.model_validate(data).to_json().items()


def test_unknown_fields_named_like_our_attributes_do_no_harm() -> None:
    names = [
        "urls",
        "is_terminal",
        "to_json",
        "model_config",
        "model_fields",
        "__class__",
        "__dict__",
        "self",
    ]
    task = RemoteTask.model_validate(RUNNING | dict.fromkeys(names, 1))

    assert task.urls == []
    assert task.is_terminal is False
    assert task.to_json() == RUNNING | dict.fromkeys(names, 1)


def test_the_known_statuses_are_those_of_the_documentation() -> None:
    assert list(RemoteStatus) == ["pending", "running", "completed", "failed", "cancelled"]


@pytest.mark.parametrize("status", list(RemoteStatus))
def test_three_statuses_are_terminal(status: RemoteStatus) -> None:
    task = RemoteTask(task_id="task_1", status=status)

    assert task.is_terminal is (status in {"completed", "failed", "cancelled"})
    assert task.status == status.value


def test_the_older_queued_is_pending() -> None:
    assert RemoteTask(task_id="task_1", status="queued").status == "pending"


@pytest.mark.parametrize("status", ["Completed", " completed ", "COMPLETED"])
def test_a_known_status_is_known_in_any_spelling(status: str) -> None:
    assert RemoteTask(task_id="task_1", status=status).is_terminal


@pytest.mark.parametrize("status", ["archived", "", "Timed Out", "complete"])
def test_an_unknown_status_is_kept_and_is_not_terminal(status: str) -> None:
    task = RemoteTask(task_id="task_1", status=status)

    assert task.status == status
    assert not task.is_terminal


@pytest.mark.parametrize("field", ["estimated_credits", "estimated_seconds", "credits_used"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (35, 35.0),
        ("35", 35.0),
        (" 1.5 ", 1.5),
        (0, 0.0),
        ("soon", None),
        ("", None),
        (None, None),
        (True, None),
        ([35], None),
        ({"value": 35}, None),
        (float("nan"), None),
        (float("inf"), None),
        ("1e999", None),
        (10**400, None),
    ],
    ids=lambda value: repr(value)[:12],
)
def test_a_number_that_makes_no_sense_is_none(field: str, value: object, expected: float | None) -> None:
    assert getattr(RemoteTask.model_validate(RUNNING | {field: value}), field) == expected


def test_no_task_is_estimated_to_end_before_it_began() -> None:
    assert RemoteTask.model_validate(RUNNING | {"estimated_seconds": -1}).estimated_seconds is None


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (None, None),
        ([], []),
        ([{"b64_json": "…"}], [{"b64_json": "…"}]),
        ({"url": "https://cdn.test/a"}, [{"url": "https://cdn.test/a"}]),
        ("https://cdn.test/a", [{"url": "https://cdn.test/a"}]),
        (["https://cdn.test/a", 7], [{"url": "https://cdn.test/a"}, {"value": 7}]),
    ],
)
def test_output_is_always_a_list_of_objects(output: object, expected: object) -> None:
    assert RemoteTask.model_validate(COMPLETED | {"output": output}).output == expected


def test_urls_are_those_of_the_output_that_has_some() -> None:
    output = [
        {"url": "https://cdn.test/a"},
        {"b64_json": "…"},
        {"url": None},
        {"url": ""},
        {"url": "https://cdn.test/b"},
    ]

    assert RemoteTask.model_validate(COMPLETED | {"output": output}).urls == [
        "https://cdn.test/a",
        "https://cdn.test/b",
    ]


@pytest.mark.parametrize("field", ["task_id", "status"])
@pytest.mark.parametrize("value", [None, [], {}, True])
def test_a_task_without_identity_or_status_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        RemoteTask.model_validate(RUNNING | {field: value})


def test_identifiers_that_are_numbers_are_read_as_text() -> None:
    task = RemoteTask.model_validate({"task_id": 17, "out_task_id": 4, "status": "failed", "error_code": 1300})

    assert (task.task_id, task.out_task_id, task.error_code) == ("17", "4", "1300")


def test_a_task_cannot_be_changed() -> None:
    task = RemoteTask.model_validate(RUNNING)

    with pytest.raises(ValidationError, match="frozen"):
        task.status = "completed"  # type: ignore[misc]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("data", [RUNNING, COMPLETED, FAILED], ids=lambda data: data["status"])
def test_celery_hands_a_pydantic_task_the_object(data: dict[str, Any], strict: bool) -> None:
    app = Celery(set_as_current=False)
    received: list[object] = []

    @app.task(shared=False, pydantic=True, pydantic_strict=strict)
    def publish(video: RemoteTask, user_id: int) -> None:
        received.append(video)

    task = RemoteTask.model_validate(data | {"upstream_provider": None})
    publish(task.to_json(), user_id=7)

    assert received == [task]


def test_a_celery_task_may_return_the_object() -> None:
    app = Celery(set_as_current=False)

    @app.task(shared=False, pydantic=True)
    def pass_on(video: RemoteTask) -> RemoteTask:
        return video

    task = RemoteTask.model_validate(COMPLETED)

    assert RemoteTask.model_validate(pass_on(task.to_json())) == task


SAVED: dict[str, Any] = {"path": "/srv/fox.mp4", "bytes": 7, "sha256": "0" * 64, "content_type": "video/mp4"}


def test_where_outputs_are_saved_is_said_in_their_order_and_of_those_that_are() -> None:
    output = [
        {"url": "https://a", "saved": SAVED},
        {"url": "https://b"},
        {"url": "https://c", "saved": True},  # a member of ByteSpike's own
        {"url": "https://d", "saved": {**SAVED, "path": "/srv/fox-1.mp4", "frames": 192}},
    ]
    task = RemoteTask.model_validate({**COMPLETED, "output": output})

    assert [saved.path for saved in task.saved] == ["/srv/fox.mp4", "/srv/fox-1.mp4"]
    assert task.saved[0] == SavedOutput(**SAVED)
    assert RemoteTask.model_validate(task.to_json()).saved == task.saved


@pytest.mark.parametrize("task", [RUNNING, COMPLETED, {**COMPLETED, "output": []}])
def test_nothing_is_saved_before_it_was(task: dict[str, Any]) -> None:
    assert RemoteTask.model_validate(task).saved == []


def test_what_is_saved_does_not_change() -> None:
    with pytest.raises(ValidationError):
        SavedOutput(**SAVED).path = "/srv/other.mp4"  # type: ignore[misc]
