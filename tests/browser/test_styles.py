"""What a page may change about the element's looks."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.site import Site
from tests.integration.lab import Lab

# Names that the element might use for itself; here they are the page's, which hands its colours on.
OWN_WORDS = """
:root { --accent: rgb(1, 2, 3); --error: rgb(4, 5, 6); --muted: rgb(7, 8, 9); --track: rgb(10, 11, 12); }
bytespike-job {
  --bytespike-accent: var(--accent); --bytespike-error: var(--error);
  --bytespike-muted: var(--muted); --bytespike-track: var(--track);
}
"""


def test_a_page_may_hand_on_colours_under_whatever_names_it_has_for_them(lab: Lab, site: Site, page: Page) -> None:
    page.route("**/site.css", lambda route: route.fulfill(content_type="text/css", body=OWN_WORDS))
    job = lab.submit({"duration_s": 60, "pending_s": 0, "estimate_s": 60})
    page.goto(site.page_of(job))
    bar = page.get_by_role("progressbar")
    expect(page.get_by_role("status")).to_have_text("Generating")

    shown = bar.evaluate("bar => [bar, bar.firstElementChild].map((one) => getComputedStyle(one).backgroundColor)")

    assert shown == ["rgb(10, 11, 12)", "rgb(1, 2, 3)"]
    lab.job(job).cancel()
