"""
A container engine for the tests: the machine's own, or one that is started for them.

Where no image registry can be reached, the images that the files of the project name are made from Debian's packages
under the same tags. They stand in for them: what is tested is our files, not those images.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

DEBIAN = "bookworm"
PYTHON_IMAGE = "python:3.13-slim-bookworm"
REDIS_IMAGE = "redis:8-alpine"

CLASSIC = {"DOCKER_BUILDKIT": "0"}
"""For builds by the engine itself: Debian's has no BuildKit beside it."""

_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_REDIS = f"""
FROM {PYTHON_IMAGE}
RUN apt-get update && apt-get install --yes --no-install-recommends redis-server \\
    && groupadd --gid 1000 redis-alpine && useradd --uid 999 --gid 1000 redis-alpine \\
    && install --directory --owner 999 --group 1000 /data
WORKDIR /data
"""


class EngineUnusable(Exception):
    """Why there is none."""


@dataclass
class Engine:
    """How to reach one."""

    environment: Mapping[str, str]
    daemon: subprocess.Popen[bytes] | None = None

    def run(
        self,
        *command: str,
        cwd: Path | None = None,
        timeout_s: float = 300.0,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> str:
        """
        What *command* prints.

        Raises:
            AssertionError: It fails; the message has what it said.
        """
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **self.environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout[-4000:]}"
        return done.stdout

    def has(self, image: str) -> bool:
        """Whether it has *image*, after a try to fetch it."""
        return self._succeeds("docker", "image", "inspect", image) or self._succeeds("docker", "pull", "-q", image)

    def stop(self) -> None:
        """End it, if it was started here."""
        if self.daemon is not None:
            self.daemon.terminate()
            self.daemon.wait(timeout=60)

    def _succeeds(self, *command: str) -> bool:
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, check=False, timeout=120
        )
        return done.returncode == 0


def find_engine(directory: Path) -> Engine:
    """
    The machine's engine, or a new one whose files are in *directory*.

    Raises:
        EngineUnusable: There is none and none can be started.
    """
    if shutil.which("docker") is None:
        raise EngineUnusable("no docker (Debian: apt install docker.io)")
    machines = Engine({})
    if machines._succeeds("docker", "info"):
        return machines
    if shutil.which("dockerd") is None or os.geteuid() != 0:
        raise EngineUnusable("no container engine answers, and only root can start one (Debian: apt install docker.io)")
    address = f"unix://{directory}/docker.sock"
    log = directory / "dockerd.log"
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            [
                "dockerd",
                *("--host", address, "--data-root", str(directory / "data"), "--exec-root", str(directory / "exec")),
                *("--pidfile", str(directory / "docker.pid")),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    engine = Engine({"DOCKER_HOST": address}, daemon)
    give_up_at = time.monotonic() + 60
    while not engine._succeeds("docker", "info"):
        if daemon.poll() is not None or time.monotonic() > give_up_at:
            engine.stop()
            raise EngineUnusable(f"dockerd doesn't start:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)
    return engine


def provide_images(engine: Engine, directory: Path) -> None:
    """
    Have the engine know the images that our files begin with.

    Raises:
        EngineUnusable: They can neither be fetched nor stood in for.
    """
    if engine.has(PYTHON_IMAGE) and engine.has(REDIS_IMAGE):
        return
    if shutil.which("debootstrap") is None:
        raise EngineUnusable("no image registry can be reached, and there is no debootstrap to make images with")
    root = directory / "root"
    packages = "python3,python3-venv,ca-certificates"
    engine.run("debootstrap", "--variant=minbase", f"--include={packages}", DEBIAN, str(root), timeout_s=900)
    (root / "usr/bin/python").symlink_to("python3")
    # what this machine trusts, its registries' proxy perhaps
    shutil.copyfile(_CERTIFICATES, root / str(_CERTIFICATES)[1:])
    trust = ["-c", f"ENV PIP_CERT={_CERTIFICATES}", "-c", 'CMD ["/bin/bash"]']
    _import(engine, root, PYTHON_IMAGE, trust)
    shutil.rmtree(root)
    context = directory / "redis"
    context.mkdir()
    (context / "Dockerfile").write_text(_REDIS)
    engine.run("docker", "build", "--quiet", "--tag", REDIS_IMAGE, str(context), variables=CLASSIC)


def _import(engine: Engine, root: Path, image: str, options: Sequence[str]) -> None:
    environment = {**os.environ, **engine.environment}
    with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as archive:
        subprocess.run(
            ["docker", "import", *options, "-", image],
            stdin=archive.stdout,
            env=environment,
            check=True,
            capture_output=True,
        )
