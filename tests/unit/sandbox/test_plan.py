import random
from typing import Any

import pytest

from tasks_bridge.sandbox.catalogue import CATALOGUE, find_model
from tasks_bridge.sandbox.plan import plan_task, read_submission
from tasks_bridge.sandbox.refusal import Refusal
from tasks_bridge.sandbox.timeline import Task

CLIP = {"prompt": "a fox", "duration_seconds": 8}


def plan(model: str, params: dict[str, Any], *, speed: float = 1.0, seed: int = 0) -> Task:
    return plan_task(
        read_submission({"model": model, "params": params}),
        task_id="task_1",
        owner="me",
        now_s=1000.0,
        rng=random.Random(seed),
        speed=speed,
        base_url="http://here",
    )


@pytest.mark.parametrize("seed", range(20))
def test_an_unscripted_clip_takes_what_its_page_calls_typical(seed: int) -> None:
    task = plan("sora-2-pro", CLIP, seed=seed)

    assert 120 <= task.ended_s - task.created_s <= 180
    assert task.created_s < task.started_s < task.ended_s
    assert (task.estimated_seconds, task.estimated_credits, task.credits) == (35, 1.5, 1.47)


@pytest.mark.parametrize("model", [model.slug for model in CATALOGUE])
def test_every_model_has_a_course_within_its_latency(model: str) -> None:
    known = find_model(model)
    assert known is not None
    length = {"duration_seconds": known.reference_length_s} if known.kind == "video" else {}
    task = plan(model, {"prompt": "a fox", **length})

    assert known.latency_s[0] <= task.ended_s - task.created_s <= known.latency_s[1]
    assert task.outcome == "completed"
    assert task.estimated_seconds is not None


def test_the_same_seed_gives_the_same_course() -> None:
    assert plan("sora-2", CLIP, seed=7) == plan("sora-2", CLIP, seed=7)
    assert plan("sora-2", CLIP, seed=7).ended_s != plan("sora-2", CLIP, seed=8).ended_s


def test_speed_divides_durations_and_the_estimate_but_not_below_a_second() -> None:
    fast = plan("sora-2-pro", CLIP, speed=10)
    slow = plan("sora-2-pro", CLIP)

    assert (fast.ended_s - 1000) * 10 == pytest.approx(slow.ended_s - 1000)
    assert fast.estimated_seconds == round(35 / 10)
    assert plan("sora-2-pro", CLIP, speed=1000).estimated_seconds == 1


def test_a_script_overrides_the_model() -> None:
    script = {"duration_s": 4, "pending_s": 0.5, "estimate_s": 9, "credits": 3, "estimated_credits": 2}
    task = plan("sora-2-pro", CLIP | {"sandbox": script})

    assert (task.started_s, task.ended_s) == (1000.5, 1004)
    assert (task.estimated_seconds, task.credits, task.estimated_credits) == (9, 3, 2)


def test_a_script_is_as_much_faster_as_the_rest() -> None:
    task = plan("sora-2", CLIP | {"sandbox": {"duration_s": 40, "pending_s": 10, "estimate_s": 30}}, speed=10)

    assert (task.started_s, task.ended_s, task.estimated_seconds) == (1001, 1004, 3)


def test_a_hanging_task_never_ends() -> None:
    assert plan("sora-2", CLIP | {"sandbox": {"outcome": "hang"}}).state(1e12) == "running"


@pytest.mark.parametrize("prompt", ["something forbidden", "FORBIDDEN"])
def test_a_forbidden_prompt_fails_under_content_policy(prompt: str) -> None:
    task = plan("sora-2", CLIP | {"prompt": prompt})

    assert task.view(task.ended_s) == {
        "task_id": "task_1",
        "status": "failed",
        "error_code": "content_policy_violation",
        "error_message": "The prompt was rejected under content policy.",
    }


def test_a_script_may_let_a_forbidden_prompt_pass() -> None:
    assert plan("sora-2", {"prompt": "forbidden", "sandbox": {"outcome": "completed"}}).outcome == "completed"


@pytest.mark.parametrize(
    ("params", "size"),
    [
        ({}, (1920, 1080)),
        ({"resolution": "720p"}, (1280, 720)),
        ({"resolution": "720p", "aspect_ratio": "9:16"}, (720, 1280)),
        ({"aspect_ratio": "1:1"}, (1080, 1080)),
        ({"aspect_ratio": "21:9"}, (1920, 1080)),
    ],
)
def test_the_size_of_a_clip_follows_its_resolution_and_aspect(params: dict[str, Any], size: object) -> None:
    task = plan("sora-2-pro", CLIP | params)

    assert (task.width, task.height) == size


def test_pictures_have_the_size_and_number_asked_for() -> None:
    task = plan("seedream-v4", {"prompt": "a fox", "size": "640x480", "n": 3})

    assert [(element["width"], element["height"]) for element in task.outputs(0)] == [(640, 480)] * 3


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("sora-2", {"duration_seconds": 11}),
        ("sora-2", {"duration_seconds": 0}),
        ("sora-2", {"duration_seconds": "5"}),
        ("seedream-v4", {"n": 5}),
        ("seedream-v4", {"n": True}),
        ("seedream-v4", {"size": "100000x1"}),
    ],
)
def test_what_a_model_cannot_do_is_refused(model: str, params: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as caught:
        plan(model, params)

    assert caught.value.code == "invalid_param"


@pytest.mark.parametrize(
    ("slug", "known_as"),
    [
        ("sora2", "sora-2"),
        ("sora2-pro", "sora-2-pro"),
        ("veo3.1", "veo-3.1"),
        ("veo-3-1", "veo-3.1"),
        ("veo3.1-fast", "veo-3.1-fast"),
        ("seedance-2-0-pro", "seedance-2.0-pro"),
        ("seedance-pro", "seedance-2.0-pro"),
        ("seedance2", "seedance-2.0"),
        ("seedance2-fast", "seedance-fast"),
    ],
)
def test_a_model_is_known_under_all_its_documented_names(slug: str, known_as: str) -> None:
    model = find_model(slug)

    assert model is not None
    assert model.slug == known_as


def test_equal_params_have_one_digest_in_any_order_and_8_is_not_8_point_0() -> None:
    def digest(**params: object) -> str:
        return read_submission({"model": "sora-2", "params": params}).digest

    assert digest(prompt="a", seed=8) == digest(seed=8, prompt="a")
    assert digest(prompt="a", seed=8) != digest(prompt="a", seed=8.0)
