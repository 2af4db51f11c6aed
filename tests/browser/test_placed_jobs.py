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

    def has_noticed() -> bool:
        # in steps: what the page asks for then takes time of its own, which its clock does not see
        page.clock.run_for(5000)
        return page.get_by_role("status").text_content() == "Generating"

    eventually(has_noticed, "the page to notice, and to ask")

    def tries_again() -> bool:
        page.clock.run_for(1000)
        return len(idle_site.asked_for(EVENTS)) >= 2

    eventually(tries_again, "it to try another stream")


def test_between_documents_the_bar_goes_on_and_the_time_left_is_told_in_steps(idle_site: Site, tabs: Tabs) -> None:
    idle_site.documents["/a-job"] = {
        "id": "a-job",
        "state": "RUNNING",
        "is_over": False,
        "is_cancelling": False,
        "progress": 0.3,
        "eta_s": 300,
        "is_late": False,
        "outputs": [],
        "error": None,
        "poll_s": 1_000_000,
    }
    page = tabs.open(idle_site.page('<bytespike-job src="/a-job"></bytespike-job>'), has_clock=True)
    told, bar = page.get_by_text(re.compile("left$|done$")), page.get_by_role("progressbar")
    expect(told).to_have_text("about 5 min left")
    expect(bar).to_have_attribute("aria-valuenow", "30")
    page.clock.pause_at(page.evaluate("Date.now() / 1000") + 1)

    texts, shares = ["about 5 min left"], [30]
    for _ in range(160):
        page.clock.run_for(2000)
        texts.append(told.inner_text())
        shares.append(int(bar.get_attribute("aria-valuenow") or 0))
    steps = [f"about {n} min left" for n in (5, 4, 3, 2)]
    steps += [f"about {n} s left" for n in (90, 80, 70, 60, 50, 40, 30, 20, 15, 10)]
    assert list(dict.fromkeys(texts)) == [*steps, "almost done"]
    assert texts == sorted(texts, key=[*steps, "almost done"].index), "expected it never to be more than before"
    assert shares == sorted(shares)
    assert 60 <= shares[75] <= 62, "expected half of the way to 90 in half of the time"
    assert shares[-1] == 90, "expected it to wait there"
