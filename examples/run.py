"""
What the examples run on: a Redis-compatible server, ByteSpike's sandbox, a worker and a web server.

One command starts all of it, one Ctrl-C stops it. Data stays in the example's folder ``.data``: the next start goes on
where this one ended, with jobs that were under way, too.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import math
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from tasks_bridge.demo.surroundings import Interrupted, bare, ignore_signals, interruptible
from tasks_bridge.embedded import EmbeddedRedis, GuardedProcess, free_port
from tasks_bridge.errors import BridgeError
from tasks_bridge.sandbox import SandboxServer

HOST: Final = "127.0.0.1"
ROOT: Final = Path(__file__).parents[1]
PORTS: Final = range(8000, 8100)
"""Where a free one is looked for unless one is asked for."""

START_S: Final = 60.0
"""How long a process may take to start; two or three seconds are usual."""

WORKER_STOP_S: Final = 10.0
WEB_STOP_S: Final = 5.0
_LOOK_S: Final = 0.1


class StartError(Exception):
    """Why an example can't be started, for whoever tries."""


@dataclass(frozen=True)
class Example:
    """
    What is particular about one example.

    Attributes:
        folder: Where it is; its commands run there.
        title: Its name, as its pages say it.
        web: Command of the web server, ``{port}`` in it.
        polling_web: Another that cannot stream, so that pages poll; None if there is only one kind.
        worker: Command of the worker.
        usual_s: How long the sandbox estimates for each model, in seconds. Its own estimates are as far off as the one
            in ByteSpike's documentation, which is put right by what is learned of a model's jobs; here are too few.
        environment: Variables for all its processes.
        prepare: Called before both: may run further commands, and returns lines to print.
        to_try: Lines to print: what to do on its pages.
    """

    folder: Path
    title: str
    web: list[str]
    worker: list[str]
    to_try: list[str]
    polling_web: list[str] | None = None
    usual_s: Mapping[str, float] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Surroundings], list[str]] = lambda _: []


@dataclass
class Surroundings:
    """Where an example runs: its folders, its environment, and what it keeps from one start to the next."""

    folder: Path
    data: Path
    environment: dict[str, str] = field(default_factory=dict)

    def kept(self, name: str, make: Callable[[], str]) -> str:
        """The value that the first start made for *name*."""
        path = self.data / "kept.json"
        values: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        if name not in values:
            values[name] = make()
            written = path.with_suffix(".new")
            written.touch(mode=0o600)
            written.write_text(json.dumps(values))
            written.replace(path)
        return values[name]

    def run(self, *arguments: str, **environment: str) -> None:
        """
        Run Python with *arguments* to its end.

        Raises:
            StartError: It failed.
        """
        ran = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            raise StartError(f"{' '.join(arguments)} failed:\n{(ran.stdout + ran.stderr).strip()}")

    def start(self, name: str, arguments: list[str]) -> Process:
        """Start Python with *arguments*; what it prints goes to a file named after *name*."""
        return Process(name, [sys.executable, *arguments], self)


class Process:
    """A process of the example, which can't outlive this one."""

    def __init__(self, name: str, command: list[str], surroundings: Surroundings) -> None:
        self.name = name
        self.log = surroundings.data / f"{name}.log"
        self._process = GuardedProcess(command, log=self.log, env=surroundings.environment, cwd=surroundings.folder)

    def check(self) -> None:
        """
        Raise unless it runs.

        Raises:
            StartError: It has ended, with its last words.
        """
        if not self._process.is_alive():
            raise StartError(f"the {self.name} process has ended (log: {self.log}):\n{self.said()[-1000:].strip()}")

    def await_until(self, is_ready: Callable[[], bool]) -> None:
        """
        Wait until *is_ready*.

        Raises:
            StartError: It has ended, or it takes too long.
        """
        give_up_at = time.monotonic() + START_S
        while not is_ready():
            self.check()
            if time.monotonic() > give_up_at:
                raise StartError(f"the {self.name} process did not start within {START_S:g} s (log: {self.log})")
            time.sleep(_LOOK_S)
        self.check()  # or something else is at its address

    def said(self) -> str:
        """What it has printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self, timeout_s: float) -> None:
        """Let it finish what it is at, for so long."""
        self._process.end(signal.SIGTERM, timeout_s=timeout_s)


def main(example: Example) -> int:
    """Run *example* as the command line asks; returns the exit status. Call it from the main thread."""
    given = _parser(example).parse_args()
    try:
        with interruptible():
            _run(example, given)
    except Interrupted:
        print("\nStopped. Everything is kept for the next time.")
        return 0
    except (StartError, BridgeError) as error:
        print(f"{example.title} can't run: {error}", file=sys.stderr)
        return 1
    return 0


def _parser(example: Example) -> argparse.ArgumentParser:
    data = example.folder / ".data"
    parser = argparse.ArgumentParser(
        prog=f"python -m examples.{example.folder.name}", description=f"Run {example.title} with all that it needs."
    )
    parser.add_argument(
        "--port", type=_port_number, help=f"of the web server; default: the first free one from {PORTS.start}"
    )
    parser.add_argument("--data", type=Path, default=data, help="folder for all data (%(default)s)")
    parser.add_argument("--reset", action="store_true", help="forget what earlier runs have kept")
    parser.add_argument("--speed", type=_speed, default=1.0, help="how fast the sandbox's clock goes (%(default)g)")
    if example.polling_web:
        parser.add_argument("--wsgi", action="store_true", help="a web server that can't stream: pages poll")
    parser.add_argument(
        "--real",
        action="store_true",
        help="ByteSpike itself instead of the sandbox, with BYTESPIKE_API_KEY; costs money",
    )
    return parser


def _port_number(text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= 65535:  # noqa: PLR2004
        return int(text)
    raise argparse.ArgumentTypeError("it must be a whole number from 1 to 65535")


def _speed(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError("it must be a number greater than 0")


def _run(example: Example, given: argparse.Namespace) -> None:
    """Run until a signal or the end of a process raises."""
    with ExitStack() as stack, _undisturbed():
        data: Path = given.data.absolute()
        stack.enter_context(_lock(data))
        if given.reset:
            _empty(data)
        port = _port(given.port)
        surroundings = Surroundings(example.folder, data)
        redis = stack.enter_context(EmbeddedRedis(directory=data / "redis"))
        settings = {
            **example.environment,
            "DATA_DIR": str(data),
            "PYTHONPATH": str(ROOT),
            "REDIS_URL": redis.url,
            "SECRET_KEY": surroundings.kept("secret_key", lambda: secrets.token_urlsafe(48)),
        }
        if given.real:
            surroundings.environment = {**os.environ, **settings}
            service = _real(os.environ)
        else:
            sandbox = _sandbox(stack, surroundings, given.speed)
            for model, seconds in example.usual_s.items():
                sandbox.script(model, {"estimate_s": seconds})
            settings |= {"BYTESPIKE_API_KEY": "sk-byts-example", "BYTESPIKE_BASE_URL": sandbox.url}
            surroundings.environment = {**bare(os.environ), **settings}
            service = f"a sandbox on this machine, {sandbox.url}"
        notes = example.prepare(surroundings)

        worker = surroundings.start("worker", example.worker)
        stack.callback(worker.stop, WORKER_STOP_S)
        server = example.polling_web if getattr(given, "wsgi", False) else example.web
        web = surroundings.start("web", [part.format(port=port) for part in server or ()])
        stack.callback(web.stop, WEB_STOP_S)
        url = f"http://{HOST}:{port}/"
        web.await_until(lambda: _answers(url))
        worker.await_until(lambda: "ready." in worker.said())

        print(f"{example.title} is open: {url}\n")
        print(f"  ByteSpike  {service}")
        print(f"  Redis      {redis.version}, started for this")
        print(f"  Data       {data}, with the logs web.log and worker.log")
        for line in notes:
            print(f"  {line}")
        print("\nTo try:")
        for line in example.to_try:
            print(f"  - {line}")
        print("\nCtrl-C stops everything.", flush=True)
        while True:
            web.check()
            worker.check()
            time.sleep(_LOOK_S)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Let no signal interrupt what comes after the block: everything is being stopped."""
    try:
        yield
    finally:
        ignore_signals()


@contextlib.contextmanager
def _lock(data: Path) -> Iterator[None]:
    """Keep the folder to this process: two servers would spoil each other's files."""
    data.mkdir(parents=True, exist_ok=True)
    with (data / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartError(f"it runs already, with the data in {data}; another one needs its own: --data") from None
        yield


def _empty(data: Path) -> None:
    for path in data.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()


def _port(wanted: int | None) -> int:
    for port in PORTS if wanted is None else [wanted]:
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind((HOST, port))
            except OSError:
                continue
            return port
    if wanted is None:
        raise StartError(f"no port from {PORTS.start} to {PORTS.stop - 1} is free; name one: --port")
    raise StartError(f"port {wanted} can't be had, perhaps another program has it; name another: --port")


def _sandbox(stack: ExitStack, surroundings: Surroundings, speed: float) -> SandboxServer:
    """At the same address each time, if it can be had: there outputs of jobs that are under way will be."""
    port = int(surroundings.kept("sandbox_port", lambda: str(free_port())))
    state = surroundings.data / "sandbox.jsonl"
    try:
        return stack.enter_context(SandboxServer(HOST, port, speed=speed, state=state))
    except OSError:
        return stack.enter_context(SandboxServer(HOST, free_port(), speed=speed, state=state))


def _real(environment: Mapping[str, str]) -> str:
    if not environment.get("BYTESPIKE_API_KEY"):
        raise StartError("--real needs an API key of ByteSpike's in the environment: BYTESPIKE_API_KEY")
    return "the real one; what you order is paid for"


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.HTTPError:
        return False
