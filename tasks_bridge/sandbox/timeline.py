"""
One remote task: its state is a function of the time asked about.

Nothing runs while a task "runs". Its end is decided when it is submitted, and a query only compares clocks::

    pending ──started_s──▶ running ──ended_s──▶ completed | failed
       └──────── cancel() ────┴───────────────▶ cancelled | completed
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

JsonObject = dict[str, Any]

TERMINAL = frozenset({"completed", "failed", "cancelled"})


@dataclass(slots=True)
class Task:
    """
    A task as the dispatcher keeps it. Times are Unix seconds; ``ended_s`` is infinite for an endless one.

    Attributes:
        owner: Which key it belongs to (a digest, never the key).
        digest: Identifies model and params, to tell a repeated submit from a conflicting one.
        outcome: The state it ends in.
        base_url: Where its files are served.
        url_life_s: How long a URL is served from when it was told; None: always.
        file_bytes: Length of each file; None: as long as its picture or clip.
    """

    task_id: str
    out_task_id: str | None
    owner: str
    model: str
    digest: str
    created_s: float
    started_s: float
    ended_s: float
    outcome: str
    estimated_credits: float | None
    estimated_seconds: int | None
    credits: float
    error_code: str
    error_message: str
    kind: str
    width: int
    height: int
    length_s: int
    count: int
    base_url: str
    callback_url: str | None = None
    output: list[JsonObject] | None = None
    url_life_s: float | None = None
    file_bytes: int | None = None
    cancel_policy: str = "free"
    cancel_credits: float | None = None
    charged_on_cancel: float | None = None
    dialect: str = "new"
    unknown_field: bool = False
    unknown_status: str | None = None

    def state(self, now_s: float) -> str:
        """
        Return ``pending``, ``running`` or the outcome, in the current dialect's words.
        """
        if now_s >= self.ended_s:
            return self.outcome
        return "running" if now_s >= self.started_s else "pending"

    def has_ended(self, now_s: float) -> bool:
        """
        Say whether it is in a terminal state.
        """
        return now_s >= self.ended_s

    def start(self, now_s: float) -> bool:
        """
        Begin to run now, if it is still pending, and say whether it did. Its end stays where it is.
        """
        if self.state(now_s) != "pending":
            return False
        self.started_s = now_s
        return True

    def next_change_s(self, now_s: float) -> float:
        """
        Return the next time its state changes by itself, infinite if it will not.
        """
        if now_s >= self.ended_s:
            return float("inf")
        return self.started_s if now_s < self.started_s < self.ended_s else self.ended_s

    def cancel(self, now_s: float) -> bool:
        """
        Apply a cancel, and say whether it changed anything. A no-op on a task that has ended.

        Source: contract, section 5.
        """
        before = self.state(now_s)
        if before in TERMINAL or self.cancel_policy == "refused":
            return False
        if self.cancel_policy == "completes":
            self.outcome = "completed"
            self.started_s = min(self.started_s, now_s)
        else:
            self.outcome = "cancelled"
            if self.cancel_policy == "billed" and before == "running":
                scripted = self.cancel_credits
                self.charged_on_cancel = self._share(now_s) if scripted is None else scripted
        self.ended_s = now_s
        return True

    def view(self, now_s: float) -> JsonObject:
        """
        Return the task object of a response: each field present exactly when the contract says so.

        Source: API, /tasks/query page, "Response fields"; contract, section 2.
        """
        state = self.state(now_s)
        seen: JsonObject = {"task_id": self.task_id}
        if self.out_task_id is not None:
            seen["out_task_id"] = self.out_task_id
        seen["status"] = state
        if state == "completed":
            seen["credits_used"] = self.credits
            seen["output"] = self.outputs(now_s)
        elif state == "failed":
            seen["error_code"] = self.error_code
            seen["error_message"] = self.error_message
        else:
            if self.charged_on_cancel is not None:
                seen["credits_used"] = self.charged_on_cancel
            elif self.estimated_credits is not None:
                seen["estimated_credits"] = self.estimated_credits
            if self.estimated_seconds is not None:
                seen["estimated_seconds"] = self.estimated_seconds
            if state == "running" and self.unknown_status is not None:
                seen["status"] = self.unknown_status
        if self.unknown_field:
            seen["upstream_provider"] = "sandbox"
            seen["sandbox_note"] = {"ignore": ["unknown", "fields"]}
        return seen if self.dialect == "new" else self._older(seen)

    def outputs(self, now_s: float) -> list[JsonObject]:
        """
        Return the elements of ``output``, with URLs as they are told at *now_s*.

        Only the video's shape is documented; a picture's follows it.
        """
        if self.output is not None:
            return self.output
        size = {"width": self.width, "height": self.height}
        if self.kind == "video":
            size = {"duration_seconds": self.length_s, **size}
        return [
            {"type": self.kind, "url": self.file_url(self.file_name(index), now_s), **size}
            for index in range(self.count)
        ]

    def file_url(self, name: str, now_s: float) -> str:
        """
        Return the URL of one output, signed where it expires.
        """
        url = f"{self.base_url}/files/{name}"
        if self.url_life_s is None:
            return url
        expires = f"{now_s + self.url_life_s:.3f}"
        return f"{url}?expires={expires}&signature={self.signature(name, expires)}"

    def signature(self, name: str, expires: str) -> str:
        """
        Return what shows that a URL was told: enough against mistakes, which is all that a sandbox is to find.
        """
        return hashlib.sha256(f"{self.task_id}:{self.digest}:{name}:{expires}".encode()).hexdigest()[:16]

    def file_name(self, index: int) -> str:
        """
        Return the name of output number *index*, from 0.
        """
        suffix = "" if index == 0 else f"-{index + 1}"
        return f"{self.task_id}{suffix}.{'mp4' if self.kind == 'video' else 'png'}"

    def _share(self, now_s: float) -> float:
        whole = self.ended_s - self.started_s
        share = (now_s - self.started_s) / whole if whole < float("inf") else 1.0
        return max(0.01, round(self.credits * share, 2))

    def _older(self, seen: JsonObject) -> JsonObject:
        """
        Rename what the model pages name otherwise. Source: contract, section 12, column B.
        """
        if seen["status"] == "pending":
            seen["status"] = "queued"
        if "credits_used" in seen:
            seen["credits"] = seen.pop("credits_used")
        if "output" in seen:
            url = next((element["url"] for element in seen.pop("output") if "url" in element), None)
            # Column B only ever shows videos; pictures borrow column C's name.
            seen |= {"result": {"video_url": url}} if self.kind == "video" else {"result_url": url}
        seen["submitted_at"] = _timestamp(self.created_s)
        if seen["status"] in TERMINAL:
            seen["completed_at"] = _timestamp(self.ended_s)
        return seen


def _timestamp(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
