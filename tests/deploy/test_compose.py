"""The compose file, on a real engine: up, a job through it, three workers, one killed, and down without a trace."""

from __future__ import annotations

import json
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks_bridge.embedded import free_port
from tests.deploy.engine import CLASSIC, Engine
from tests.smoke.processes import eventually

ROOT = Path(__file__).parents[2]
COMPOSE = str(Path(sys.executable).with_name("docker-compose"))


class Project:
    """The services under a name of their own."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name = f"bridge-{uuid.uuid4().hex[:8]}"
        self.variables = {
            "BYTESPIKE_API_KEY": "sk-byts-compose-test",
            "BYTESPIKE_BASE_URL": "http://sandbox:8765",
            "FLOWER_PORT": str(free_port()),
            "SANDBOX_PORT": str(free_port()),
        }

    def compose(self, *arguments: str) -> str:
        return self.engine.run(
            COMPOSE, "--project-name", self.name, "--profile", "sandbox", *arguments, cwd=ROOT, variables=self.variables
        )

    def inside(self, service: str, *command: str) -> str:
        return self.compose("exec", "-T", service, *command)

    def docker(self, *arguments: str) -> str:
        return self.engine.run("docker", *arguments)

    def up(self, *arguments: str) -> None:
        try:
            self.compose("up", "--detach", "--wait", "--wait-timeout", "120", *arguments)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from None

    def submit(self, job_id: str, seconds: float = 1) -> None:
        params = json.dumps({"prompt": "a fox", "sandbox": {"duration_s": seconds}})
        self.inside("flower", "tasks-bridge", "submit", "seedream-v4", "-p", params, "--id", job_id)

    def state(self, job_id: str) -> str:
        said = self.inside("flower", "tasks-bridge", "status", job_id, "--json")
        return str(json.loads(said)["status"])

    def completes(self, job_id: str) -> None:
        eventually(
            lambda: self.state(job_id) == "COMPLETED", expected=f"{job_id} to complete", timeout_s=60, show=self.logs
        )

    def logs(self) -> str:
        return self.compose("logs", "--tail", "40")

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--quiet", service).split()


@pytest.fixture
def project(engine: Engine) -> Iterator[Project]:
    project = Project(engine)
    try:
        engine.run("docker", "build", "--tag", "tasks-bridge:local", ".", cwd=ROOT, timeout_s=600, variables=CLASSIC)
        yield project
    finally:
        project.compose("down", "--volumes", "--timeout", "10")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_compose_brings_everything_up_scales_and_survives_the_death_of_a_worker(project: Project) -> None:
    project.up()
    assert project.inside("worker", "id", "-u").strip() == "10001", "not as root"
    with pytest.raises(AssertionError, match="Read-only file system"):
        project.inside("worker", "touch", "/app/file")
    project.submit("first")
    project.completes("first")

    project.up("--no-recreate", "--scale", "worker=3")
    workers = project.containers("worker")
    assert len(workers) == 3
    flower = f"http://127.0.0.1:{project.variables['FLOWER_PORT']}"
    with urllib.request.urlopen(f"{flower}/healthcheck", timeout=10) as answer:
        assert answer.status == 200

    jobs = [f"job-{number}" for number in range(6)]
    for job_id in jobs:
        project.submit(job_id, 5)
    project.docker("kill", workers[0])
    assert len(project.containers("worker")) == 2
    for job_id in jobs:
        project.completes(job_id)

    # another Redis on the same volume remembers them
    project.up("--force-recreate", "redis")
    assert project.state("first") == "COMPLETED"

    project.compose("down", "--volumes", "--timeout", "30")
    for kind in ("container", "volume", "network"):
        command = ["ls", "--quiet", *(["--all"] if kind == "container" else [])]
        assert project.docker(kind, *command, "--filter", f"name={project.name}").split() == []
