"""The workflows are ones that GitHub would take, and do what is done here."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_valid(path: Path) -> None:
    command = [
        str(Path(sys.executable).parent / "check-jsonschema"),
        "--builtin-schema",
        "vendor.github-workflows",
        str(path),
    ]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_what_there_is(path: Path) -> None:
    jobs = yaml.safe_load(path.read_text())["jobs"]
    ran = "\n".join(step.get("run", "") for job in jobs.values() for step in job["steps"])
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"^make ([a-z-]+)", ran, re.MULTILINE)) <= targets
    for folder in re.findall(r"\btests/[a-z]+", ran):
        assert (ROOT / folder).is_dir(), f"expected {folder}"
    if ".ci/run" in ran:
        assert (ROOT / ".ci/run").stat().st_mode & 0o100


def test_every_change_runs_all_that_a_release_rests_on() -> None:
    ci = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())

    assert any(step.get("run") == ".ci/run" for step in ci["jobs"]["everything"]["steps"])
    assert "pull_request" in ci[True], "which is how YAML reads `on`"
