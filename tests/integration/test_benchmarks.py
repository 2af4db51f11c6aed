"""That the benchmarks run: figures that nobody can take again are worth nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=240)


@pytest.mark.slow
def test_parts_of_the_benchmark_run_and_leave_tables_figures_and_plots(tmp_path: Path) -> None:
    done = run("caller", "endurance", "--quick", "--out", str(tmp_path))

    assert done.returncode == 0, done.stderr
    made = {"caller.json", "caller.md", "endurance.json", "endurance.md", "endurance.svg"}
    assert {path.name for path in tmp_path.iterdir()} == made
    assert done.stdout.count("| --- |") == 2
    assert json.loads((tmp_path / "caller.json").read_text())["ours"]["p50_s"] > 0
    samples = json.loads((tmp_path / "endurance.json").read_text())["samples"]
    assert samples[-1]["polls"] >= 3000


def test_a_part_that_there_is_not_is_refused_by_name() -> None:
    done = run("speed")

    assert done.returncode == 2
    assert "unknown: speed; there are caller, polls" in done.stderr
