"""What one Celery app needs to run jobs, put together once by `install`."""

from __future__ import annotations

import os
import re
import threading
import time
import weakref
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import kombu.pools
from celery import _state
from celery.app import app_or_default
from celery.local import Proxy
from pydantic import SecretStr

from tasks_bridge import atomic
from tasks_bridge.budget import Budget
from tasks_bridge.client import AsyncClient, Client
from tasks_bridge.counts import Counts
from tasks_bridge.deliveries import Deliveries, RedisDeliveries
from tasks_bridge.errors import SettingsError
from tasks_bridge.gate import Gate
from tasks_bridge.hooks import Hooks
from tasks_bridge.journal import Journal
from tasks_bridge.knowledge import Pace
from tasks_bridge.learning import Learning, RedisEnds
from tasks_bridge.reactor import Reactor
from tasks_bridge.results import Results
from tasks_bridge.settings import UNREADABLE, is_readable
from tasks_bridge.store import patience, sentinel
from tasks_bridge.store.redis import RedisStore, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Celery

    from tasks_bridge.settings import Settings

DRAIN_S: Final = 1.0
"""How long the end of a process waits for answers; what takes longer is left to the leases."""

_REDIS_SCHEMES: Final = ("redis://", "rediss://", "unix://", "redis+socket://", "socket://")
_SOCKET: Final = re.compile(r"^(redis\+)?socket://")


class Bridge:
    """The settings, the store and the connections that belong to one Celery app."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self.results = Results(app)
        self.hooks: list[Hooks] = []
        """What integrations have done in the workers; to be filled before a worker starts."""
        self.node: str | None = None
        """The name of the worker that this process belongs to, once it has run a task of ours."""
        self.counts = Counts()
        """What this process has done, where somebody asks for it: see `exporter`."""
        self._lock = threading.Lock()
        self._io: tuple[int, Reactor, dict[str, AsyncClient]] | None = None
        self._forgotten: weakref.finalize[Any, Bridge] | None = None
        self._is_checked = False
        self._is_worker = False
        self._is_atomic = False

    @cached_property
    def store(self) -> RedisStore:
        """Where the jobs are; made when first asked for, because the app may be configured after `install`."""
        self.configure()
        return self.open_store(patience.OF_WORKERS_S if self._is_worker else self.settings.store_timeout_s)

    def open_store(self, patience_s: float) -> RedisStore:
        """The same jobs over a connection of its own, which waits *patience_s* for a Redis that hangs."""
        client = connect(self._redis_url(), patience_s=patience_s)
        # left to the garbage collector, a socket that goes before its connection warns that nobody closed it
        weakref.finalize(self, client.close).atexit = False
        return RedisStore(client, namespace=self.settings.namespace, keep_body=self.settings.keep_prompt)

    @cached_property
    def gate(self) -> Gate:
        """What all workers together may send."""
        return Gate(self.store, self.settings)

    @cached_property
    def budget(self) -> Budget:
        """What jobs may cost."""
        return Budget(self.store, self.settings)

    @cached_property
    def deliveries(self) -> Deliveries:
        """What `once` keeps of callbacks."""
        return RedisDeliveries(self.store)

    @cached_property
    def learning(self) -> Learning | None:
        """What is known of the models' pace; None if nothing is to be learned."""
        return Learning(RedisEnds(self.store), Pace.of(self.settings)) if self.settings.learn_cadence else None

    @cached_property
    def journal(self) -> Journal | None:
        """What happened to jobs lately; None where nobody notes it."""
        return Journal(self.store)

    def configure(self) -> None:
        """
        Give the app's configuration a broker and a result backend, where it has none of its own.

        Raises:
            SettingsError: The URL of one of them can't be read; the message doesn't quote it.
        """
        for name, options, wanted in (
            ("broker_url", "broker_transport_options", self.settings.broker_url),
            ("result_backend", "result_backend_transport_options", self.settings.result_backend),
        ):
            if not self.app.conf[name]:
                self.app.conf[name] = (wanted or self._redis_url()).get_secret_value()
            url = self._url(name)
            if not is_readable(url):
                raise SettingsError(f"The app's {name} {UNREADABLE}")
            if _starts(url, sentinel.SCHEME) and "?" in url.get_secret_value():
                # the query is ours: Celery and kombu want its content elsewhere
                address = sentinel.SentinelAddress.parse(url)
                self.app.conf[options] = {**address.transport_options, **(self.app.conf[options] or {})}
                self.app.conf[name] = address.plain_url

    def _redis_url(self) -> SecretStr:
        """Where the settings say; if they don't, where the app has its results or else its messages."""
        if "redis_url" not in self.settings.model_fields_set:
            for name, options in (
                ("result_backend", "result_backend_transport_options"),
                ("broker_url", "broker_transport_options"),
            ):
                url = self._url(name)
                if _starts(url, sentinel.SCHEME) and "?" not in url.get_secret_value():
                    return sentinel.sentinel_url(url, self.app.conf[options])
                if _starts(url, sentinel.SCHEME, *_REDIS_SCHEMES):
                    return SecretStr(_SOCKET.sub("unix://", url.get_secret_value()))
        return self.settings.redis_url

    def _url(self, name: str) -> SecretStr:
        """One of the app's URLs, masked: what is in the local variables of a traceback is shown by crash reporters."""
        value = self.app.conf[name] or ""
        return SecretStr(value if isinstance(value, str) else ";".join(value))

    def check(self) -> None:
        """
        Make sure, once in a process, that jobs can be kept and their results stored.

        Raises:
            StoreError: Redis can't be reached.
            SettingsError: It would evict keys, or Celery can't use the app's broker or result backend.
        """
        if not self._is_checked:
            self.store.check()
            self._check_celery()
            self._is_checked = True

    def _check_celery(self) -> None:
        name = "broker_url"
        try:
            self.app.connection_for_write().get_transport_cls()
            name = "result_backend"
            _ = self.app.backend
        except Exception as error:  # noqa: BLE001 - a missing package, a wrong URL: whatever Celery makes of it
            # from None: the cause may quote the URL
            raise SettingsError(f"Celery can't make anything of the app's {name} ({type(error).__name__})") from None

    def serve(self, sender: Any, **_: Any) -> None:
        """Celery's hook before a worker starts: whoever connected before did it as a caller, who has less patience."""
        if sender.app is self.app:
            self._is_worker = True
            for name, made in vars(type(self)).items():
                if isinstance(made, cached_property):
                    vars(self).pop(name, None)

    @contextmanager
    def producer(self, given: Any) -> Iterator[Any]:
        """
        *given*, or what a caller publishes with: it gives up on a broker that hangs, after about ``store_timeout_s``.

        Of a Redis, kombu waits for the answer without end. The job is registered by then, so nothing is lost.
        """
        if given is not None or self._producers is None:
            yield given
        else:
            with self._producers.acquire(block=True) as producer:
                yield producer
                channel = producer.channel
                self._is_atomic = (
                    isinstance(channel, atomic.Channel)
                    and channel.shares_server(self.store)
                    and self.results.are_in_redis
                )

    def registers_with_message(self, given: Any) -> bool:
        """
        Whether what is published by `producer` registers its job as well.

        Not in a process' first call: it finds out whether that is possible. Nor may Celery ask Redis for anything
        before the push (see ``subscribe`` of `publish_generate`): it waits long for one that is away.
        """
        return given is None and self._is_atomic

    @cached_property
    def _producers(self) -> Any:
        app: Any = self.app
        if self._is_worker or app.connection_for_write().transport.driver_type != "redis":
            return None
        bounds = patience.bounds(self.settings.store_timeout_s)
        options = {**bounds, **app.conf.broker_transport_options}
        # not where there are several brokers: kombu reaches the second by its own transport
        url = SecretStr(app.conf.broker_write_url or "")
        transport = atomic.TRANSPORT if _starts(url, "redis://", "rediss://") and not _is_several(url) else None
        producers = kombu.pools.producers[app.connection_for_write(transport=transport, transport_options=options)]
        producers.limit = app.pool.limit
        return producers

    @property
    def reactor(self) -> Reactor:
        """This process' event loop; made when first asked for, and again in a forked child."""
        return self._per_process()[0]

    def client(self, alias: str) -> AsyncClient:
        """
        This process' API client for the key under *alias*; to be used in the reactor only.

        Raises:
            SettingsError: There is no such key.
        """
        clients = self._per_process()[1]
        if alias not in clients:
            settings = self.settings
            clients[alias] = AsyncClient(
                settings.key(alias),
                settings.base_url,
                connect_timeout_s=settings.connect_timeout_s,
                query_timeout_s=settings.query_timeout_s,
                submit_timeout_s=settings.submit_timeout_s,
                max_connections=2 * settings.poll_batch,
            )
        return clients[alias]

    def caller_client(self, alias: str) -> Client:
        """
        An API client for whoever runs a job in its own thread; to be closed.

        Raises:
            SettingsError: There is no such key.
        """
        return make_client(self.settings, alias)

    # whoever waits for a job in its own thread does so by these three, which a test may replace

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some moment; a clock that is never set."""
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        """Let so much time pass."""
        time.sleep(seconds)

    def drain(self, **_: Any) -> None:
        """Celery's hook before a process ends: the answers on their way are still taken, if they come soon."""
        io = self._io
        if io is not None and io[0] == os.getpid():
            io[1].drain(DRAIN_S)
        self.counts.send()

    def close(self, wait_s: float) -> None:
        """Let go of loop and connections, for they are not needed any more; answers are waited for *wait_s*."""
        with self._lock:
            io, self._io = self._io, None
            if self._forgotten is not None:
                self._forgotten.detach()
        if io is not None and io[0] == os.getpid():
            _, reactor, clients = io
            reactor.drain(wait_s)
            for client in clients.values():
                reactor.run(client.aclose(), wait_s=wait_s)
            reactor.stop()
        if "store" in vars(self):
            self.store.client.close()

    def _per_process(self) -> tuple[Reactor, dict[str, AsyncClient]]:
        # threads don't survive a fork, and sockets must not be shared across one
        pid = os.getpid()
        with self._lock:
            if self._io is None or self._io[0] != pid:
                self._io = (pid, Reactor(), {})
                self._forgotten = weakref.finalize(self, _hang_up, *self._io)
                self._forgotten.atexit = False  # at the process' own end, the leases have what is in flight
            return self._io[1:]


def _hang_up(pid: int, reactor: Reactor, clients: dict[str, AsyncClient]) -> None:
    """End what a bridge had opened that nobody uses any more: so an app may be made anew for each of many tests."""

    async def close() -> None:
        for client in clients.values():
            await client.aclose()

    if pid == os.getpid():
        reactor.end(close())


def make_client(settings: Settings, alias: str) -> Client:
    """
    An API client for the key under *alias*.

    Raises:
        SettingsError: There is no such key.
    """
    return Client(
        settings.key(alias),
        settings.base_url,
        connect_timeout_s=settings.connect_timeout_s,
        query_timeout_s=settings.query_timeout_s,
        submit_timeout_s=settings.submit_timeout_s,
    )


def _starts(url: SecretStr, *schemes: str) -> bool:
    return url.get_secret_value().startswith(schemes)


def _is_several(url: SecretStr) -> bool:
    return ";" in url.get_secret_value()


_NAME: Final = "_tasks_bridge"
"""Attribute of a Celery app: its bridge, or why it has none. In the app, so that the two go together."""

_stand_in: Callable[[Bridge], Bridge] | None = None


def register_bridge(bridge: Bridge) -> None:
    """Make *bridge* the one of its app."""
    vars(bridge.app)[_NAME] = bridge if _stand_in is None else _stand_in(bridge)


@contextmanager
def stand_ins(make: Callable[[Bridge], Bridge]) -> Iterator[None]:
    """
    Have other bridges answer for all apps meanwhile, also for apps that are yet to come: for tests.

    Args:
        make: Gives the one that answers for a bridge.
    """
    global _stand_in  # noqa: PLW0603 - one for the process, as its apps are
    originals: list[Bridge] = []
    outer = _stand_in

    def stand_in(bridge: Bridge) -> Bridge:
        originals.append(bridge if outer is None else outer(bridge))
        return make(originals[-1])

    state: Any = _state
    apps = list(state._get_active_apps())  # noqa: SLF001 - the only list of them
    known = [vars(app)[_NAME] for app in apps if isinstance(vars(app).get(_NAME), Bridge)]
    originals += known
    for bridge in known:
        vars(bridge.app)[_NAME] = make(bridge)
    _stand_in = stand_in
    try:
        yield
    finally:
        _stand_in = outer
        for bridge in originals:
            vars(bridge.app)[_NAME] = bridge


def refuse_bridge(app: Celery, problem: SettingsError) -> None:
    """Say why *app* has no bridge, to whoever asks for it: it could not be installed."""
    vars(app)[_NAME] = problem


def bridge_of(app: Celery | None = None) -> Bridge:
    """
    The bridge of *app*, or of the current app.

    Raises:
        SettingsError: `install` was not called for it.
    """
    target: Celery = app_or_default(app)
    if isinstance(target, Proxy):
        target = target._get_current_object()  # noqa: SLF001 - Celery's documented way past its proxies
    found: Bridge | SettingsError | None = vars(target).get(_NAME)
    if isinstance(found, SettingsError):
        raise found
    if found is None:
        raise SettingsError(
            f"The Celery app {target.main or target!r} doesn't know tasks-bridge: "
            "call tasks_bridge.install(app) where the app is made"
        )
    return found
