"""
The store in Redis 7+ or Valkey 8+.

Keys, all under the prefix ``{<namespace>}:``, whose braces keep a namespace in one slot of a Redis Cluster:

=============  ===========  ================================================================  ==================
key            type         content                                                           expires
=============  ===========  ================================================================  ==================
``due:<kind>:  sorted set   the schedule: job id, scored by its due time (s since the epoch)  members leave at
<lane>``                    of the jobs of one lane (see `LANES`). Kind: ``submit`` while     the end
                            `QUEUED`, else ``poll``
``due``        sorted set   the same, of jobs that version 1 wrote
``newer``      sorted set   ids of due jobs that an older worker met, scored by the version   members leave once
                            of their records: out of its way, and due at once for a newer     a newer one came
                            worker
``job:<id>``   string       msgpack of: the record's version; lane; `JobState`; token; phase  ``result_ttl_s``
                            (``w`` waiting, ``c`` claimed, ``l`` leased, ``e`` ended);        after the end
                            claims; the `JobRecord`, packed (`packed`); the reason to
                            cancel, once asked for; ``heard`` and ``recheck``, see
                            ``announce.lua``. A hash, if version 1 wrote it
``body:<id>``  string       the submit request's bytes, prompt included                       deleted once
                                                                                              accepted, or with
                                                                                              the job
``census``     hash         how many open jobs there are, by ``<state> <model>``              fields leave at 0
``notice:``    channel      followed by the job's id: its facts as JSON, at each change       -
=============  ===========  ================================================================  ==================

Open jobs never expire. Each operation is one Lua script in ``lua/``; what happens if it runs twice stands at its top.
A process that dies before a script changed nothing; after it, the due time that the script left brings the job back.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import redis
from pydantic import SecretStr
from redis.sentinel import SentinelConnectionPool

from tasks_bridge.errors import SettingsError, StoreError, StoreUnreachable
from tasks_bridge.record import RECORD_VERSION, JobRecord, JobState
from tasks_bridge.store import patience, sentinel
from tasks_bridge.store.base import (
    LANES,
    NO_MESSAGES,
    NO_REASON,
    NOTHING_BESIDE,
    Beside,
    Claim,
    Entry,
    Lease,
    Lost,
    Message,
    Phase,
    Purpose,
    Registered,
    Registration,
    Survey,
    Write,
    lane_of,
)
from tasks_bridge.store.packed import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from redis.commands.core import Script

_NOTHING: Final = Beside("", "", 0)
_NO_MESSAGE: Final = Message("", "")
_LOST: Final = {b"l": Lost.LEASE, b"c": Lost.MESSAGE}
_LUA: Final = files("tasks_bridge.store") / "lua"

SCRIPTS: Final = (
    "register",
    "claim",
    "release",
    "begin",
    "renew",
    "write",
    "end",
    "cancel",
    "touch",
    "announce",
    "get",
    "count",
    "survey",
)


def connect(url: SecretStr, *, patience_s: float = patience.OF_WORKERS_S) -> redis.Redis:
    """
    A client for *url*, which waits *patience_s* for a server that hangs; nothing is sent yet.

    Raises:
        SettingsError: *url* is not a Redis URL, or has an option that there is not. The message doesn't quote it.
    """
    options = patience.options(patience_s)
    if url.get_secret_value().startswith(sentinel.SCHEME):
        return sentinel.SentinelAddress.parse(url).client(**options)
    client = _client(url, options)
    if client is None:
        raise SettingsError(
            "TASKS_BRIDGE_REDIS_URL, or what the app has instead, is not a Redis URL: it must start with redis://, "
            "rediss://, unix:// or sentinel://, and may only have options that redis-py knows"
        )
    return client


def _client(url: SecretStr, options: dict[str, Any]) -> redis.Redis | None:
    try:
        client = redis.Redis.from_url(url.get_secret_value(), **options)
        # made and dropped: what is wrong with the URL's options shows only here
        client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    except (ValueError, TypeError, redis.RedisError):
        return None  # and no cause, which would quote the URL
    return client


class RedisStore:
    """`Store` over one Redis database; safe to share between threads."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        namespace: str = "tasks-bridge",
        keep_body: bool = False,
        clock: Callable[[], float] | None = None,
        version: int = RECORD_VERSION,
    ) -> None:
        """
        Use *client*, which must not decode responses.

        Args:
            client: Where the jobs are kept.
            namespace: Start of every key, to share a database.
            keep_body: Keep requests (prompts) as long as their job instead of dropping them once accepted.
            clock: Seconds since the epoch, for tests; by default the server's own time.
            version: Newest records to act on; jobs with newer ones are left to newer workers.
        """
        self._redis = client
        self._prefix = f"{{{namespace}}}:"
        self._keep_body = int(keep_body)
        self._clock = clock
        self._version = version
        self._offset: float | None = None
        self._scripts = {name: self.script((_LUA / f"{name}.lua").read_text()) for name in SCRIPTS}

    def __repr__(self) -> str:
        return f"<RedisStore {self.address} {self._prefix}>"

    @property
    def address(self) -> str:
        """Where the data is, without credentials."""
        pool: redis.ConnectionPool | None = getattr(self._redis, "connection_pool", None)
        if pool is None:
            return "the cluster"
        options = pool.connection_kwargs
        if isinstance(pool, SentinelConnectionPool):
            return f"the master {pool.service_name}/{options.get('db') or 0}"
        where = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        return f"{where}/{options.get('db') or 0}"

    @property
    def client(self) -> redis.Redis:
        """The connection, for what is not a job."""
        return self._redis

    def shares_server(self, other: redis.ConnectionPool) -> bool:
        """Whether the connections of *other* would reach the same keys with the same rights."""
        mine = self._redis.connection_pool
        return mine is other or _whereabouts(mine) == _whereabouts(other) is not None

    def channel(self, job_id: str) -> str:
        """The channel on which a job's notices are published."""
        return f"{self._prefix}notice:{job_id}"

    def key(self, kind: str, name: str) -> str:
        """A key in this store's namespace for something that is not a job."""
        return f"{self._prefix}{kind}:{name}"

    def script(self, lua: str) -> Script:
        """*lua* behind ``common.lua``, which knows how jobs are kept; to be run with this store's prefix."""
        return self._redis.register_script((_LUA / "common.lua").read_text() + lua)

    def register(self, job_id: str, record: JobRecord, body: bytes, *, delay_s: float, published: bool) -> Registered:
        """See `Store.register`."""
        return self.register_many([Registration(job_id, record, body, delay_s, published)])[0]

    def register_many(
        self,
        jobs: Sequence[Registration],
        besides: Mapping[str, Beside] = NOTHING_BESIDE,
        messages: Mapping[str, Message] = NO_MESSAGES,
    ) -> list[Registered]:
        """See `Store.register_many`."""
        if not jobs:
            return []
        arguments: list[str | bytes | float] = []
        for job in jobs:
            beside, message = besides.get(job.job_id, _NOTHING), messages.get(job.job_id, _NO_MESSAGE)
            arguments += (
                job.job_id,
                pack(job.record.to_json(), job.job_id),
                job.body,
                job.delay_s,
                "c" if job.published else "w",
                job.record.version,
                lane_of(job.record),
                beside.key,
                beside.value,
                beside.ttl_s,
                message.key,
                message.value,
                job.record.model,
            )
        return [
            Registered(bool(is_new), JobState(state.decode()), job.record if is_new else _unpacked(kept, job.job_id))
            for job, (is_new, state, kept) in zip(jobs, self._run("register", *arguments), strict=True)
        ]

    def claim(self, limit: int, lease_s: float, *, submits: int | None = None) -> list[Claim]:
        """See `Store.claim`."""
        reply = iter(self._run("claim", limit, limit if submits is None else submits, lease_s, self._version))
        return [
            Claim(
                job_id, JobState(state.decode()), self._upgraded(record, job_id) if record else None, _LOST.get(phase)
            )
            for job_id, state, record, phase in zip(map(bytes.decode, reply), reply, reply, reply, strict=True)
        ]

    def release(self, job_ids: Sequence[str]) -> int:
        """See `Store.release`."""
        return int(self._run("release", *job_ids)) if job_ids else 0

    def begin(self, job_ids: Sequence[str], purpose: Purpose, lease_s: float) -> list[Lease]:
        """See `Store.begin`."""
        if not job_ids:
            return []
        now, *rows = self._run("begin", purpose.value, lease_s, self._version, *job_ids)
        return [
            Lease(
                job_id=job_id.decode(),
                token=token,
                claims=claims,
                state=JobState(state.decode()),
                record=self._upgraded(record, job_id.decode()),
                cancel=cancel.decode() or None,
                body=body or None,
                now=float(now),
                heard_at=float(heard) if heard else None,
            )
            for job_id, token, claims, state, record, cancel, body, heard in rows
        ]

    def renew(self, leases: Sequence[Lease], lease_s: float) -> None:
        """See `Store.renew`."""
        if leases:
            self._run("renew", lease_s, *(part for lease in leases for part in (lease.job_id, lease.token)))

    def write(
        self,
        lease: Lease,
        state: JobState,
        record: JobRecord,
        *,
        delay_s: float,
        published: bool = False,
        notice: str | None = None,
    ) -> bool:
        """See `Store.write`."""
        return self.write_many([Write(lease, state, record, delay_s, published, notice)])[0]

    def write_many(self, writes: Sequence[Write]) -> list[bool]:
        """See `Store.write_many`."""
        if not writes:
            return []
        arguments: list[str | bytes | float] = []
        for write in writes:
            arguments += (
                write.lease.job_id,
                write.lease.token,
                write.state.value,
                pack(write.record.to_json(), write.lease.job_id),
                write.delay_s,
                "c" if write.published else "w",
                int(write.lease.cancel is not None),
                write.notice or "",
                write.record.version,
                str(write.record.model),  # a newer version's may be something else
            )
        return [bool(held) for held in self._run("write", self._keep_body, *arguments)]

    def end(self, lease: Lease, ttl_s: float) -> bool:
        """See `Store.end`."""
        record = pack(lease.record.but(options={}).to_json(), lease.job_id)
        return bool(self._run("end", lease.job_id, lease.token, ttl_s, record, lease.record.version))

    def request_cancel(self, job_id: str, reason: str) -> JobState | None:
        """See `Store.request_cancel`."""
        state = self._run("cancel", job_id, reason or NO_REASON)
        return JobState(state.decode()) if state else None

    def touch(self, job_ids: Sequence[str], delay_s: float = 0.0) -> int:
        """See `Store.touch`."""
        return int(self._run("touch", delay_s, *job_ids)) if job_ids else 0

    def announce(self, job_id: str, gap_s: float) -> bool:
        """See `Store.announce`."""
        return bool(self._run("announce", job_id, gap_s))

    def get(self, job_ids: Sequence[str]) -> list[Entry | None]:
        """See `Store.get`."""
        if not job_ids:
            return []
        now, *rows = self._run("get", *job_ids)
        return [
            Entry(
                job_id=job_id,
                state=JobState(row[0].decode()),
                record=_unpacked(row[1], job_id),
                cancel=row[2].decode() or None,
                due_at=float(row[3]) if row[3] else None,
                now=float(now),
                phase=Phase(row[4].decode()),
                token=row[5],
                claims=row[6],
                left_to=row[7] if row[7] > self._version else None,
            )
            if row
            else None
            for job_id, row in zip(job_ids, rows, strict=True)
        ]

    def open_ids(self, start: str = "") -> Iterator[str]:
        """See `Store.open_ids`."""
        pattern, seen = re.sub(r"([\\*?\[\]])", r"\\\1", start) + "*", set()
        with self._errors():
            for kind in ("due", "newer", *_lanes()):
                for member, _ in self._redis.zscan_iter(f"{self._prefix}{kind}", match=pattern, count=1000):
                    if member not in seen:  # a job may change its lane meanwhile
                        seen.add(member)
                        yield member.decode()

    def due_count(self) -> int:
        """See `Store.due_count`."""
        return int(self._run("count", self._version)[2])

    def open_count(self) -> int:
        """See `Store.open_count`."""
        return int(self._run("count", self._version)[1])

    def newer_count(self) -> int:
        """See `Store.newer_count`."""
        with self._errors():
            return int(self._redis.zcount(f"{self._prefix}newer", f"({self._version}", "+inf"))

    def survey(self, overdue_s: float) -> Survey:
        """See `Store.survey`."""
        now, to_submit, to_poll, overdue, earliest, newer, census = self._run("survey", self._version, overdue_s)
        fields = (field.decode().partition(" ") for field in census[::2])
        return Survey(
            to_submit=to_submit,
            to_poll=to_poll,
            overdue=overdue,
            overdue_s=max(float(now) - float(earliest), 0.0) if earliest else 0.0,
            newer=newer,
            census={
                (JobState(state), model): int(count)
                for (state, _, model), count in zip(fields, census[1::2], strict=True)
            },
        )

    def next_due_s(self) -> float | None:
        """See `Store.next_due_s`."""
        now, _, _, earliest = self._run("count", self._version)
        return float(earliest) - float(now) if earliest else None

    def now(self) -> float:
        """See `Store.now`; after the first call without a round trip, and immune to jumps of the local clock."""
        if self._clock:
            return self._clock()
        if self._offset is None:
            with self._errors():
                seconds, micros = self._redis.time()
            self._offset = seconds + micros / 1e6 - time.monotonic()
        return time.monotonic() + self._offset

    def check(self) -> None:
        """
        Make sure that the server answers and keeps what it is given.

        Raises:
            StoreError: It can't be reached.
            SettingsError: It may evict keys when memory runs short, and with them jobs.
        """
        with self._errors():
            policy = self._redis.info("memory").get("maxmemory_policy")
        if policy not in (None, "noeviction"):
            raise SettingsError(
                f"Redis at {self.address} evicts keys when memory runs short (maxmemory-policy {policy}), which would "
                "lose jobs that are paid for: set maxmemory-policy to noeviction"
            )

    def _upgraded(self, stored: bytes, job_id: str) -> JobRecord:
        """A record to act on, which is of this version or an older one, as this version would have written it."""
        return _unpacked(stored, job_id).but(version=self._version)

    def _run(self, script: str, *arguments: str | bytes | float) -> Any:
        now = "" if self._clock is None else f"{self._clock():.6f}"
        with self._errors():
            return self._scripts[script](keys=[f"{self._prefix}due"], args=[now, self._prefix, *arguments])

    @contextmanager
    def _errors(self) -> Iterator[None]:
        # from None: redis-py's frames hold the password while it connects, and crash reporters show local variables
        try:
            yield
        except redis.AuthenticationError:
            raise StoreError(f"Redis at {self.address} refuses the user name or password") from None
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            raise StoreUnreachable(f"Redis at {self.address} can't be reached: {error}. Is it running?") from None
        except redis.RedisError as error:
            raise StoreError(f"Redis at {self.address} refused a command: {error}") from None


def _lanes() -> list[str]:
    return [f"due:{kind}:{lane}" for kind in ("submit", "poll") for lane in range(LANES)]


def _whereabouts(pool: redis.ConnectionPool) -> tuple[Any, ...] | None:
    if isinstance(pool, SentinelConnectionPool):
        return None
    options = pool.connection_kwargs
    return tuple(options.get(name) or default for name, default in _WHEREABOUTS)


_WHEREABOUTS: Final = (("path", None), ("host", "localhost"), ("port", 6379), ("db", 0), ("username", None))


def _unpacked(stored: bytes, job_id: str) -> JobRecord:
    return JobRecord.from_json(unpack(stored, job_id))
