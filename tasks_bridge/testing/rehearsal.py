"""The bridge of an app in a test: its jobs, its clock and its ByteSpike are the test's."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from tasks_bridge.bridge import Bridge
from tasks_bridge.client import AsyncClient, Client
from tasks_bridge.settings import DEFAULT_KEY, Settings
from tasks_bridge.store.memory import MemoryStore
from tasks_bridge.testing.apps import current
from tasks_bridge.testing.books import MemoryBudget
from tasks_bridge.testing.memory import MemoryDeliveries, OpenGate

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Iterator, Mapping

    from celery import Celery

    from tasks_bridge.testing.clock import FastClock
    from tasks_bridge.testing.line import Line
    from tasks_bridge.testing.loop import VirtualLoop

URL: Final = "http://bytespike.test"
"""Where ByteSpike is. Nobody outside the process can reach it, and nobody from within can reach another."""

KEY: Final = "sk-byts-test"

_OURS: Final = {
    "base_url": URL,
    "learn_cadence": False,
    # a job is looked at in the moment in which something happens to it: the looks in between are for lost answers
    "poll_min_s": 60.0,
    "poll_max_s": 120.0,
}


class Rehearsal(Bridge):
    """
    Answers for *original* during a test: the app's own settings, but for where ByteSpike is and with which key.

    Everything that is in Redis otherwise is in memory, and requests go over *line*.
    """

    def __init__(self, original: Bridge, *, line: Line, loop: VirtualLoop, clock: FastClock) -> None:
        super().__init__(original.app, of_a_test(original.settings, **_OURS))
        self.hooks = original.hooks
        self.line = line
        self.clock = clock
        self.memory = MemoryStore(clock=clock.now, keep_body=self.settings.keep_prompt)
        self.loop_of = LoopReactor(original.app, loop)
        self._clients: dict[str, AsyncClient] = {}
        in_its_place: dict[str, Any] = {
            "store": self.memory,
            "gate": OpenGate(self.settings),
            "budget": MemoryBudget(self.memory, self.settings, clock=clock.now),
            "deliveries": MemoryDeliveries(clock.now),
            "journal": None,
            "learning": None,  # a test is no history, and its countdowns should be the same each time
        }
        vars(self).update(in_its_place)

    def reconfigure(self, changes: Mapping[str, Any]) -> None:
        """
        Go by other settings from now on.

        Raises:
            SettingsError: One is wrong or unknown.
        """
        known = {name: getattr(self.settings, name) for name in type(self.settings).model_fields}
        self.settings = of_a_test(Settings(**{**known, **changes}), **_OURS)
        self.memory.keep_body = self.settings.keep_prompt
        vars(self)["gate"] = OpenGate(self.settings)
        vars(self)["budget"] = vars(self)["budget"].under(self.settings)

    # -- a bridge -----------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        """The app has its broker and result backend from the test."""

    def check(self) -> None:
        """All is as it should be."""

    @contextmanager
    def producer(self, given: Any) -> Iterator[Any]:
        """*given*: nothing hangs here."""
        yield given

    @property
    def reactor(self) -> Any:
        """What runs requests, on the loop of the test."""
        return self.loop_of

    def client(self, alias: str) -> AsyncClient:
        """A client that reaches the test's ByteSpike. Raises SettingsError."""
        if alias not in self._clients:
            self._clients[alias] = AsyncClient(transport=self.line, **self._client_options(alias))
        return self._clients[alias]

    def caller_client(self, alias: str) -> Client:
        """Likewise, for a job that runs in the thread that calls it."""
        return Client(transport=self.line, **self._client_options(alias))

    def now(self) -> float:
        """The test's time."""
        return self.clock.now()

    def monotonic(self) -> float:
        """The same, from the beginning of the test."""
        return self.clock.elapsed_s

    def pause(self, seconds: float) -> None:
        """Let the test's time pass."""
        self.clock.advance(seconds)

    def _client_options(self, alias: str) -> dict[str, Any]:
        settings = self.settings
        return {
            "api_key": settings.key(alias),
            "base_url": settings.base_url,
            "connect_timeout_s": settings.connect_timeout_s,
            "query_timeout_s": settings.query_timeout_s,
            "submit_timeout_s": settings.submit_timeout_s,
        }


class LoopReactor:
    """In the place of a `Reactor`: its loop is the test's, and runs when the test's worker says so."""

    def __init__(self, app: Celery, loop: VirtualLoop) -> None:
        self._app = app
        self._loop = loop
        self._works: list[asyncio.Task[Any]] = []

    def run(self, work: Coroutine[Any, Any, Any], *, wait_s: float | None = None) -> None:
        """Start *work*, which goes on once the task that asked for it is over."""
        self._works.append(self._loop.create_task(work))

    def admit(self, work: Coroutine[Any, Any, Any], size: int, *, most: int, wait_s: float) -> None:
        """Likewise."""
        self.run(work)

    def start(self, work: Coroutine[Any, Any, Any]) -> Callable[[], object]:
        """Start *work*, which nobody waits for; returns what cancels it."""
        return self._loop.create_task(work).cancel

    async def blocking(self, call: Callable[..., Any], *arguments: object) -> Any:
        """Run *call* at once: nothing blocks here."""
        with current(self._app):
            return call(*arguments)

    def drain(self, wait_s: float) -> None:
        """Nothing is left over: see `finish`."""

    def finish(self) -> None:
        """Have all that was started done, and let as much of the test's time pass as that takes."""
        works, self._works = self._works, []
        if works:
            self._loop.finish(works)
            for work in works:
                work.result()


def of_a_test(settings: Settings, **changes: Any) -> Settings:
    """*settings* with keys that nobody can pay with, without callbacks, and with *changes*."""
    keys = {alias: SecretStr(f"{KEY}-{alias}") for alias in settings.keys if alias != DEFAULT_KEY}
    safe = {"api_key": SecretStr(KEY), "api_keys": keys, "callback_base_url": None}
    return settings.model_copy(update={**safe, **changes})
