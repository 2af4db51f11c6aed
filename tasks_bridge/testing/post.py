"""
Celery's broker and result backend in memory, of a test alone: Celery's own in-memory ones are the whole process'.

Messages are serialized as for any broker, so what can't be sent to a worker can't be sent here.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import count
from queue import Queue
from typing import TYPE_CHECKING, Any, Final

from celery import states
from celery.backends.base import KeyValueStoreBackend
from celery.exceptions import TimeoutError as CeleryTimeout
from kombu import Connection, pools
from kombu.transport import TRANSPORT_ALIASES, memory, virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Celery
    from kombu.message import Message

SCHEME: Final = "bytespike-test"
RESULTS: Final = f"{__name__}:Results"

TRANSPORT_ALIASES[SCHEME] = f"{__name__}:Transport"

_queues: Final[defaultdict[str, dict[str, Queue[Any]]]] = defaultdict(dict)
_states: Final[defaultdict[str, virtual.BrokerState]] = defaultdict(virtual.BrokerState)
"""Of each broker, by the host in its URL."""

_numbers: Final = count(1)

_results: Final[dict[bytes | str, Any]] = {}

wait: Final[list[Callable[[Callable[[], bool], float | None], None]]] = []
"""How to wait for a result: the test that is going on knows, and puts it here."""


class Channel(memory.Channel):
    """Keeps the queues of one app."""

    def __init__(self, connection: Any, **options: Any) -> None:
        super().__init__(connection, **options)
        self.queues = _queues[connection.client.hostname]


class Transport(memory.Transport):
    """Messages never leave the process."""

    Channel = Channel

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)
        self.state = _states[client.hostname]


class Results(KeyValueStoreBackend):
    """Keeps results in a dictionary, and lets the test's time pass for whoever waits for one."""

    supports_autoexpire = True
    implements_incr = True
    thread_safe = True

    def get(self, key: Any) -> Any:
        """Celery's hook, as all that follow."""
        return _results.get(_text(key))

    def mget(self, keys: list[Any]) -> list[Any]:
        """Several at once."""
        return [self.get(key) for key in keys]

    def set(self, key: Any, value: Any) -> None:
        """Keep *value*."""
        _results[_text(key)] = value

    def delete(self, key: Any) -> None:
        """Forget it."""
        _results.pop(_text(key), None)

    def incr(self, key: Any) -> int:
        """Count."""
        _results[_text(key)] = value = int(_results.get(_text(key)) or 0) + 1
        return value

    def expire(self, key: Any, value: float) -> None:
        """A test is shorter than that."""

    def wait_for(self, task_id: str, timeout: float | None = None, *_: Any, **__: Any) -> Any:
        """Let the test's time pass until the result is there. Raises celery.exceptions.TimeoutError."""

        def is_ready() -> bool:
            return self.get_task_meta(task_id)["status"] in states.READY_STATES

        if wait and not is_ready():
            wait[-1](is_ready, timeout)
        if not is_ready():
            raise CeleryTimeout("The operation timed out.")
        return self.get_task_meta(task_id)


def new_broker() -> str:
    """The URL of a broker that nobody has used yet."""
    return f"{SCHEME}://broker-{next(_numbers)}"


def forget(url: str) -> None:
    """Forget a broker, its messages, and the connections that kombu keeps to it."""
    connection = Connection(url)
    for group in (pools.producers, pools.connections):
        known: Any = group
        if connection in known:
            known[connection].force_close_all()
            del known[connection]
    for known in (_queues, _states):
        known.pop(str(connection.hostname), None)


def forget_results() -> None:
    """Forget all results."""
    _results.clear()


class Mailbox:
    """Where the messages of *app* arrive; to be closed."""

    def __init__(self, app: Celery) -> None:
        self._connection = app.connection_for_read()

    def take(self) -> Iterator[Message]:
        """Take the messages that wait, the oldest of each queue first."""
        channel: Any = self._connection.default_channel
        for queue in list(channel.queues):
            while raw := channel.basic_get(queue, no_ack=True):
                yield raw

    def close(self) -> None:
        """Take no more."""
        self._connection.release()


def _text(key: bytes | str) -> str:
    return key.decode() if isinstance(key, bytes) else key
