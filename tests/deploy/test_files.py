"""What stands in the files for deployments, as the tools of their readers see it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks_bridge.series import SHARED

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
COMPOSE_FILE = ROOT / "docker-compose.yml"
UNITS = sorted((ROOT / "deploy/systemd").iterdir())
MANIFESTS = sorted((ROOT / "deploy/kubernetes").glob("*.yaml"))


def run(*command: str | Path, **variables: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_compose_file_is_valid() -> None:
    run(BIN / "docker-compose", "--profile", "sandbox", "config", "--quiet", BYTESPIKE_API_KEY="sk-byts-any")
    run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE_FILE)


def test_the_compose_file_has_nothing_that_a_security_linter_calls_serious() -> None:
    said = run(BIN / "compose-lint", "check", COMPOSE_FILE)

    assert set(re.findall(r"CL-\d{4}", said)) <= {"CL-0019"}, f"only an image without a digest is accepted: {said}"


def test_compose_refuses_to_start_without_an_api_key() -> None:
    with pytest.raises(AssertionError, match="BYTESPIKE_API_KEY"):
        run(BIN / "docker-compose", "config", "--quiet", BYTESPIKE_API_KEY="")


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
    return found


@pytest.mark.parametrize("name", sorted(services()))
def test_every_service_is_contained_checked_and_bounded(name: str) -> None:
    service = services()[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service["user"].startswith(("0", "root"))
    assert service["healthcheck"]["test"][0] == "CMD"
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), "nobody else's business"


def test_the_dockerfile_has_nothing_to_lint() -> None:
    assert run(BIN / "hadolint", "--failure-threshold", "info", ROOT / "Dockerfile") == ""


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_takes_the_units(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze (Debian: apt install systemd)")
    for other in UNITS:
        # programs that are there, under the names of the real ones
        text = other.read_text().replace("/opt/tasks-bridge/.venv/bin/celery", shutil.which("true") or "/bin/true")
        (tmp_path / other.name.replace("@", "@1")).write_text(text)
        (tmp_path / other.name).write_text(text)

    said = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", tmp_path / unit.name)

    assert said == ""


def test_a_worker_under_systemd_may_do_little() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze (Debian: apt install systemd)")
    run(
        *("systemd-analyze", "security", "--offline=yes", "--threshold=20"),
        ROOT / "deploy/systemd/tasks-bridge-worker@.service",
    )


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.name)
def test_kubernetes_takes_the_manifests(manifest: Path) -> None:
    run(BIN / "kubernetes-validate", "--strict", "--no-warn", manifest)


def test_the_autoscaler_follows_a_metric_that_there_is() -> None:
    scaler = yaml.safe_load((ROOT / "deploy/kubernetes/autoscaling.yaml").read_text())
    worker, *_ = yaml.safe_load_all((ROOT / "deploy/kubernetes/worker.yaml").read_text())

    names = [metric["external"]["metric"]["name"] for metric in scaler["spec"]["metrics"]]
    assert set(names) <= {metric.name for metric in SHARED}
    assert scaler["spec"]["scaleTargetRef"]["name"] == worker["metadata"]["name"]
    assert "replicas" not in worker["spec"], "each apply would undo what the autoscaler did"
    assert all(f"max({name})" in (ROOT / "docs/deploy.md").read_text() for name in names)
