"""What every measurement stands on: a private Redis, the stub, and workers as processes that can be weighed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import psutil
import redis

from benchmarks.ready import KEY as READY
from tasks_bridge.embedded import EmbeddedRedis, GuardedProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).parent.parent
START_S = 60.0


class Worker:
    """The processes of one worker, of whichever queue, and what they started."""

    def __init__(self, rig: Rig, name: str, commands: Sequence[list[str]], settings: Mapping[str, str]) -> None:
        self._rig = rig
        rig.redis.delete(READY)
        self._processes = []
        for number, command in enumerate(commands):
            log = rig.directory / f"{name}-{number}-{time.time_ns()}.log"
            self._processes.append(GuardedProcess(command, log=log, env={**rig.environment, **settings}))
        with contextlib.suppress(TimeoutError):
            wait_for(lambda: self._is_ready() or not self.is_alive(), START_S)
        if not self._is_ready():
            self.kill()
            raise RuntimeError(f"The worker did not start: {log.read_text()[-2000:]}")

    def _is_ready(self) -> bool:
        return int(self._rig.redis.get(READY) or 0) >= len(self._processes)

    def is_alive(self) -> bool:
        """Whether all processes still run."""
        return all(process.is_alive() for process in self._processes)

    @property
    def processes(self) -> list[psutil.Process]:
        """Those that were started, each followed by its own."""
        found = []
        for process in self._processes:
            main = psutil.Process(process.pid)
            found += [main, *main.children(recursive=True)]
        return found

    def cpu_s(self) -> float:
        """CPU seconds of all processes so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes)

    def memory(self) -> dict[str, float]:
        """MiB of all processes: `uss` belongs to them alone, `pss` adds their share of what they have in common."""
        infos = [process.memory_full_info() for process in self.processes]
        return {name: sum(getattr(info, name) for info in infos) / 2**20 for name in ("uss", "pss")}

    def stop(self, timeout_s: float = 120.0) -> float:
        """SIGTERM; returns the seconds until the processes were gone."""
        began = time.perf_counter()
        for process in self._processes:
            process.end(signal.SIGTERM, timeout_s=timeout_s)
        return time.perf_counter() - began

    def kill(self) -> None:
        """SIGKILL them all."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in self.processes[1:]:
                process.kill()
        for process in self._processes:
            process.end(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Rig:
    """Redis (append-only file on) and the stub, for the length of a ``with`` block."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        self._server = self._stack.enter_context(EmbeddedRedis())
        self.redis = redis.Redis.from_url(self._server.url)
        self._stack.callback(self.redis.close)
        port = _free_port()
        self.stub_url = f"http://127.0.0.1:{port}"
        self._stub = GuardedProcess(
            [sys.executable, "-m", "benchmarks.stub", str(port)],
            log=self.directory / "stub.log",
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        self._stack.callback(self._stub.end, signal.SIGKILL)
        self._http = self._stack.enter_context(httpx.Client(base_url=self.stub_url))
        wait_for(self._stub_answers, START_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def redis_version(self) -> str:
        """Product and version of the server."""
        info = self.redis.info("server")
        return f"{info.get('server_name', 'redis')} {info.get('valkey_version') or info['redis_version']}"

    @property
    def environment(self) -> dict[str, str]:
        """For workers and loaders; every job wants a poll a second."""
        own = ("TASKS_BRIDGE_", "BYTESPIKE_", "CELERY_")
        return {name: value for name, value in os.environ.items() if not name.startswith(own)} | {
            "PYTHONPATH": str(ROOT),
            "TASKS_BRIDGE_REDIS_URL": self._server.url,
            "TASKS_BRIDGE_POLL_MIN_S": "1",
            "TASKS_BRIDGE_POLL_MAX_S": "1",
            "BYTESPIKE_BASE_URL": self.stub_url,
            "BYTESPIKE_API_KEY": "sk-byts-benchmark",
        }

    def worker(
        self, name: str, settings: Mapping[str, str] | None = None, *, processes: int = 2, workers: int = 1
    ) -> Worker:
        """Start *workers* Celery workers of the app `benchmarks.<name>` and wait until they are ready."""
        command = [sys.executable, "-m", "celery", "-A", f"benchmarks.{name}", "worker", "-c", str(processes)]
        commands = [
            [*command, "--loglevel", "WARNING", "--hostname", f"{name}{number}@bench"] for number in range(workers)
        ]
        return Worker(self, name, commands, settings or {})

    def run(self, module: str, *arguments: object, python: str = sys.executable) -> str:
        """Run `python -m benchmarks.<module>` to its end; returns what it printed."""
        command = [python, "-m", f"benchmarks.{module}", *map(str, arguments)]
        done = subprocess.run(command, env=self.environment, check=False, capture_output=True, text=True, timeout=900)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[1:])} failed: {done.stderr[-2000:]}")
        return done.stdout

    def flush(self) -> None:
        """Forget everything in Redis."""
        self.redis.flushall()

    def set_delay(self, seconds: float) -> None:
        """How long the stub takes to answer."""
        self._http.post("/bench/delay", content=str(seconds)).raise_for_status()

    def counts(self) -> dict[str, int]:
        """Requests that the stub has had, by kind."""
        counts: dict[str, int] = self._http.get("/bench/counts").json()
        return counts

    def asked(self) -> dict[str, float]:
        """When the stub was last asked for each job, by job id."""
        asked: dict[str, float] = self._http.get("/bench/asked").json()
        return asked

    def ends(self) -> dict[str, tuple[float, float]]:
        """When jobs ended and when the stub first said so, by job id."""
        return {job_id: (at, told_at) for job_id, (at, told_at) in self._http.get("/bench/ends").json().items()}

    def used_memory(self) -> int:
        """Bytes that Redis' data takes, once it has settled."""
        time.sleep(0.5)
        return int(self.redis.info("memory")["used_memory"])

    def others_cpu_s(self) -> dict[str, float]:
        """CPU seconds so far of Redis and of the stub."""
        pids = {"redis": self._server.pid, "stub": self._stub.pid}
        return {name: sum(psutil.Process(pid).cpu_times()[:2]) for name, pid in pids.items() if pid is not None}

    def _stub_answers(self) -> bool:
        try:
            return bool(self._http.get("/bench/counts").json())
        except httpx.TransportError:
            return False


def wait_for(condition: Callable[[], Any], timeout_s: float) -> None:
    """
    Return once *condition* holds.

    Raises:
        TimeoutError: It doesn't in time.
    """
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"Not so after {timeout_s:.0f} s: {condition}")
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def dump(path: Path, content: Any) -> None:
    """Write *content* as readable JSON."""
    path.write_text(json.dumps(content, indent=2) + "\n")
