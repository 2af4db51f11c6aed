"""
From a submitted request to the course its task will take.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass, field
from typing import Any, Final

from tasks_bridge.sandbox.catalogue import Model, find_model, is_text_model
from tasks_bridge.sandbox.refusal import Refusal, invalid_param
from tasks_bridge.sandbox.script import NO_SCRIPT, Script, parse_script
from tasks_bridge.sandbox.timeline import Task

JsonObject = dict[str, Any]

POLICY_WORD: Final = "forbidden"
_POLICY_CODE: Final = "content_policy_violation"
_POLICY_MESSAGE: Final = "The prompt was rejected under content policy."

# The one documented pair: 35 s estimated where 120 to 180 s are typical (contract, section 4).
_OPTIMISM: Final = 35 / 150
# The one documented pair: 1.50 estimated, 1.47 used (API, /tasks/query page).
_USED_SHARE: Final = 0.98
_FIXED_SHARE_OF_LATENCY: Final = 0.3
_DEFAULT_LENGTH_S: Final = 5
_DEFAULT_PICTURE: Final = (1024, 1024)
_LARGEST_SIDE: Final = 4096
_SHORT_SIDE: Final = {"480p": 480, "720p": 720, "1080p": 1080}
_ASPECTS: Final = {"16:9": (16, 9), "9:16": (9, 16), "1:1": (1, 1)}


@dataclass(frozen=True, slots=True)
class Submission:
    """
    A submit request, checked.
    """

    model: str
    params: JsonObject
    out_task_id: str | None = None
    callback_url: str | None = None
    script: Script = field(default=NO_SCRIPT)

    @property
    def digest(self) -> str:
        """
        Identify model and params. The order of members is no difference; 8 and 8.0 are.
        """
        text = json.dumps([self.model, self.params], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def read_submission(body: JsonObject) -> Submission:
    """
    Check the body of a submit.

    Raises:
        Refusal: 400 ``invalid_param`` (missing or wrong field, text model), 400 ``model_not_found``.

    Source: contract, section 3.
    """
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise invalid_param("`model` is required and must be a string")
    params = body.get("params")
    if not isinstance(params, dict):
        raise invalid_param("`params` is required and must be an object")
    if find_model(model) is None:
        if is_text_model(model):
            raise invalid_param(f'model "{model}" is not a multimodal task model')
        raise Refusal(400, "model_not_found", f'model "{model}" is not in the catalogue')
    script = parse_script(params["sandbox"]) if "sandbox" in params else NO_SCRIPT
    callback_url = _optional_text(body, "callback_url")
    if callback_url is not None and not callback_url.startswith(("https://", "http://")):
        raise invalid_param("`callback_url` must be an http(s) URL")
    return Submission(model, params, _optional_text(body, "out_task_id"), callback_url, script)


def plan_task(
    submission: Submission,
    *,
    task_id: str,
    owner: str,
    now_s: float,
    rng: random.Random,
    speed: float,
    base_url: str,
) -> Task:
    """
    Decide the whole course of a task.

    What the script leaves open follows the model: its typical latency, scaled with the length of the clip,
    and an estimate as optimistic as the documented one. A prompt with the word ``forbidden`` in it fails
    under content policy. All durations, and the reported estimate (at least 1), are divided by *speed*.

    Raises:
        Refusal: 400 ``invalid_param`` for a length, count or size the model does not have.
    """
    script = submission.script
    model = find_model(submission.model)
    if model is None:  # read_submission has refused it
        raise invalid_param("unknown model")
    length_s = _length_s(model, submission.params)
    count = script.count if script.count is not None else _count(model, submission.params)
    width, height = _size(model, submission.params)

    shortest_s, longest_s = (latency_s * _scale(model, length_s) for latency_s in model.latency_s)
    latency_s = rng.triangular(shortest_s, longest_s)
    usual_pending_s = min(rng.uniform(0.5, 3.0), latency_s / 5)
    outcome = script.outcome or "completed"
    prompt = submission.params.get("prompt")
    if script.outcome is None and isinstance(prompt, str) and POLICY_WORD in prompt.lower():
        outcome = "failed"
        latency_s /= 5
    duration_s = latency_s if script.duration_s is None else script.duration_s
    pending_s = min(usual_pending_s, duration_s / 5) if script.pending_s is None else script.pending_s
    estimate_s = _OPTIMISM * (shortest_s + longest_s) / 2 if script.estimate_s is None else script.estimate_s
    price = model.credits * (length_s if model.kind == "video" else max(1, count))
    estimated = round(price, 4) if script.estimated_credits is None else script.estimated_credits

    return Task(
        task_id=task_id,
        out_task_id=submission.out_task_id,
        owner=owner,
        model=submission.model,
        digest=submission.digest,
        created_s=now_s,
        started_s=now_s + pending_s / speed,
        ended_s=float("inf") if outcome == "hang" else now_s + duration_s / speed,
        outcome="completed" if outcome == "hang" else outcome,
        estimated_credits=estimated if script.has_estimated_credits else None,
        estimated_seconds=max(1, round(estimate_s / speed)) if script.has_estimate else None,
        credits=round(price * _USED_SHARE, 4) if script.credits is None else script.credits,
        error_code=script.error_code or _POLICY_CODE,
        error_message=_error_message(script),
        kind=model.kind,
        width=width,
        height=height,
        length_s=length_s,
        count=count,
        base_url=base_url,
        callback_url=submission.callback_url,
        output=script.output,
        url_life_s=script.url_life_s,
        file_bytes=script.file_bytes,
        cancel_policy=script.cancel,
        cancel_credits=script.cancel_credits,
        dialect=script.dialect,
        unknown_field=script.unknown_field,
        unknown_status=script.unknown_status,
    )


def end_task(task: Task, end: Script, now_s: float) -> bool:
    """
    Let *task* end now as *end* says, and say whether it did: one that has ended already keeps its end.

    What *end* leaves open is as planned at the submit, or as a plain failure has it.
    """
    if task.has_ended(now_s):
        return False
    task.outcome = end.outcome or "completed"
    task.ended_s = now_s
    task.started_s = min(task.started_s, now_s)
    if end.error_code is not None or end.error_message is not None:
        task.error_code = end.error_code or _POLICY_CODE
        task.error_message = _error_message(end)
    task.credits = task.credits if end.credits is None else end.credits
    task.count = task.count if end.count is None else end.count
    task.output = task.output if end.output is None else end.output
    return True


def _error_message(script: Script) -> str:
    if script.error_message:
        return script.error_message
    return _POLICY_MESSAGE if script.error_code in (None, _POLICY_CODE) else "The generation failed."


def _scale(model: Model, length_s: int) -> float:
    if model.kind == "image":
        return 1.0
    return _FIXED_SHARE_OF_LATENCY + (1 - _FIXED_SHARE_OF_LATENCY) * length_s / model.reference_length_s


def _length_s(model: Model, params: JsonObject) -> int:
    if model.kind == "image":
        return 0
    length_s = params.get("duration_seconds", min(_DEFAULT_LENGTH_S, model.max_length_s))
    return _whole("duration_seconds", length_s, model.max_length_s)


def _count(model: Model, params: JsonObject) -> int:
    return 1 if model.kind == "video" else _whole("n", params.get("n", 1), model.max_count)


def _size(model: Model, params: JsonObject) -> tuple[int, int]:
    """
    Return width and height in pixels; what is not understood gets the model's usual size.
    """
    if model.kind == "video":
        short = _SHORT_SIDE.get(str(params.get("resolution", "")), _SHORT_SIDE[model.default_resolution])
        across, down = _ASPECTS.get(str(params.get("aspect_ratio", "")), _ASPECTS["16:9"])
        return short * across // min(across, down), short * down // min(across, down)
    width, _, height = str(params.get("size", "")).lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        return _DEFAULT_PICTURE
    size = int(width), int(height)
    if not all(1 <= side <= _LARGEST_SIDE for side in size):
        raise invalid_param(f"`params.size` must have sides of 1 to {_LARGEST_SIDE} pixels")
    return size


def _whole(name: str, value: object, highest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= highest:
        raise invalid_param(f"`params.{name}` must be a whole number from 1 to {highest} for this model")
    return value


def _optional_text(body: JsonObject, name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise invalid_param(f"`{name}` must be a string")
    return value or None
