"""What must be shown at its full length, see `unhurried`: started before the first test of this folder, read here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks_bridge import Settings
from tasks_bridge.gate import FAILURES
from tests.faults import unhurried
from tests.smoke.processes import LocalProcess

SETTINGS = Settings.model_fields


@pytest.mark.timeout(300)
def test_a_redis_that_stands_still_for_20_s_and_a_bytespike_that_is_gone_for_a_minute_lose_nothing(
    beside: tuple[LocalProcess, Path],
):
    process, directory = beside

    assert process.wait(timeout_s=240) == 0, process.tail()

    seen = json.loads((directory / "seen.json").read_text())
    print(seen)  # noqa: T201 - the figures for the documentation
    assert seen["caller_waited_s"] < SETTINGS["store_timeout_s"].default + 2
    # what is under way when the circuit opens, and probes after 1, 2, 4, 8 s and then every 15 s
    assert seen["requests_while_gone"] <= unhurried.JOBS + FAILURES + 4 + 60 / SETTINGS["breaker_max_s"].default
    assert seen["most_late_s"] < SETTINGS["retry_max_s"].default
    assert seen["submits"] == [1], "no submit should have been repeated"
