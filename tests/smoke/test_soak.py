"""
The soak in small: all kinds of jobs while workers, Redis and the API fail, and balanced books in the end.

With a limit on spending, which the last of the jobs come up against.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEED = os.environ.get("SMOKE_SEED", "1")
SPEND_LIMIT = "70"


@pytest.mark.slow
def test_the_books_balance_after_a_short_chaos(tmp_path: Path):
    figures = tmp_path / "figures.json"
    options = ["--jobs", "120", "--minutes", "0.35", "--settle", "60", "--seed", SEED, "--spend-limit", SPEND_LIMIT]
    run = subprocess.run(
        [sys.executable, "-m", "soak", *options, "--json", str(figures), "--logs", str(tmp_path / "logs")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=115,
        check=False,
    )

    assert run.returncode == 0, f"expected balanced books\n{run.stdout[-20_000:]}\n{run.stderr[-5_000:]}"
    facts = json.loads(figures.read_text())
    assert facts["good"]
    assert sum(facts["weather"].values()) > 0, "expected something to go wrong"
    # what they cost is checked against what was charged, for all jobs and each label
    assert 0 < facts["refused_for_cost"] < facts["jobs"] / 2
    assert facts["credits_used"] > 0
