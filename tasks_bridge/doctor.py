"""
Whether a deployment is well: what `tasks-bridge doctor` looks at. It changes nothing, starts no job and spends nothing.

Each look is a generator of diagnoses, so that they show as they come. A look that needs what an earlier one found to be
missing says nothing.
"""

from __future__ import annotations

import platform
import statistics
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx
import redis

import tasks_bridge
from tasks_bridge import checks, outbound
from tasks_bridge.checks import Finding, check_callbacks, check_celery, check_settings, check_workers
from tasks_bridge.errors import ApiStatusError, AuthenticationError, BridgeError, PermissionDenied, RateLimited
from tasks_bridge.events import GENERATE, POLL
from tasks_bridge.history import duration
from tasks_bridge.publish import generate_queue
from tasks_bridge.recover import Service
from tasks_bridge.settings import DEFAULT_KEY

if TYPE_CHECKING:
    from tasks_bridge.bridge import Bridge

REDIS_MIN: Final = (7, 0)
VALKEY_MIN: Final = (8, 0)
CELERY_MIN: Final = (5, 5)

PINGS: Final = 20
SLOW_PING_S: Final = 0.01
"""A poll's batch takes about five round trips."""
PATIENCE_S: Final = 3.0
"""For a Redis that hangs."""
FULL: Final = 0.8
SKEW_S: Final = 2.0
DATE_SKEW_S: Final = 5.0
"""The header `Date` has whole seconds, and is on its way for some time."""
OVERDUE_S: Final = 30.0
ACTIVITY_S: Final = 60.0
TROUBLED: Final = 0.2
"""Share of requests that fail."""
FEWEST_TROUBLES: Final = 5


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"  # it works, and something is dangerous
    ERROR = "error"  # jobs can't be started, polled or kept


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that was looked at."""

    area: str
    code: str
    """For whoever looks it up or silences it; the same for good and bad."""
    level: Level
    message: str
    remedy: str | None = None
    """What to do."""

    def described(self) -> dict[str, Any]:
        """For programs: ``{"area", "code", "level", "message", "remedy"}``, the last null where all is well."""
        return {
            "area": self.area,
            "code": self.code,
            "level": self.level.value,
            "message": self.message,
            "remedy": self.remedy,
        }


def examine(bridge: Bridge, *, wait_s: float) -> Iterator[Diagnosis]:
    """
    Look at everything.

    Args:
        bridge: Of the app to look at.
        wait_s: How long workers have for their answers.
    """
    yield from _versions()
    yield from _settings(bridge)
    redis_at = None
    for diagnosis, found_at in _stores(bridge):
        redis_at = found_at or redis_at
        if diagnosis is not None:
            yield diagnosis
    service_at = None
    for diagnosis, found_at in _service(bridge):
        service_at = found_at or service_at
        if diagnosis is not None:
            yield diagnosis
    yield from _clocks(redis_at, service_at)
    yield from _workers(bridge, wait_s)
    if redis_at is not None:
        yield from _jobs(bridge)


# -- versions and settings --------------------------------------------------------------------------------------------


def _versions() -> Iterator[Diagnosis]:
    names = ("celery", "kombu", "redis", "httpx", "aiohttp")
    known = ", ".join(f"{name} {version(name)}" for name in names)
    message = f"tasks-bridge {tasks_bridge.__version__}, Python {platform.python_version()}, {known}"
    if _numbers(version("celery")) < CELERY_MIN:
        yield Diagnosis("versions", "versions", Level.ERROR, message, "Celery 5.5 or later is needed: upgrade it.")
    else:
        yield Diagnosis("versions", "versions", Level.OK, message)


def _settings(bridge: Bridge) -> Iterator[Diagnosis]:
    settings = bridge.settings
    found = [*check_settings(bridge), *check_celery(bridge), *check_workers(bridge)]
    if settings.callback_base_url is not None:
        found += check_callbacks(bridge, urlsplit(settings.callback_base_url).path, "")
    yield from (_as_diagnosis(finding) for finding in found)
    if not found:
        names = f"namespace {settings.namespace}, poll queue {settings.poll_queue}"
        yield Diagnosis("settings", "settings", Level.OK, f"nothing is wrong with them: {names}")


def _as_diagnosis(finding: Finding) -> Diagnosis:
    level = Level.ERROR if checks.stops(finding) else Level.WARNING
    return Diagnosis("settings", finding.code, level, finding.message, finding.hint)


# -- Redis ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Moments:
    """A clock beside this machine's."""

    here: float
    there: float
    name: str

    @property
    def ahead_s(self) -> float:
        """By how much that one is ahead."""
        return self.there - self.here


def _stores(bridge: Bridge) -> Iterator[tuple[Diagnosis | None, Moments | None]]:
    """Each Redis, and the clock of the one with the jobs."""
    try:
        address = bridge.store.address
    except BridgeError as error:  # a URL that can't be read
        yield Diagnosis("redis", "redis-reached", Level.ERROR, str(error)), None
        return
    try:
        client = bridge.open_store(PATIENCE_S).client
        moments = _time(client, "Redis")
        info: dict[str, Any] = client.info("all")
    except (redis.RedisError, OSError, BridgeError) as error:
        message = f"Redis at {address} can't be used: {_reason(error)}"
        remedy = "Start it, or correct TASKS_BRIDGE_REDIS_URL. Without it no job can be started, and none goes on."
        yield Diagnosis("redis", "redis-reached", Level.ERROR, message, remedy), None
        return
    yield None, moments
    with client:
        for diagnosis in _server(client, info, address):
            yield diagnosis, None
    for name, pool in _others(bridge):
        if not bridge.store.shares_server(pool):
            for diagnosis in _other(name, redis.Redis(connection_pool=pool)):
                yield diagnosis, None


def _server(client: redis.Redis, info: dict[str, Any], address: str) -> Iterator[Diagnosis]:
    """The one that keeps the jobs."""
    yield _version_of(info, address)
    yield from _role(info)
    yield from _persistence(client, info)
    yield _eviction(info)
    yield from _room(info)
    yield _latency(client)


def _version_of(info: dict[str, Any], address: str) -> Diagnosis:
    is_valkey = "valkey_version" in info
    found = str(info["valkey_version" if is_valkey else "redis_version"])
    name, least = ("Valkey", VALKEY_MIN) if is_valkey else ("Redis", REDIS_MIN)
    message = f"{name} {found} at {address}"
    if _numbers(found) >= least:
        return Diagnosis("redis", "redis-version", Level.OK, message)
    wanted = "Redis 7 or later, or Valkey 8 or later, is needed: upgrade the server."
    return Diagnosis("redis", "redis-version", Level.ERROR, message, wanted)


def _role(info: dict[str, Any]) -> Iterator[Diagnosis]:
    if info.get("role") == "slave":
        message = "it is a replica, which takes no writes"
        yield Diagnosis("redis", "redis-role", Level.ERROR, message, "Use the master's address, or Sentinels.")
    if info.get("loading"):
        message = "it is still loading its data"
        yield Diagnosis("redis", "redis-loading", Level.ERROR, message, "Wait; how far it is, INFO persistence says.")


def _persistence(client: redis.Redis, info: dict[str, Any]) -> Iterator[Diagnosis]:
    aof = "Set appendonly yes and appendfsync everysec, in its configuration file too."
    if info.get("rdb_last_bgsave_status") == "err" or info.get("aof_last_write_status") == "err":
        message = "its last attempt to write to its disk failed; it may refuse writes until one works"
        yield Diagnosis("redis", "redis-disk", Level.ERROR, message, "Look at its log and at the disk's free space.")
    if info.get("aof_enabled"):
        if _config(client, "appendfsync") == "no":
            message = "it persists, but appendfsync no leaves it to the system when: half a minute may be lost"
            yield Diagnosis("redis", "redis-persistence", Level.WARNING, message, "Set appendfsync everysec.")
        else:
            yield Diagnosis("redis", "redis-persistence", Level.OK, "it persists each second (appendonly yes)")
    elif _config(client, "save") == "":
        message = "it keeps nothing on disk: a restart loses all jobs that wait, and what was paid for them"
        yield Diagnosis("redis", "redis-persistence", Level.ERROR, message, aof)
    else:
        message = "it persists by snapshots only: a crash loses all jobs since the last one"
        yield Diagnosis("redis", "redis-persistence", Level.WARNING, message, aof)


def _eviction(info: dict[str, Any]) -> Diagnosis:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy == "noeviction":
        return Diagnosis("redis", "redis-eviction", Level.OK, "it evicts nothing (maxmemory-policy noeviction)")
    message = f"it evicts keys when memory runs short (maxmemory-policy {policy}): jobs that are paid for get lost"
    return Diagnosis("redis", "redis-eviction", Level.ERROR, message, "Set maxmemory-policy noeviction.")


def _room(info: dict[str, Any]) -> Iterator[Diagnosis]:
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if most and used > FULL * most:
        message = f"{used / most:.0%} of its memory is used ({used / 2**20:.0f} of {most / 2**20:.0f} MiB)"
        remedy = "Raise maxmemory: once it is full, no job can be started, and none goes on."
        yield Diagnosis("redis", "redis-memory", Level.WARNING, message, remedy)
    clients, places = int(info.get("connected_clients", 0)), int(info.get("maxclients", 0))
    if places and clients > FULL * places:
        message = f"{clients} of {places} connections are taken"
        yield Diagnosis("redis", "redis-clients", Level.WARNING, message, "Raise maxclients, or run fewer processes.")


def _latency(client: redis.Redis) -> Diagnosis:
    took_s = []
    for _ in range(PINGS):
        begun = time.perf_counter()
        client.ping()
        took_s.append(time.perf_counter() - begun)
    usual_s = statistics.median(took_s)
    message = f"it answers in {usual_s * 1000:.1f} ms (median of {PINGS}; the slowest took {max(took_s) * 1000:.1f} ms)"
    if usual_s <= SLOW_PING_S:
        return Diagnosis("redis", "redis-latency", Level.OK, message)
    remedy = "Bring workers and Redis closer together, or look for slow commands: SLOWLOG GET."
    return Diagnosis("redis", "redis-latency", Level.WARNING, message, remedy)


def _config(client: redis.Redis, name: str) -> str | None:
    """A setting of the server; None if it doesn't say, as hosted ones don't."""
    try:
        found: Any = client.config_get(name)
    except redis.RedisError:
        return None
    return None if name not in found else str(found[name])


def _others(bridge: Bridge) -> Iterator[tuple[str, Any]]:
    """The connections to Redis of broker and result backend, where they have such."""
    app: Any = bridge.app
    try:
        with app.connection_for_write() as connection:
            if connection.transport.driver_type == "redis":
                yield "broker", connection.default_channel.client.connection_pool
        backend = app.backend.client if type(app.backend).__name__ in ("RedisBackend", "SentinelBackend") else None
        if backend is not None:
            yield "result backend", backend.connection_pool
    except Exception:  # noqa: BLE001 - a broker that can't be reached is told elsewhere
        return


def _other(name: str, client: redis.Redis) -> Iterator[Diagnosis]:
    code = f"{name.replace(' ', '-')}-eviction"
    try:
        policy = str(client.info("memory").get("maxmemory_policy", "noeviction"))
    except redis.RedisError as error:
        message = f"the {name}'s Redis can't be used: {_reason(error)}"
        yield Diagnosis("redis", code, Level.ERROR, message, "Start it, or correct the app's URL of it.")
        return
    if policy != "noeviction":
        message = f"the {name}'s Redis evicts keys when memory runs short (maxmemory-policy {policy})"
        remedy = "Set maxmemory-policy noeviction: callbacks and outcomes that are waiting there would get lost."
        yield Diagnosis("redis", code, Level.WARNING, message, remedy)


# -- ByteSpike and clocks ---------------------------------------------------------------------------------------------


def _service(bridge: Bridge) -> Iterator[tuple[Diagnosis | None, Moments | None]]:
    settings = bridge.settings
    aliases = list(dict.fromkeys((*([DEFAULT_KEY] if settings.api_key else ()), *settings.api_keys)))
    if not aliases:
        return
    try:
        moments = _date(settings.base_url, settings.connect_timeout_s)
    except (httpx.HTTPError, OSError) as error:
        message = f"ByteSpike at {settings.base_url} can't be reached: {_reason(error)}"
        remedy = "Check the network, proxies and BYTESPIKE_BASE_URL. Jobs wait until it answers."
        yield Diagnosis("bytespike", "bytespike-reached", Level.ERROR, message, remedy), None
        return
    yield None, moments
    with Service(settings) as service:
        for alias in aliases:
            yield _key(service, alias, settings.base_url), None


def _key(service: Service, alias: str, base_url: str) -> Diagnosis:
    """
    Whether a key is good: by a query for a task that there is not, which is free.

    Source: contract, section 4 (401 for a wrong key, 404 ``task_not_found`` for a right one).
    """
    begun = time.perf_counter()
    where = f"the key {alias!r} at {base_url}"
    try:
        service.task(f"tasks-bridge-doctor-{uuid.uuid4().hex[:16]}", alias)
    except AuthenticationError:
        remedy = "Correct BYTESPIKE_API_KEY (or BYTESPIKE_API_KEYS): it is wrong, revoked, expired or disabled."
        return Diagnosis("bytespike", "bytespike-key", Level.ERROR, f"ByteSpike refuses {where}", remedy)
    except PermissionDenied as error:
        remedy = "Allow this machine's address in the key's settings at ByteSpike."
        return Diagnosis("bytespike", "bytespike-key", Level.ERROR, f"ByteSpike forbids {where}: {error}", remedy)
    except RateLimited:
        message = f"ByteSpike accepts {where}, and asks for fewer requests for now"
        return Diagnosis("bytespike", "bytespike-key", Level.WARNING, message, "Jobs wait by themselves.")
    except BridgeError as error:
        is_refusal = isinstance(error, ApiStatusError) and error.status_code < 500  # noqa: PLR2004 - HTTP's own fault
        remedy = "Check BYTESPIKE_BASE_URL." if is_refusal else "Jobs wait until it answers; look at its status page."
        message = f"ByteSpike could not be asked with {where}: {error}"
        return Diagnosis("bytespike", "bytespike-key", Level.ERROR, message, remedy)
    took_ms = (time.perf_counter() - begun) * 1000
    message = f"ByteSpike accepts {where} (asked for a task that there is not, in {took_ms:.0f} ms)"
    return Diagnosis("bytespike", "bytespike-key", Level.OK, message)


def _date(base_url: str, timeout_s: float) -> Moments | None:
    """Its clock, by the header of an answer to a request without a key."""
    outbound.check(base_url)
    begun = time.time()
    answer = httpx.head(base_url, timeout=timeout_s, follow_redirects=False)
    here = (begun + time.time()) / 2
    try:
        # cut off to whole seconds: half a second is the best guess of what is missing
        return Moments(here, parsedate_to_datetime(answer.headers["date"]).timestamp() + 0.5, "ByteSpike")
    except (KeyError, ValueError):
        return None


def _time(client: redis.Redis, name: str) -> Moments:
    client.ping()  # the connection is made
    begun = time.time()
    seconds, micros = client.time()
    return Moments((begun + time.time()) / 2, seconds + micros / 1e6, name)


def _clocks(ours: Moments | None, theirs: Moments | None) -> Iterator[Diagnosis]:
    told = [(moments, most_s) for moments, most_s in ((ours, SKEW_S), (theirs, DATE_SKEW_S)) if moments is not None]
    for moments, most_s in told:
        code, ahead_s = f"clock-{moments.name.lower()}", moments.ahead_s
        if abs(ahead_s) <= most_s:
            message = f"{moments.name} and this machine agree on the time, within {abs(ahead_s):.1f} s"
            yield Diagnosis("clocks", code, Level.OK, message)
            continue
        how = "ahead of" if ahead_s > 0 else "behind"
        message = f"the clock of {moments.name} is {duration(abs(ahead_s))} {how} this machine's"
        remedy = (
            "Have NTP set the clocks of this machine and of Redis. Countdowns go by Redis' clock alone; "
            "logs, signed links and certificates go by the others."
        )
        yield Diagnosis("clocks", code, Level.WARNING, message, remedy)


# -- workers and jobs -------------------------------------------------------------------------------------------------


def _workers(bridge: Bridge, wait_s: float) -> Iterator[Diagnosis]:
    app: Any = bridge.app
    try:
        inspect = app.control.inspect(timeout=wait_s)
        queues = {name: {queue["name"] for queue in found} for name, found in (inspect.active_queues() or {}).items()}
        stats = (inspect.stats() or {}) if queues else {}
    except Exception as error:  # noqa: BLE001 - each broker has errors of its own
        where = app.connection_for_write().as_uri()  # without the password
        message = f"the broker at {where} can't be used: {_reason(error)}"
        remedy = "Start it, or correct the broker's URL. Jobs that were started wait in Redis until it is back."
        yield Diagnosis("workers", "broker-reached", Level.ERROR, message, remedy)
        return
    if not queues:
        message = f"no worker answered within {wait_s:g} s"
        remedy = (
            "Start one: celery -A <your app> worker. If some are up, they use another broker, "
            "have worker_enable_remote_control off, or are too busy: --wait 10."
        )
        yield Diagnosis("workers", "workers-up", Level.ERROR, message, remedy)
        return
    slots = sum(int((found.get("pool") or {}).get("max-concurrency") or 1) for found in stats.values())
    names = ", ".join(sorted(queues))
    message = f"{len(queues)} worker{'' if len(queues) == 1 else 's'} with {slots} slots: {names}"
    yield Diagnosis("workers", "workers-up", Level.OK, message)
    yield _queue("workers-poll", bridge.settings.poll_queue, "poll", "polls jobs", queues)
    yield _queue("workers-generate", generate_queue(app), "generate", "submits jobs and ends them", queues)
    yield from _unregistered(inspect, bridge, queues)


def _queue(code: str, name: str, task: str, does: str, queues: dict[str, set[str]]) -> Diagnosis:
    readers = [worker for worker, read in queues.items() if name in read]
    if readers:
        message = f"{len(readers)} of them read{'s' if len(readers) == 1 else ''} the queue {name}, which {does}"
        return Diagnosis("workers", code, Level.OK, message)
    if task == "poll":
        remedy = (
            "Every worker of an app with install(app) reads it, unless TASKS_BRIDGE_ALARM is false or "
            "TASKS_BRIDGE_QUEUE is another there: have one without."
        )
    else:
        remedy = f"Have a worker read it: celery -A <your app> worker -Q {name}, or set task_routes for {GENERATE}."
    return Diagnosis("workers", code, Level.ERROR, f"no worker reads the queue {name}, so none {does}", remedy)


def _unregistered(inspect: Any, bridge: Bridge, queues: dict[str, set[str]]) -> Iterator[Diagnosis]:
    ours = {bridge.settings.poll_queue: POLL, generate_queue(bridge.app): GENERATE}
    for worker, known in sorted((inspect.registered() or {}).items()):
        names = {task.partition(" ")[0] for task in known}
        missing = [task for queue, task in ours.items() if queue in queues.get(worker, ()) and task not in names]
        if missing:
            message = f"{worker} reads the queue of {', '.join(missing)}, and does not know the task"
            remedy = "Call tasks_bridge.install(app) where that worker's app is made, and deploy it anew."
            yield Diagnosis("workers", "workers-tasks", Level.ERROR, message, remedy)


def _jobs(bridge: Bridge) -> Iterator[Diagnosis]:
    try:
        yield from _look_at_jobs(bridge)
    except BridgeError as error:
        yield Diagnosis("jobs", "jobs-read", Level.ERROR, str(error))


def _look_at_jobs(bridge: Bridge) -> Iterator[Diagnosis]:
    store = bridge.store
    now, count, due, next_due_s = store.now(), store.open_count(), store.due_count(), store.next_due_s()
    message = f"{count} open, {due} of them due now"
    if next_due_s is not None and next_due_s < -OVERDUE_S:
        remedy = "There are too few workers, or none that polls: see above. They take them as soon as they can."
        late = f"{message}, the first of them for {duration(-next_due_s)}"
        yield Diagnosis("jobs", "jobs-overdue", Level.ERROR, late, remedy)
    else:
        yield Diagnosis("jobs", "jobs-overdue", Level.OK, message)
    if newer := store.newer_count():
        message = f"{newer} wait for workers of a newer version of tasks-bridge"
        yield Diagnosis("jobs", "jobs-newer", Level.WARNING, message, "Start such workers beside these, or upgrade.")
    circuit = bridge.gate.circuit()
    if circuit.opened_at is not None:
        message = f"the workers get no answer from ByteSpike, since {duration(now - circuit.opened_at)} ago: jobs wait"
        remedy = "They go on by themselves. If ByteSpike answers here (above), look at the workers' network."
        yield Diagnosis("jobs", "jobs-breaker", Level.ERROR, message, remedy)
    activity = bridge.journal.activity(now, ACTIVITY_S) if bridge.journal else None
    asked = 0 if activity is None else activity.looks + activity.changes + activity.troubles
    if activity is not None and activity.troubles >= max(FEWEST_TROUBLES, TROUBLED * asked):
        message = f"{activity.troubles} of {asked} steps of jobs failed in the last minute"
        remedy = "tasks-bridge explain on one of them says why, as do the workers' logs."
        yield Diagnosis("jobs", "jobs-trouble", Level.WARNING, message, remedy)


def _reason(error: BaseException) -> str:
    return f"{error}" or type(error).__name__


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def worst(diagnoses: Sequence[Diagnosis]) -> Level:
    """The level of them all."""
    levels = {diagnosis.level for diagnosis in diagnoses}
    return next((level for level in (Level.ERROR, Level.WARNING) if level in levels), Level.OK)
