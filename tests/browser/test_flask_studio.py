"""The Flask example as its visitors meet it, started by its one command."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.tabs import NARROW, Tabs
from tests.smoke.examples import RunningExample, cause, running

SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")

LONG_MS: Final = 60_000
"""For a whole storyboard, on a busy machine."""


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningExample]:
    # a picture takes 7 to 15 s: long enough to do something meanwhile
    with running("flask_studio", tmp_path_factory.mktemp("studio") / "data", "--speed", "0.6") as example:
        yield example


def shoot(page: Page, title: str, *shots: str) -> list[Locator]:
    """Shoot a storyboard; returns its shots."""
    page.get_by_label("Title").fill(title)
    page.get_by_label("Shots, a line for each").fill("\n".join(shots))
    page.get_by_role("button", name="Shoot it").click()
    expect(page.get_by_role("heading", level=1, name=title)).to_be_visible()
    return shots_of(page)


def shots_of(page: Page) -> list[Locator]:
    return page.get_by_role("listitem").all()


def sheet(page: Page) -> Locator:
    return page.get_by_role("region", name="Contact sheet")


def is_loaded(picture: Locator) -> bool:
    return bool(picture.evaluate("(picture) => picture.complete && picture.naturalWidth > 0"))


def test_shots_are_shown_live_and_the_contact_sheet_follows_the_last(
    studio: RunningExample, tabs: Tabs, screenshot: Callable[..., Path]
) -> None:
    asked: list[str] = []
    page = tabs.open(studio.url, viewport={"width": 1200, "height": 820})
    page.on("request", lambda request: asked.append(request.resource_type))
    page.get_by_role("link", name="The night ferry").click()
    page.get_by_role("button", name="Shoot it").click()
    expect(page.get_by_role("heading", name="The night ferry")).to_be_visible()
    pages = asked.count("document")
    shots = shots_of(page)
    assert len(shots) == 3
    expect(shots[0].get_by_role("progressbar")).to_have_attribute("aria-valuenow", re.compile(r"[1-9]"))
    expect(page.get_by_role("img").first).to_be_visible(timeout=LONG_MS)
    screenshot(page, "flask-studio")

    for shot in shots:
        expect(shot.get_by_role("img")).to_be_visible(timeout=LONG_MS)
    expect(sheet(page).get_by_role("img", name="Contact sheet of The night ferry")).to_be_visible()
    assert "eventsource" in asked, "expected live events"
    assert asked.count("document") == pages, "expected no page to be loaded again"

    page.reload()
    assert not page.locator("bytespike-job").count(), "expected the studio's own files"
    for picture in page.locator("main img").all():
        assert is_loaded(picture)
    page.get_by_role("link", name="Slate").click()
    expect(page.get_by_text("3 shots, contact sheet")).to_be_visible()


def test_a_cancelled_shot_can_be_shot_again_and_the_contact_sheet_waits_for_it(
    studio: RunningExample, page: Page
) -> None:
    page.goto(studio.url)
    whale, gull = shoot(page, "At sea", "A whale in a teacup", "A gull on a mast")

    whale.get_by_role("button", name="Cancel").click()
    expect(whale.get_by_role("status")).to_have_text("Cut. You pay nothing for it.")
    expect(gull.get_by_role("img")).to_be_visible(timeout=LONG_MS)
    expect(sheet(page)).to_contain_text("It waits for shot 1.")

    whale.get_by_role("button", name="Shoot again").click()
    expect(page.get_by_text("Shot 1, take 2")).to_be_visible()
    expect(sheet(page).get_by_role("img")).to_be_visible(timeout=LONG_MS)


def test_a_refusal_is_kind_and_other_words_help(studio: RunningExample, page: Page) -> None:
    page.goto(studio.url)
    (refused,) = shoot(page, "Contraband", "A forbidden cargo below deck")

    expect(refused.get_by_role("alert")).to_have_text(
        "We are sorry: our rules forbid us to shoot this one. You pay nothing for it."
    )
    refused.get_by_label("Shot 1, in other words").fill("A strange cargo below deck")
    refused.get_by_role("button", name="Shoot again").click()

    (again,) = shots_of(page)
    expect(again).to_contain_text("A strange cargo below deck")
    expect(again.get_by_role("button", name="Cancel")).to_be_visible()


def test_a_failure_that_is_no_affair_of_the_visitors_tells_nothing_of_it(studio: RunningExample, page: Page) -> None:
    cause(studio, on="submit", kind="status", status=402, code="insufficient_balance")
    page.goto(studio.url)

    (failed,) = shoot(page, "Broke", "A bear on a bicycle")

    expect(failed.get_by_role("alert")).to_have_text("This did not work out. Please try again.")


def test_a_reload_and_a_second_tab_show_the_same_shot(studio: RunningExample, page: Page) -> None:
    page.goto(studio.url)
    shoot(page, "Owls", "An owl with a lantern")
    page.reload()
    expect(shots_of(page)[0].get_by_role("button", name="Cancel")).to_be_visible()

    second = page.context.new_page()
    second.goto(page.url)
    shots_of(second)[0].get_by_role("button", name="Cancel").click()

    for one in (page, second):
        expect(shots_of(one)[0].get_by_role("status")).to_have_text(re.compile("^Cut"))


def test_nobody_sees_the_storyboards_of_somebody_else(studio: RunningExample, tabs: Tabs, page: Page) -> None:
    page.goto(studio.url)
    shoot(page, "Secret", "A forbidden secret")

    other = tabs.open(studio.url)
    expect(other.get_by_text("Nothing here yet")).to_be_visible()
    tabs.expect_errors("404")
    answer = other.goto(page.url)
    assert answer is not None
    assert answer.status == 404


def test_pages_poll_where_events_do_not_get_through(studio: RunningExample, tabs: Tabs, page: Page) -> None:
    tabs.expect_errors("events")
    page.route("**/events", lambda route: route.abort())
    page.goto(studio.url)
    (hare,) = shoot(page, "Hares", "A hare in a hurry")

    expect(hare.get_by_role("img")).to_be_visible(timeout=LONG_MS)


def test_everything_can_be_done_with_the_keyboard(studio: RunningExample, page: Page) -> None:
    page.goto(studio.url)
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("Snails")
    page.keyboard.press("Tab")
    page.keyboard.type("A snail by night mail")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Snails")).to_be_visible()

    (snail,) = shots_of(page)
    expect(snail.get_by_role("button", name="Cancel")).to_be_visible()
    for _ in range(3):  # the skip link, the way home, and Cancel
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(snail.get_by_role("status")).to_have_text(re.compile("^Cut"))
    page.keyboard.press("Tab")
    page.keyboard.type("A snail by air mail")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Shot 1, take 2")).to_be_visible()


def test_every_page_is_accessible_and_fits_a_narrow_screen(
    studio: RunningExample, tabs: Tabs, accessible: Callable[[Page], None], screenshot: Callable[..., Path]
) -> None:
    tabs.expect_errors("422")
    page = tabs.open(studio.url, is_narrow=True)

    def check(name: str) -> None:
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            accessible(page)
            screenshot(page, f"flask-studio-{name}-{scheme}-narrow")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= NARROW["width"], f"expected no scrolling sideways: {width}"

    check("empty")
    page.get_by_label("Title").fill(" ")
    page.get_by_label("Shots, a line for each").fill("1\n2\n3\n4\n5\n6\n7")
    page.get_by_role("button", name="Shoot it").click()
    expect(page.get_by_text("Give it a title")).to_be_visible()
    expect(page.get_by_text("1 to 6 shots")).to_be_visible()
    check("form-error")
    word = "A-very-long-word-that-nobody-breaks-" * 2
    long, _, cancelled = shoot(page, word, word * 2, "A forbidden garden", "A cancelled trip to the moon")
    check("live")
    cancelled.get_by_role("button", name="Cancel").click()
    expect(cancelled.get_by_role("status")).to_have_text(re.compile("^Cut"))
    expect(long.get_by_role("img")).to_be_visible(timeout=LONG_MS)
    expect(sheet(page)).to_contain_text("It waits for shot 2, shot 3.")
    check("ended")
    page.get_by_role("link", name="Slate").click()
    shoot(page, "One", "A fox")
    expect(sheet(page).get_by_role("img")).to_be_visible(timeout=LONG_MS)
    check("sheet")
    page.get_by_role("link", name="Slate").click()
    check("boards")


def test_a_server_that_restarts_in_mid_job_loses_nothing_even_if_it_cannot_stream_any_more(
    studio: RunningExample, tabs: Tabs, page: Page
) -> None:
    tabs.expect_errors(RunningExample.AWAY)
    page.goto(studio.url)
    shots = shoot(page, "Foxes", "A fox that sleeps", "A fox that runs")
    expect(shots[0].get_by_role("status")).to_have_text("Shooting")

    assert studio.stop() == 0
    studio.start("--wsgi")  # the last test of all: it stays so

    # the page was not touched meanwhile
    for shot in shots:
        expect(shot.get_by_role("img")).to_be_visible(timeout=LONG_MS)
    expect(sheet(page).get_by_role("img")).to_be_visible(timeout=LONG_MS)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.resource_type))
    page.goto(studio.url)
    expect(page.get_by_text("2 shots, contact sheet")).to_be_visible()
    (hare,) = shoot(page, "Hares", "A hare at rest")
    expect(hare.get_by_role("img")).to_be_visible(timeout=LONG_MS)
    assert "eventsource" not in asked
    assert asked.count("fetch") > 1
