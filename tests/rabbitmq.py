"""
A private RabbitMQ node: own files, own ports, loopback only, gone with the process that started it.
"""

import os
import shutil
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import kombu

from tasks_bridge.embedded import GuardedProcess, free_port

# The packaged command on PATH may be a wrapper that insists on the system's user and folders.
_SERVERS = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server")
_START_TIMEOUT_S = 60.0
_PORT_TRIES = 3


def find_rabbitmq() -> str | None:
    """
    Return the server's start script, None if RabbitMQ is not installed.
    """
    if shutil.which("epmd") is None:
        return None
    return next((path for path in _SERVERS if Path(path).is_file()), None) or shutil.which("rabbitmq-server")


class RabbitMQ:
    """
    A RabbitMQ node for the length of a ``with`` block; ``url`` is its AMQP address.
    """

    def __init__(self, server: str, directory: Path) -> None:
        self._server = server
        self._directory = directory
        self._port = free_port()
        self._processes: list[GuardedProcess] = []

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self._port}//"

    def __enter__(self) -> Self:
        for tries_left in reversed(range(_PORT_TRIES)):
            try:
                self._start()
            except RuntimeError as error:
                self.stop()
                # it binds seconds after the port was found free
                if not tries_left or "eaddrinuse" not in str(error):
                    raise
                self._port = free_port()
            except BaseException:
                self.stop()
                raise
            else:
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.end(signal.SIGTERM, timeout_s=20)
        self._processes.clear()

    def _start(self) -> None:
        environment = self._environment()
        # The name server of Erlang nodes, started here so that it ends here: a node would leave one behind.
        epmd = ["epmd", "-address", "127.0.0.1", "-port", environment["ERL_EPMD_PORT"]]
        self._processes.append(
            GuardedProcess(epmd, log=self._directory / "epmd.log", env=environment, cwd=self._directory)
        )
        log = self._directory / "server.log"
        self._processes.append(GuardedProcess([self._server], log=log, env=environment, cwd=self._directory))
        self._wait_until_ready(self._processes[-1], log)

    def _environment(self) -> dict[str, str]:
        config = self._directory / "rabbitmq.conf"
        config.write_text(
            f"listeners.tcp.default = 127.0.0.1:{self._port}\n"
            # Its alarms for a full machine would block the tests without a word.
            "disk_free_limit.absolute = 1MB\n"
            "vm_memory_high_watermark.absolute = 1GB\n"
            "log.console = true\n"
            "log.file = false\n"
        )
        plugins = self._directory / "enabled_plugins"
        plugins.write_text("[].\n")
        no_settings = self._directory / "rabbitmq-env.conf"
        no_settings.touch()
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self._directory),  # the cookie is made here
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(free_port()),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_CONF_ENV_FILE": str(no_settings),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_LOG_BASE": str(self._directory / "log"),
            "RABBITMQ_MNESIA_BASE": str(self._directory / "data"),
            "RABBITMQ_NODENAME": f"tests-{os.getpid()}@localhost",
            "RABBITMQ_PID_FILE": str(self._directory / "pid"),
            # one scheduler: it boots in two thirds of the time
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 -kernel inet_dist_use_interface {127,0,0,1}",
        }

    def _wait_until_ready(self, process: GuardedProcess, log: Path) -> None:
        give_up_at = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                with kombu.Connection(self.url, connect_timeout=5) as connection:
                    connection.connect()
            except OSError as error:
                if process.is_alive() and time.monotonic() < give_up_at:
                    time.sleep(0.1)
                    continue
                output = log.read_text(errors="replace")
                raise RuntimeError(f"expected RabbitMQ to accept connections: {error}\n{output[-3000:]}") from error
            return
