"""
What a web page sees of a job: a small JSON document that its end user may read as it is. Pure.

```json
{
  "id": "my-render-001",
  "state": "RUNNING",
  "is_over": false,
  "is_cancelling": false,
  "progress": 0.41,
  "eta_s": 21,
  "is_late": false,
  "outputs": [],
  "error": null,
  "poll_s": 2
}
```

- ``state``: a `JobState`; ``is_over``: whether nothing will change any more.
- ``progress``: the share of the work done, 1 only once it is over; ``eta_s``: whole seconds that are probably left,
  null while nobody can tell. Both are guesses of this moment.
- ``is_late``: whether it takes unusually long.
- ``outputs``: ``{"url", "type"}`` and, where ByteSpike told them, ``width``, ``height``, ``duration_seconds``.
- ``error``: ``{"code", "message"}`` of a job that ended without outputs. The code is for programs, and a key to
  translations; the message is English for the end user.
- ``poll_s``: when it pays to ask again, for whoever polls; null once it is over.
- ``credits``: what it cost, only where the application shows that (``TASKS_BRIDGE_SHOW_CREDITS``).

Nothing else gets out: no prompt, no parameter, no model, no word of ByteSpike's that was meant for its client.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final, TypedDict

from tasks_bridge import facts
from tasks_bridge.record import JobState

if TYPE_CHECKING:
    from tasks_bridge.record import JobRecord
    from tasks_bridge.store import Entry


class Output(TypedDict, total=False):
    """One picture, video or other file. Its URL is said to expire after 24 hours (contract, section 11)."""

    url: str
    type: str
    width: float
    height: float
    duration_seconds: float


class Problem(TypedDict):
    """Why a job ended without outputs."""

    code: str
    message: str


POLL_S: Final = (2.0, 15.0)
"""Bounds of ``poll_s``: as often as a person notices, and as seldom as one who waits for hours minds."""

POLLS_PER_ETA: Final = 10

MESSAGES: Final = {
    "content_policy_violation": "This request was refused because of its content. Please change it and try again.",
    "cancelled": "This was cancelled.",
    "expired": "This took too long and was stopped. Please try again.",
    "limit": "The limit for such requests is reached. Please try again later.",
    "refused": "This request could not be accepted. Please change it and try again.",
    "failed": "This did not work out. Please try again.",
}
"""What end users are told, by code. A code of ByteSpike's that is not here keeps its name and gets the last message."""

_SUGGESTS_REPLACEMENT: Final = {"BadRequest", "InvalidRequest"}
_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SIZES: Final = ("width", "height", "duration_seconds")


def document(entry: Entry, *, show_credits: bool = False) -> dict[str, Any]:
    """The document of the job in *entry*, as it is at the moment of that reading."""
    state, record = entry.state, entry.record
    left_s = facts.eta_s(state, record, entry.now)
    found: dict[str, Any] = {
        "id": entry.job_id,
        "state": state.value,
        "is_over": state.is_terminal,
        "is_cancelling": not state.is_terminal and entry.cancel is not None,
        # downwards: 1 is the end, and nothing else
        "progress": math.floor(facts.progress(state, record, entry.now) * 100) / 100,
        "eta_s": None if left_s is None else math.ceil(left_s),
        "is_late": facts.is_late(state, record, entry.now),
        "outputs": outputs(state, record),
        "error": problem(state, record),
        "poll_s": None if state.is_terminal else poll_s(left_s),
    }
    if show_credits:
        remote = record.remote_task
        found["credits"] = None if remote is None else remote.credits_used
    return found


def outputs(state: JobState, record: JobRecord) -> list[Output]:
    """The outputs of a completed job that have a web address, with what is known of them."""
    remote = record.remote_task
    if state is not JobState.COMPLETED or remote is None:
        return []
    return [found for element in remote.output or () if (found := _output(element)) is not None]


def problem(state: JobState, record: JobRecord) -> Problem | None:
    """Why a job ended without outputs; None for any other."""
    if not state.is_terminal or state is JobState.COMPLETED:
        return None
    code = _code(state, record)
    return {"code": code, "message": MESSAGES.get(code, MESSAGES["failed"])}


def poll_s(left_s: float | None) -> int:
    """Whole seconds until it pays to ask again, for a job that probably has *left_s* left."""
    low, high = POLL_S
    return math.ceil(min(max((left_s or 0.0) / POLLS_PER_ETA, low), high))


def _output(element: dict[str, Any]) -> Output | None:
    url = element.get("url")
    # the page makes links of these: anything but the web's own schemes could run as a script
    if not isinstance(url, str) or not url.lower().startswith(("https://", "http://")):
        return None
    kind = element.get("type")
    found: Output = {"url": url, "type": kind if isinstance(kind, str) else "file"}
    for name in _SIZES:
        value = element.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found[name] = value
    return found


def _code(state: JobState, record: JobRecord) -> str:
    if state is not JobState.FAILED:
        return state.value.lower()
    if record.error is not None:
        # how this deployment stands with ByteSpike (its balance, its key) is no end user's affair
        name = record.error.name
        return "limit" if name == "SpendLimitReached" else "refused" if name in _SUGGESTS_REPLACEMENT else "failed"
    code = (record.remote_task.error_code if record.remote_task is not None else None) or ""
    return code if _CODE.fullmatch(code) else "failed"
