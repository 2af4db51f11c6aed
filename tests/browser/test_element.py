"""The element in a real browser: a real server, Redis, worker and sandbox behind it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests.browser.site import Site
from tests.browser.tabs import Tabs
from tests.integration.lab import Lab

Screenshot = Callable[[Page | Locator, str], Path]
Accessible = Callable[[Page], None]


def test_a_job_is_followed_by_events_from_its_start_to_its_picture(
    lab: Lab, site: Site, tabs: Tabs, accessible: Accessible, screenshot: Screenshot
) -> None:
    page = tabs.open(site.page())
    job = lab.submit({"duration_s": 4, "pending_s": 0.5, "estimate_s": 3})
    page.goto(site.page_of(job))

    expect(page.get_by_role("status")).to_have_text("Generating")
    expect(page.get_by_role("progressbar")).to_be_visible()
    accessible(page)
    screenshot(page, "running")
    expect(page.get_by_role("img")).to_be_visible()
    expect(page.get_by_role("status")).to_have_text("Done")
    assert page.get_by_role("img").evaluate("picture => picture.decode().then(() => picture.naturalWidth)") > 0
    accessible(page)
    screenshot(page, "completed")
    assert len(site.asked_for(r"/events$")) == 1, "expected one stream to have brought everything"
    assert len(site.asked_for(r"/jobs/[^/]+$")) == 1, "expected one request, before there was a stream"
