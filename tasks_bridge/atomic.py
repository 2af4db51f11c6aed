"""
A job and its message in one step, where the broker's queues are in the Redis that has the jobs.

Celery makes the message and kombu finds its queue, as ever. Only the push at the end is the store's: its script
registers the job and pushes in one round trip. So there is nothing between the two for a caller to die in, and a call
costs what a plain task's does.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from kombu.transport import redis
from kombu.utils.json import dumps

from tasks_bridge.errors import JobConflict
from tasks_bridge.store.base import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tasks_bridge.store import RedisStore

TRANSPORT: Final = f"{__name__}:Transport"
"""For kombu, in place of ``redis``."""


class Start:
    """The registration of one job, done once: by whoever comes to it first."""

    def __init__(self, register: Callable[[Message | None], bool]) -> None:
        """Use *register*, which says whether the job is new, and raises `JobConflict` or `StoreError`."""
        self._register = register
        self._conflict: JobConflict | None = None
        self.is_done = False
        self.is_new = False

    def register(self, message: Message | None = None) -> None:
        """
        Register the job, along with its *message*.

        Raises:
            StoreError: The store refuses, or does not answer.
        """
        try:
            self.is_new = self._register(message)
        except JobConflict as conflict:
            # told at the end: who watches Celery publish expects an end of each beginning
            self._conflict = conflict
        self.is_done = True

    def check(self) -> None:
        """Raise `JobConflict` if the id turned out to be another job's."""
        if self._conflict is not None:
            raise self._conflict

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """While the job's message is published: a `Channel` that comes to the end of this registers the job."""
        token = _STARTING.set(self)
        try:
            yield
        finally:
            _STARTING.reset(token)


_STARTING: Final[ContextVar[Start | None]] = ContextVar("tasks_bridge_starting", default=None)


class Channel(redis.Channel):
    """kombu's, but for the push of a message whose job is still to be registered."""

    def shares_server(self, store: RedisStore) -> bool:
        """Whether the queues are among the keys of *store*'s Redis."""
        return not self.global_keyprefix and store.shares_server(self.pool)

    def basic_publish(self, message: Any, exchange: str, routing_key: str, **options: Any) -> Any:
        """See kombu. Where a message may go to several queues or to none, its job is registered before."""
        start = _STARTING.get()
        if start is not None and not start.is_done and (exchange or routing_key in getattr(self, "_expires", ())):
            start.register()
        return super().basic_publish(message, exchange, routing_key, **options)

    def _put(self, queue: str, message: Any, **options: Any) -> None:
        start = _STARTING.get()
        if start is None or start.is_done:
            super()._put(queue, message, **options)
            return
        channel: Any = self  # what follows is kombu's own, which its type stubs leave out
        key = channel._q_for_pri(queue, channel._get_message_priority(message, reverse=False))  # noqa: SLF001
        start.register(Message(key, dumps(message)))


class Transport(redis.Transport):
    """kombu's transport for Redis, with this `Channel`."""

    Channel = Channel
