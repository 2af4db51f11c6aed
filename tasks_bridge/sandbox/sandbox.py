"""
The sandbox: a dispatcher, its faults and its clock, served as an aiohttp application.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from tasks_bridge.sandbox.account_routes import add_account_routes
from tasks_bridge.sandbox.callbacks import Callbacks
from tasks_bridge.sandbox.control import add_control_routes
from tasks_bridge.sandbox.dispatcher import Dispatcher, Entry
from tasks_bridge.sandbox.faults import FaultBook
from tasks_bridge.sandbox.file_routes import add_file_routes
from tasks_bridge.sandbox.gate import Gate
from tasks_bridge.sandbox.journal import Journal
from tasks_bridge.sandbox.plan import end_task
from tasks_bridge.sandbox.refusal import invalid_param, task_not_found
from tasks_bridge.sandbox.script import parse_end, parse_fault, parse_script
from tasks_bridge.sandbox.stream import Streams
from tasks_bridge.sandbox.task_routes import add_task_routes
from tasks_bridge.sandbox.wrong_routes import add_wrong_routes

JsonObject = dict[str, Any]

# Above the API's own cap of 1 MiB, which gate.py enforces with the API's own error.
_SERVER_BODY_CAP: Final = 2 * 1024 * 1024


class Sandbox:
    """
    A ByteSpike dispatcher for development.

    Args:
        speed: Everything takes this many times less: durations and the reported estimate. Faults do not.
        seed: Makes durations repeatable: a task's depend on this and its ``out_task_id``.
        keys: API keys to accept; any non-empty key if None.
        concurrency: Submits and streams the account may have in flight, over all keys; None is no limit.
        latency_s: Added to every submit, query and cancel.
        heartbeat_s: Seconds between comments on an idle stream.
        state: File in which the tasks survive a restart; None keeps them in memory only.
        public_url: Where clients reach the files; None takes the host each submit was sent to.
        clock: Returns Unix seconds, for tests that let time pass; None takes the machine's.

    Not for the open internet: the control API under ``/_sandbox`` asks for no key.
    """

    def __init__(
        self,
        *,
        speed: float = 1.0,
        seed: int = 0,
        keys: Iterable[str] | None = None,
        concurrency: int | None = None,
        latency_s: float = 0.0,
        heartbeat_s: float = 15.0,
        public_url: str | None = None,
        state: str | Path | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if not 0 < speed < float("inf"):
            raise ValueError("speed must be a number above 0")
        self.dispatcher = Dispatcher(speed=speed, seed=seed)
        self.keys = frozenset(keys) if keys is not None else None
        self.concurrency = concurrency
        self.latency_s = latency_s
        self.public_url = public_url.rstrip("/") if public_url is not None else None
        self.journal = Journal(Path(state)) if state is not None else None
        if self.journal is not None:
            for task in self.journal.read():
                self.dispatcher.add(task)
        self._clock = clock
        self.counts: Counter[str] = Counter()
        self.faults = FaultBook()
        self.in_flight = 0
        # Wall-clock time that never jumps: no task changes its course when the machine's clock is set.
        self._offset_s = time.time() - time.monotonic()
        self.callbacks = Callbacks(self.now_s)
        self.streams = Streams(self.now_s, heartbeat_s)
        self.go_down: Callable[[float], Awaitable[None]] | None = None

    def now_s(self) -> float:
        """
        Return Unix seconds.
        """
        return time.monotonic() + self._offset_s if self._clock is None else self._clock()

    def app(self) -> web.Application:
        """
        Return a new application that serves this sandbox. It may stop and another start: the tasks stay.
        """
        app = web.Application(client_max_size=_SERVER_BODY_CAP)
        gate = Gate(self)
        add_task_routes(app, self, gate)
        add_account_routes(app, gate)
        add_file_routes(app, self, gate)
        add_control_routes(app, self)
        add_wrong_routes(app, gate)
        app.cleanup_ctx.append(self._background)
        app.on_shutdown.append(self._end_streams)
        return app

    def tasks(self) -> list[JsonObject]:
        """
        Return every task with its true timeline and what was done to it, oldest first.
        """
        now_s = self.now_s()
        return [entry.report(now_s) for entry in self.dispatcher.entries.values()]

    def stats(self) -> JsonObject:
        """
        Return how often each endpoint was called since the last reset, and facts about the tasks.

        Keys: ``requests`` (endpoint to count), ``tasks`` (how many exist), ``status`` (status to count),
        ``duplicate_submits`` (answered with an existing task), ``faults`` (kind to how often it struck),
        ``keys_sent_to_files`` (file requests that leaked an API key).
        """
        now_s = self.now_s()
        counts = {"requests": Counter[str](), "faults": Counter[str]()}
        for name, count in self.counts.items():
            group, _, member = name.partition(":")
            if member:
                counts[group][member] = count
        entries = self.dispatcher.entries.values()
        return {
            "requests": dict(counts["requests"]),
            "tasks": len(entries),
            "status": dict(Counter(entry.task.state(now_s) for entry in entries)),
            "duplicate_submits": self.counts["duplicate_submits"],
            "faults": dict(counts["faults"]),
            "keys_sent_to_files": self.counts["keys_sent_to_files"],
        }

    def fail(self, kind: str, *, on: str = "any", **members: object) -> None:
        """
        Arm a fault for the whole server; the members are those of a scripted fault.

        Without ``times`` and ``for_s`` a fault strikes once.

        Raises:
            Refusal: A member is unknown or wrong.
        """
        fault = parse_fault({"kind": kind, "on": on, **members}, server_wide=True)
        self.faults.add(fault, self.now_s())

    def script(self, model: str | None, *scripts: JsonObject) -> None:
        """
        Have the next tasks of *model* (of any, if None) go by *scripts*, one each, and all after them by the last.

        A script has the members of ``params["sandbox"]``; a request with one of its own goes by that. Called again for
        the same model, it replaces what was left.

        Raises:
            Refusal: There is no such model, there is no script, or a member is unknown or wrong.
        """
        if not scripts:
            raise invalid_param("a script is needed; {} is that of a task that completes")
        self.dispatcher.script(model, [parse_script(script) for script in scripts])

    def start_task(self, out_task_id: str) -> bool:
        """
        Let the task under the caller's id run, and say whether it was pending; its end stays where it is.

        Raises:
            Refusal: There is no such task.
        """
        entry = self._of_job(out_task_id)
        return self._changed(entry, is_changed=entry.task.start(self.now_s()))

    def end_task(self, out_task_id: str, **members: object) -> bool:
        """
        Let the task under the caller's id end now, and say whether it was open: completed, or as *members* say.

        These are the members of a script that speak of the end: ``outcome``, ``error_code``, ``error_message``,
        ``credits``, ``count``, ``output``.

        Raises:
            Refusal: There is no such task, or a member is unknown or wrong.
        """
        entry = self._of_job(out_task_id)
        return self._changed(entry, is_changed=end_task(entry.task, parse_end(members), self.now_s()))

    def heal(self) -> None:
        """
        Disarm the faults of the whole server; those in scripts stay.
        """
        self.faults.clear()

    def reset(self) -> None:
        """
        Forget all tasks, scripts, faults and counts.
        """
        self.heal()
        self.callbacks.forget()
        self.dispatcher.reset()
        if self.journal is not None:
            self.journal.clear()
        self.counts.clear()

    def _of_job(self, out_task_id: str) -> Entry:
        entry = self.dispatcher.of_job(out_task_id)
        if entry is None:
            raise task_not_found()
        return entry

    def _changed(self, entry: Entry, *, is_changed: bool) -> bool:
        if is_changed:
            self.decided(entry)
        return is_changed

    def decided(self, entry: Entry) -> None:
        """
        Act on a task whose course is new or has changed: keep it, call back at its end, tell its streams.
        """
        if self.journal is not None:
            self.journal.write(entry.task)
        self.callbacks.expect(entry)
        self.streams.wake(entry.task.task_id)

    async def _background(self, app: web.Application) -> AsyncIterator[None]:
        del app
        self.streams.open()
        await self.callbacks.start()
        for entry in self.dispatcher.entries.values():
            # What ended while nobody served may have been delivered before: at most once.
            if not entry.callbacks and entry.task.ended_s > self.now_s():
                self.callbacks.expect(entry)
        yield
        await self.callbacks.stop()

    async def _end_streams(self, app: web.Application) -> None:
        del app
        self.streams.close()
