"""What the element makes of documents that tests choose, and of streams that are worse than none."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tasks_bridge import JobState
from tasks_bridge.web.hub import hub_of
from tests.browser.jobs import Jobs
from tests.browser.site import Site
from tests.browser.tabs import Tabs
from tests.integration.lab import eventually

DOCUMENT = r"/jobs/[^/]+$"
EVENTS = r"/events$"


def test_events_that_a_proxy_holds_back_are_replaced_by_polls(idle_site: Site, jobs: Jobs, tabs: Tabs) -> None:
    idle_site.chunks_passed = 0
    page = tabs.open(idle_site.page_of(jobs.running()), has_clock=True)
    expect(page.get_by_role("status")).to_have_text("Generating")
    eventually(lambda: len(hub_of(jobs.lab.bridge)), "the page to follow")

    def is_left() -> bool:
        page.clock.run_for(1000)
        return not len(hub_of(jobs.lab.bridge))

    eventually(is_left, "the page to leave a stream that brings nothing")
    asked = len(idle_site.asked_for(DOCUMENT))
    assert 2 <= asked < 15, "expected it to poll meanwhile, and no more than usual"


def test_a_stream_that_dies_without_a_word_is_noticed(idle_site: Site, jobs: Jobs, tabs: Tabs) -> None:
    idle_site.chunks_passed = 2  # when to come back, and the first document
    job_id = jobs.waiting()
    page = tabs.open(idle_site.page_of(job_id), has_clock=True)
    expect(page.get_by_role("status")).to_have_text("Waiting to start")
    eventually(lambda: len(hub_of(jobs.lab.bridge)), "the page to follow")
    jobs.lab.move(job_id, JobState.RUNNING)

    page.clock.run_for(50_000)

    expect(page.get_by_role("status")).to_have_text("Generating")

    def tries_again() -> bool:
        page.clock.run_for(1000)
        return len(idle_site.asked_for(EVENTS)) >= 2

    eventually(tries_again, "it to try another stream")


def test_the_time_left_is_told_in_steps_that_only_go_down(idle_site: Site, jobs: Jobs, tabs: Tabs) -> None:
    page = tabs.open(idle_site.page_of(jobs.running(0, 300)), has_clock=True)
    told = page.get_by_text(re.compile("left$|done$"))
    expect(told).to_have_text("about 5 min left")

    seen: list[str] = []
    for _ in range(
        60
    ):  # of five minutes: much faster than the server's clock, whose documents say that nothing changes
        page.clock.run_for(5000)
        if (text := told.inner_text()) not in seen[-1:]:
            seen.append(text)
    assert seen[:6] == [
        *(f"about {n} min left" for n in (5, 4, 3, 2)),
        *(f"about {n} s left" for n in (90, 80)),
    ]
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuetext", re.compile(r"^\d+ %, "))
