"""Every state of the element, as it looks in light and dark, on wide and narrow screens, and to axe-core."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tasks_bridge import JobState
from tests.browser.jobs import Jobs
from tests.browser.site import Site
from tests.browser.tabs import Tabs

GONE = "/bytespike/jobs/a-token-that-is-none"


@pytest.mark.parametrize("looks", ["light", "dark", "narrow", "still"])
def test_jobs_under_way_are_clear_and_accessible(
    looks: str,
    idle_site: Site,
    jobs: Jobs,
    tabs: Tabs,
    accessible: Callable[[Page], None],
    screenshot: Callable[[Page | Locator, str], Path],
) -> None:
    page = tabs.open(
        idle_site.page(
            idle_site.element(jobs.waiting(), may_cancel=True, label="Waiting"),
            idle_site.element(jobs.at(JobState.PENDING, since_s=5, estimated_s=200), label="Pending"),
            idle_site.element(jobs.running(), may_cancel=True, label="Running"),
            idle_site.element(jobs.running(58, 60), may_cancel=True, label="Almost"),
            idle_site.element(jobs.running(130, 60), may_cancel=True, label="Late"),
            idle_site.element(jobs.cancelling(), may_cancel=True, label="Being cancelled"),
        ),
        is_dark=looks == "dark",
        is_narrow=looks == "narrow",
        reduced_motion="reduce" if looks == "still" else "no-preference",
    )

    expect(page.get_by_role("group", name="Waiting").get_by_role("status")).to_have_text("Waiting to start")
    expect(page.get_by_role("group", name="Running").get_by_text("about 40 s left")).to_be_visible()
    expect(page.get_by_role("group", name="Late").get_by_text("taking longer than usual")).to_be_visible()
    expect(page.get_by_role("group", name="Being cancelled").get_by_role("status")).to_have_text("Cancelling …")
    accessible(page)
    screenshot(page.locator("main"), f"under-way-{looks}")


@pytest.mark.parametrize("looks", ["light", "dark", "narrow"])
def test_jobs_that_are_over_are_clear_and_accessible(
    looks: str,
    idle_site: Site,
    jobs: Jobs,
    tabs: Tabs,
    accessible: Callable[[Page], None],
    screenshot: Callable[[Page | Locator, str], Path],
) -> None:
    tabs.expect_errors("404")
    lost = {"type": "image", "url": f"{jobs.lab.sandbox.url}/files/expired.png"}
    several = [*jobs.outputs("seedream-v4", count=2), lost]
    page = tabs.open(
        idle_site.page(
            idle_site.element(jobs.at(JobState.COMPLETED, output=jobs.outputs("seedream-v4")), label="One picture"),
            idle_site.element(jobs.at(JobState.COMPLETED, output=jobs.outputs("sora-2")), label="A video"),
            idle_site.element(jobs.at(JobState.COMPLETED, output=several), label="Several"),
            idle_site.element(jobs.at(JobState.FAILED, error_code="content_policy_violation"), label="Failed"),
            idle_site.element(jobs.at(JobState.CANCELLED), label="Cancelled"),
            idle_site.element(jobs.at(JobState.EXPIRED), label="Expired"),
            f'<bytespike-job src="{GONE}" label="Gone"></bytespike-job>',
        ),
        is_dark=looks == "dark",
        is_narrow=looks == "narrow",
    )

    expect(page.get_by_role("group", name="One picture").get_by_role("img")).to_be_visible()
    expect(page.get_by_role("group", name="Gone").get_by_role("alert")).to_have_text("This is no longer available.")
    expect(page.get_by_text("Its address may have expired.")).to_be_visible()
    accessible(page)
    screenshot(page.locator("main"), f"over-{looks}")
    screenshot(page.get_by_role("group", name="A video"), f"video-{looks}")
