"""Workers that race for the last credits: together they spend what there is, and not one job more."""

from __future__ import annotations

from typing import Any

import pytest

from tasks_bridge import Client, spending
from tests.smoke.conftest import API_KEY
from tests.smoke.scene import MODEL, Scene

LIMIT, PRICE, JOBS = 5.0, 0.4, 40
AFFORDABLE = 12


@pytest.fixture
def settings(settings: dict[str, Any]) -> dict[str, Any]:
    return {**settings, "spend_limit": LIMIT, "spend_period_s": 1e9}


@pytest.mark.workers(4, "--concurrency", "2")
@pytest.mark.parametrize("celery_broker", ["redis"], indirect=True)
def test_four_workers_that_race_for_the_last_credits_overshoot_by_none(scene: Scene):
    script = {"duration_s": 0.3, "estimate_s": 1, "credits": PRICE, "estimated_credits": PRICE}
    generate: Any = scene.app.tasks["tasks_bridge.generate"]
    calls = [(MODEL, {"prompt": f"fox {number}", "sandbox": script}) for number in range(JOBS)]
    results = [generate.apply_async(call, {"max_credits": PRICE}, countdown=1) for call in calls]
    most = 0.0

    def have_ended() -> bool:
        nonlocal most
        books = spending(app=scene.app)
        most = max(most, books.used + books.reserved)
        return scene.bridge.store.open_count() == 0

    scene.wait_until(have_ended, "all jobs off the schedule")

    assert sorted(result.state for result in results) == ["FAILURE"] * (JOBS - AFFORDABLE) + ["SUCCESS"] * AFFORDABLE
    assert most <= LIMIT
    with Client(API_KEY, scene.sandbox.url) as client:
        charged = sum(client.query(task["task_id"]).credits_used or 0.0 for task in scene.sandbox.tasks())
    books = spending(app=scene.app)
    assert (books.used, books.reserved) == pytest.approx((charged, 0))
    assert len(scene.sandbox.tasks()) == AFFORDABLE, "expected nothing to be submitted that there is no money for"
