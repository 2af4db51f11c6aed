"""
The dispatcher without HTTP: who owns which task, and what submit, query and cancel do to it.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from tasks_bridge.sandbox.catalogue import CATALOGUE, find_model
from tasks_bridge.sandbox.faults import FaultBook
from tasks_bridge.sandbox.plan import Submission, plan_task
from tasks_bridge.sandbox.refusal import Refusal, invalid_param, task_not_found
from tasks_bridge.sandbox.script import Script
from tasks_bridge.sandbox.timeline import TERMINAL, Task
from tasks_bridge.sandbox.ulid import new_task_id

JsonObject = dict[str, Any]


@dataclass(slots=True)
class Entry:
    """
    A task with what was done to it.

    Attributes:
        submission: What was asked for; None for a task of before a restart.
        seen_end_s: When a query first answered with its terminal state: the lag is the distance from
            ``ended_s``.
        callbacks: One object per attempt to deliver: ``at_s``, ``status`` or ``error``.
        downloads: One object per request for a file: ``name``, ``range`` (the header), ``status``, ``bytes`` sent.
    """

    task: Task
    faults: FaultBook
    submission: Submission | None = None
    counts: Counter[str] = field(default_factory=Counter)
    seen_end_s: float | None = None
    callbacks: list[JsonObject] = field(default_factory=list)
    downloads: list[JsonObject] = field(default_factory=list)

    def report(self, now_s: float) -> JsonObject:
        """
        Return the truth about the task, for the control API. Times are Unix seconds.
        """
        task = self.task
        return {
            "task_id": task.task_id,
            "out_task_id": task.out_task_id,
            "owner": task.owner,
            "model": task.model,
            "params": self.submission.params if self.submission is not None else None,
            "status": task.state(now_s),
            "outcome": task.outcome,
            "created_s": task.created_s,
            "started_s": task.started_s if task.started_s < task.ended_s else None,
            "ended_s": task.ended_s if task.ended_s < float("inf") else None,
            "seen_end_s": self.seen_end_s,
            "estimated_seconds": task.estimated_seconds,
            "submits": self.counts["submit"],
            "queries": self.counts["query"],
            "cancels": self.counts["cancel"],
            "streams": self.counts["stream"],
            "callback_url": task.callback_url,
            "callbacks": self.callbacks,
            "downloads": [dict(download) for download in self.downloads],
        }


class Dispatcher:
    """
    All tasks, in memory. Every method that depends on time takes it.
    """

    def __init__(self, *, speed: float = 1.0, seed: int = 0) -> None:
        self.speed = speed
        self.seed = seed
        self.entries: dict[str, Entry] = {}
        self._by_out_task_id: dict[tuple[str, str], Entry] = {}
        # A submit may be spoilt before any work: its faults are counted although there is no task yet.
        self._books: dict[tuple[str, str], FaultBook] = {}
        self._serial = 0
        self._scripts: dict[str | None, list[Script]] = {}
        self._scripted: dict[tuple[str, str], Script] = {}

    def reset(self) -> None:
        """
        Forget everything.
        """
        self.entries.clear()
        self._by_out_task_id.clear()
        self._books.clear()
        self._serial = 0
        self._scripts.clear()
        self._scripted.clear()

    def script(self, model: str | None, scripts: list[Script]) -> None:
        """
        Have the next tasks of *model* (of any, if None) go by *scripts*: one each, and all after them by the last.

        Raises:
            Refusal: There is no such model.
        """
        known = find_model(model) if model is not None else None
        if model is not None and known is None:
            raise invalid_param(
                f"there is no model {model!r}; the catalogue has {', '.join(m.slug for m in CATALOGUE)}"
            )
        self._scripts[known.slug if known is not None else None] = scripts

    def scripted(self, owner: str, submission: Submission) -> Submission:
        """
        Return *submission* with the script that is meant for it; the same one each time it is sent.

        A script of its own comes first, then one for its model, then one for any.
        """
        model = find_model(submission.model)
        scripts = self._scripts.get(model.slug if model is not None else None) or self._scripts.get(None)
        if not scripts or "sandbox" in submission.params:
            return submission
        key = (owner, submission.out_task_id or submission.digest)
        if key not in self._scripted:
            self._scripted[key] = scripts.pop(0) if len(scripts) > 1 else scripts[0]
        return replace(submission, script=self._scripted[key])

    def faults_of(self, owner: str, submission: Submission, now_s: float) -> FaultBook:
        """
        Return the fault book of a submission, the same one each time it is sent.
        """
        if not submission.script.faults:
            return FaultBook()
        return self._books.setdefault(
            (owner, submission.out_task_id or submission.digest), FaultBook(submission.script.faults, now_s)
        )

    def submit(self, owner: str, submission: Submission, *, now_s: float, base_url: str) -> tuple[Entry, bool]:
        """
        Create a task, or find the one that was created under the same ``out_task_id``.

        Returns:
            The entry, and whether it is new.

        Raises:
            Refusal: 409 ``duplicate_out_task_id``, or the plan is refused.

        Source: contract, section 7.
        """
        out_task_id = submission.out_task_id
        existing = self._by_out_task_id.get((owner, out_task_id)) if out_task_id is not None else None
        if existing is not None:
            existing.counts["submit"] += 1
            if existing.task.digest != submission.digest:
                message = "This out_task_id was submitted with a different model or params."
                raise Refusal(409, "duplicate_out_task_id", message)
            return existing, False
        # Seeded by the caller's own id where there is one: the same job takes the same time in any order.
        rng = random.Random(f"{self.seed}:{out_task_id or self._serial}")  # noqa: S311 - not a secret
        self._serial += 1
        task = plan_task(
            submission,
            task_id=new_task_id(now_s, random.Random()),  # noqa: S311 - not a secret
            owner=owner,
            now_s=now_s,
            rng=rng,
            speed=self.speed,
            base_url=base_url,
        )
        entry = self.add(task, self.faults_of(owner, submission, now_s), submission)
        entry.counts["submit"] += 1
        return entry, True

    def add(self, task: Task, faults: FaultBook | None = None, submission: Submission | None = None) -> Entry:
        """
        Take in a task that is already planned, replacing one of the same id.
        """
        entry = Entry(task, faults if faults is not None else FaultBook(), submission)
        self.entries[task.task_id] = entry
        if task.out_task_id is not None:
            self._by_out_task_id[(task.owner, task.out_task_id)] = entry
        return entry

    def of_job(self, out_task_id: str) -> Entry | None:
        """
        Return the newest task under the caller's id, whoever it belongs to; None if there is none.
        """
        found = (entry for (_, own_id), entry in reversed(self._by_out_task_id.items()) if own_id == out_task_id)
        return next(found, None)

    def find(self, owner: str, task_id: object, out_task_id: object) -> Entry:
        """
        Find a task of *owner* by exactly one identifier.

        Raises:
            Refusal: 400 ``invalid_param``, 404 ``task_not_found``.
        """
        # "both empty" counts as neither, so an empty string or null is as good as absent.
        if bool(task_id) == bool(out_task_id):
            raise invalid_param("exactly one of task_id or out_task_id is required")
        if not isinstance(task_id or out_task_id, str):
            raise invalid_param("task_id and out_task_id must be strings")
        by_own_id = (owner, str(out_task_id))
        entry = self.entries.get(str(task_id)) if task_id else self._by_out_task_id.get(by_own_id)
        if entry is None or entry.task.owner != owner:
            raise task_not_found()
        return entry

    def read(self, entry: Entry, now_s: float) -> JsonObject:
        """
        Return what a query answers, and note when the end was first seen.
        """
        seen = entry.task.view(now_s)
        if entry.seen_end_s is None and seen["status"] in TERMINAL:
            entry.seen_end_s = now_s
        return seen
