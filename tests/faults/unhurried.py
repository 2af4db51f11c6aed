"""
A Redis that stands still for 20 s and a ByteSpike that is gone for a minute, under default settings.

A program of its own, which runs beside the tests of `test_crashes`: nearly all of its time is waiting. What it saw is
in ``seen.json`` in the directory that it is given.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from tasks_bridge import Settings, StoreUnreachable
from tasks_bridge.embedded import EmbeddedRedis
from tests.faults.stage import PACE, Stage, assert_asked_at_leisure, paused
from tests.smoke.processes import Reaper
from tests.smoke.scene import Scene

PAUSE_S: Final = 20.0
OUTAGE_S: Final = 60.0
LEAD_S: Final = 10.0
"""How long Redis stands still alone, before both are away."""

JOBS: Final = 40
DEFAULTS: Final = {name: Settings.model_fields[name].default for name in PACE}


def main(directory: Path) -> None:
    with (
        EmbeddedRedis(directory=directory / "redis") as server,
        closing(Reaper()) as reaper,
        Stage(directory, reaper, server.url, **DEFAULTS) as stage,
    ):
        scene = stage.scene
        scene.start_worker("--concurrency", "2")
        scene.start_worker("--pool", "threads", "--concurrency", "4")
        results = [scene.submit({"duration_s": 5 + 2 * number, "estimate_s": 12}) for number in range(JOBS)]
        scene.wait_for_request("submit", JOBS)

        outage = Outage(scene)
        threading.Timer(LEAD_S, outage.begin).start()
        with paused(server.pid or 0):
            until = time.monotonic() + PAUSE_S
            caller_waited_s, job_id = call_in_vain(scene)
            time.sleep(until - time.monotonic())
        results.append(scene.submit(task_id=job_id))
        asked = outage.requests_until_end()

        scene.wait_for_end(*results, timeout_s=150)
        scene.assert_completed_once(*results)
        assert_asked_at_leisure(scene)
        tasks = scene.sandbox.tasks()
        seen = {
            "caller_waited_s": caller_waited_s,
            "requests_while_gone": asked,
            "most_late_s": max(task["seen_end_s"] - max(task["ended_s"], outage.over_at) for task in tasks),
            "submits": sorted({task["submits"] for task in tasks}),
        }
    (directory / "seen.json").write_text(json.dumps(seen))


def call_in_vain(scene: Scene) -> tuple[float, str]:
    """How long a caller waits for a Redis that stands still, and the id of its job."""
    begun = time.monotonic()
    try:
        scene.submit()
    except StoreUnreachable as error:
        return time.monotonic() - begun, error.job_ids[0]
    raise AssertionError("expected no answer of Redis")


class Outage:
    """ByteSpike closes each connection before it reads anything, for `OUTAGE_S`."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._before = 0
        self.over_at = time.time() + LEAD_S + OUTAGE_S

    def begin(self) -> None:
        self._before = self._asked()
        self._scene.sandbox.fail("refused", for_s=OUTAGE_S)
        self.over_at = time.time() + OUTAGE_S

    def requests_until_end(self) -> int:
        time.sleep(self.over_at - time.time() - 0.5)
        return self._asked() - self._before

    def _asked(self) -> int:
        requests: dict[str, Any] = self._scene.sandbox.stats()["requests"]
        return sum(requests.values())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
