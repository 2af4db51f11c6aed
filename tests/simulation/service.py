"""A model of ByteSpike, as simple as the contract allows: what each request does, and when it does it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from tasks_bridge.errors import BridgeError, Conflict, NotFound
from tasks_bridge.models import RemoteTask

Kind = Literal["submit", "query", "cancel"]
CancelPolicy = Literal["free", "billed", "refused", "completes"]

TERMINAL = ("completed", "failed", "cancelled")
CHARGE = 0.25
"""Of a cancel that costs something."""
PRICE = 1.5


@dataclass
class Task:
    """A task at ByteSpike."""

    task_id: str
    out_task_id: str
    body: bytes
    cancel: CancelPolicy
    made_by: Request
    status: str = "pending"
    credits_used: float | None = None

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL

    def end(self, status: str) -> None:
        """Come to an end by itself."""
        if not self.is_terminal:
            self.status = status
            self.credits_used = PRICE if status == "completed" else None

    def be_cancelled(self) -> None:
        """Source: contract, section 5."""
        if self.is_terminal or self.cancel == "refused":
            return
        if self.cancel == "completes":
            self.end("completed")
            return
        self.credits_used = CHARGE if self.cancel == "billed" and self.status == "running" else None
        self.status = "cancelled"

    def view(self) -> RemoteTask:
        known = {"estimated_seconds": 60} if self.credits_used is None else {"credits_used": self.credits_used}
        return RemoteTask.model_validate(
            {"task_id": self.task_id, "out_task_id": self.out_task_id, "status": self.status, **known}
        )


@dataclass
class Service:
    """All tasks, by their `out_task_id`."""

    cancel: CancelPolicy = "free"
    """What a cancel does to tasks that are made from now on."""
    tasks: dict[str, Task] = field(default_factory=dict)

    def do(self, request: Request) -> RemoteTask | BridgeError:
        """Take a request in: what it does is done, whether or not anybody hears the answer."""
        if request.kind == "submit":
            return self._submit(request)
        task = next((task for task in self.tasks.values() if request.key in (task.task_id, task.out_task_id)), None)
        if task is None:
            return NotFound("no such task", 404, "task_not_found")
        if request.kind == "cancel":
            task.be_cancelled()
        return task.view()

    def _submit(self, request: Request) -> RemoteTask | BridgeError:
        key = json.loads(request.body)["out_task_id"]
        task = self.tasks.get(key)
        if task is None:
            number = len(self.tasks) + 1
            task = self.tasks[key] = Task(f"task_{number}", key, request.body, self.cancel, request)
        if task.body != request.body:
            return Conflict("another request", 409, "duplicate_out_task_id")
        return task.view()


@dataclass(eq=False)
class Request:
    """A request on its way: it arrives, or doesn't; its answer comes back, or doesn't."""

    kind: Kind
    key: str
    body: bytes
    service: Service
    sender: Any
    reply: asyncio.Future[RemoteTask | BridgeError]
    sent_at: float
    """On the loop's clock."""
    answer: RemoteTask | BridgeError | None = None

    def __repr__(self) -> str:
        return f"<{self.kind} of {self.key} by {self.sender}{', done' if self.answer else ''}>"

    @property
    def has_arrived(self) -> bool:
        return self.answer is not None

    @property
    def is_waited_for(self) -> bool:
        """Whether its sender still lives and has not given it up."""
        return not self.reply.done()

    def arrive(self) -> None:
        """ByteSpike takes it in."""
        if self.answer is None:
            self.answer = self.service.do(self)

    def reach(self) -> None:
        """It arrives, if it hasn't yet, and its answer comes back."""
        self.arrive()
        assert self.answer is not None
        self.fail(self.answer)

    def fail(self, answer: RemoteTask | BridgeError) -> None:
        """This comes back instead, whether or not it has arrived."""
        assert self.is_waited_for, f"nobody waits for {self}"
        self.reply.set_result(answer)
