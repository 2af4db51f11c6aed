"""Everything goes wrong at once, by a seeded chance: the guarantees hold all the same."""

from __future__ import annotations

import os
import random
import time

import pytest

from tests.smoke import smoke_app
from tests.smoke.scene import Scene

SEED = int(os.environ.get("SMOKE_SEED", "1"))
JOBS = 30
KILLS = 4

FAULTS = [
    {"on": "submit", "kind": "lost_response"},
    {"on": "submit", "kind": "status", "status": 503},
    {"on": "submit", "kind": "hang", "work_done": True, "hang_s": 3},
    {"on": "submit", "kind": "slow", "delay_s": 1.2},
    {"on": "submit", "kind": "half_close"},
    {"on": "query", "kind": "status", "status": 500, "times": 2},
    {"on": "query", "kind": "garbage"},
    {"on": "query", "kind": "hang", "hang_s": 3},
    {"on": "query", "kind": "not_found"},
]


@pytest.mark.workers(2, "--concurrency", "2")
@pytest.mark.parametrize("celery_broker", ["redis"], indirect=True)
def test_no_job_is_lost_doubled_or_called_back_twice_while_workers_die_and_requests_fail(scene: Scene):
    mortals = list(scene.workers)
    scene.start_callback_worker()
    chance = random.Random(SEED)
    results = []
    for _ in range(JOBS):
        script = {
            "duration_s": chance.uniform(0, 4),
            "pending_s": chance.uniform(0, 1),
            "faults": chance.sample(FAULTS, chance.randint(0, 2)),
        }
        results.append(scene.submit(script, link=smoke_app.completed_once.s().set(queue="callbacks")))

    for _ in range(KILLS):
        pause_s = chance.uniform(0.2, 1.5)
        time.sleep(pause_s)  # the moment of a death is chance, that is the test
        victim = chance.choice(mortals)
        victim.kill(whom=chance.choice(["all", "main", "child"]))
        victim.restart()

    scene.assert_completed_once(*results)
