"""Environments far from this checkout, in which the wheel is installed as a user installs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import tasks_bridge

ROOT = Path(__file__).parents[2]
OLDEST_VERSIONS, NEWEST_VERSIONS = ROOT / "constraints-oldest.txt", ROOT / "constraints.txt"

_OURS = ("PYTHON", "PYTEST_", "TASKS_BRIDGE_", "BYTESPIKE_")


def run(*command: str | Path, cwd: Path, timeout_s: float = 280) -> str:
    """What *command* says, which must end well, and know nothing of this test run's own environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout[-8000:]}"
    return done.stdout


def build(into: Path) -> Path:
    """Leave the source distribution in *into*, and the wheel, made from it and not from the checkout; return that."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", into, ROOT, cwd=into)
    [wheel] = into.glob("*.whl")
    return wheel


class Environment:
    """A virtual environment in *folder*, for *python*, with the versions of the file *constraints*."""

    def __init__(self, folder: Path, python: Path, constraints: Path) -> None:
        self.folder = folder
        self.python = folder / "environment/bin/python"
        self._constraints = constraints
        run(python, "-m", "venv", folder / "environment", cwd=folder)

    def install(self, *requirements: str) -> None:
        pip = (self.python, "-m", "pip", "install", "--quiet", "--constraint", self._constraints)
        run(*pip, *requirements, cwd=self.folder)

    def versions(self) -> dict[str, str]:
        """What is installed, by its name in lower case."""
        listed = run(self.python, "-m", "pip", "list", "--format", "json", cwd=self.folder)
        packages = json.loads(listed[listed.index("[") : listed.rindex("]") + 1])
        return {package["name"].lower(): package["version"] for package in packages}

    def show_all(self) -> None:
        """Run the demo, from the wheel."""
        where = run(self.python, "-c", "import tasks_bridge; print(tasks_bridge.__file__)", cwd=self.folder)
        assert Path(where.strip()).is_relative_to(self.folder / "environment")
        program = self.python.with_name("tasks-bridge")
        assert tasks_bridge.__version__ in run(program, "--version", cwd=self.folder)
        run(program, "demo", cwd=self.folder)

    def test(self, *chosen: str) -> None:
        """
        Run tests in this environment's folder, *chosen* by pytest's arguments, in one process; a failure is one here.

        Old versions of what is installed leave sockets to the garbage collector, of which Python warns at any moment.
        """
        quiet = ("-q", "--numprocesses=0", "-pno:cacheprovider", "--tb=short", "-Wignore::ResourceWarning")
        run(self.python, "-m", "pytest", *quiet, *chosen, cwd=self.folder, timeout_s=500)
