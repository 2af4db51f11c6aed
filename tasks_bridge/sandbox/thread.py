"""
A sandbox in a background thread, for tests and demos.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from tasks_bridge.sandbox.host import Host
from tasks_bridge.sandbox.sandbox import Sandbox
from tasks_bridge.sandbox.script import outage_s

JsonObject = dict[str, Any]
T = TypeVar("T")


class SandboxServer:
    """
    Runs a sandbox in a thread of its own, with its own event loop.

    ::

        with SandboxServer(speed=100) as server:
            httpx.post(f"{server.url}/v1/tasks/submit", …)
            server.fail("status", on="query", status=503, for_s=5)
            assert server.stats()["tasks"] == 1

    Its methods may be called from any thread. It can be stopped and started again: the
    port and the tasks stay.

    Args:
        port: 0 takes a free one.
        speed, seed, keys, concurrency, latency_s, heartbeat_s, public_url, state: As for `Sandbox`.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        speed: float = 1.0,
        seed: int = 0,
        keys: Iterable[str] | None = None,
        concurrency: int | None = None,
        latency_s: float = 0.0,
        heartbeat_s: float = 15.0,
        public_url: str | None = None,
        state: str | Path | None = None,
    ) -> None:
        self.sandbox = Sandbox(
            speed=speed,
            seed=seed,
            keys=keys,
            concurrency=concurrency,
            latency_s=latency_s,
            heartbeat_s=heartbeat_s,
            public_url=public_url,
            state=state,
        )
        self._host = Host(self.sandbox, host, port)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """
        Base URL, without a slash at the end.
        """
        return self._host.url

    def start(self) -> None:
        """
        Start listening; returns when connections are accepted.

        Raises:
            OSError: The port is taken.
            RuntimeError: It runs already.
        """
        if self._thread is not None:
            raise RuntimeError("the sandbox runs already")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox", daemon=True)
        self._thread.start()
        try:
            self._await(self._host.start())
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """
        Close every connection and stop listening. A no-op if it does not run.
        """
        if self._loop is None or self._thread is None:
            return
        self._await(self._host.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = None

    def tasks(self) -> list[JsonObject]:
        """
        As `Sandbox.tasks`.
        """
        return self._call(self.sandbox.tasks)

    def stats(self) -> JsonObject:
        """
        As `Sandbox.stats`.
        """
        return self._call(self.sandbox.stats)

    def fail(self, kind: str, *, on: str = "any", **members: object) -> None:
        """
        As `Sandbox.fail`; and ``fail("down", for_s=5)`` refuses all connections for that long.
        """
        if kind == "down":
            self._await(self._host.go_down(outage_s(members)))
            return
        self._call(partial(self.sandbox.fail, kind, on=on, **members))

    def script(self, model: str | None, *scripts: JsonObject) -> None:
        """
        As `Sandbox.script`.
        """
        self._call(partial(self.sandbox.script, model, *scripts))

    def start_task(self, out_task_id: str) -> bool:
        """
        As `Sandbox.start_task`.
        """
        return self._call(partial(self.sandbox.start_task, out_task_id))

    def end_task(self, out_task_id: str, **members: object) -> bool:
        """
        As `Sandbox.end_task`.
        """
        return self._call(partial(self.sandbox.end_task, out_task_id, **members))

    def heal(self) -> None:
        """
        As `Sandbox.heal`.
        """
        self._call(self.sandbox.heal)

    def reset(self) -> None:
        """
        As `Sandbox.reset`.
        """
        self._call(self.sandbox.reset)

    def _call(self, function: Callable[[], T]) -> T:
        """
        Run *function* in the server's loop, where nothing changes the state at the same time.
        """
        if self._loop is None:
            return function()

        async def run() -> T:
            return function()

        return self._await(run())

    def _await(self, awaitable: Awaitable[T]) -> T:
        if self._loop is None:
            raise RuntimeError("the sandbox does not run")

        async def run() -> T:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()
