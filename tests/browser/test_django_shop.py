"""The Django example as its visitors meet it, started by its one command."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.tabs import NARROW, Tabs
from tests.smoke.examples import RunningExample, cause, running
from tests.smoke.processes import eventually

SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningExample]:
    with running("django_shop", tmp_path_factory.mktemp("shop") / "data") as example:
        yield example


def order(page: Page, prompt: str, kind: str = "Print") -> Locator:
    """Order a poster; returns its place on the wall."""
    page.get_by_label("What should be on it?").fill(prompt)
    page.get_by_label(kind, exact=True).check()
    page.get_by_role("button", name="Order the poster").click()
    expect(page.get_by_text("Your poster is in the making")).to_be_visible()
    return poster(page, prompt)


def poster(page: Page, prompt: str) -> Locator:
    return page.get_by_role("listitem").filter(has=page.get_by_role("heading", name=prompt))


def await_gallery(page: Page, said: str) -> None:
    """A row follows its job a moment after the page has, and the file is saved after that."""

    def is_there() -> bool:
        page.reload()
        return bool(page.get_by_text(said).count()) and not page.locator("bytespike-job").count()

    eventually(is_there, expected=said)


def is_loaded(picture: Locator) -> bool:
    return bool(picture.evaluate("(picture) => picture.complete && picture.naturalWidth > 0"))


def test_an_order_is_shown_live_and_hangs_in_the_gallery(
    shop: RunningExample, tabs: Tabs, screenshot: Callable[..., Path]
) -> None:
    asked: list[str] = []
    page = tabs.open(shop.url, viewport={"width": 1200, "height": 820})
    page.on("request", lambda request: asked.append(request.resource_type))
    train = order(page, "Night train through the Alps, 1930s")
    foxes = order(page, "Two foxes under a paper moon")
    refused = order(page, "A forbidden garden")
    film = order(page, "A lighthouse in fog, woodcut", "Moving poster")
    pages = asked.count("document")

    expect(refused.get_by_role("alert")).to_have_text(re.compile("our rules forbid us"))
    expect(train.get_by_role("img", name="Night train")).to_be_visible()
    expect(foxes.get_by_role("img", name="Two foxes")).to_be_visible()
    expect(film.get_by_role("progressbar")).to_have_attribute("aria-valuenow", re.compile(r"[3-9]\d"))
    screenshot(page, "django-shop")
    assert "eventsource" in asked, "expected live events"
    assert asked.count("document") == pages, "expected no page to be loaded again"

    expect(film.locator("video")).to_be_visible(timeout=60_000)
    page.get_by_role("link", name="Gallery").click()
    await_gallery(page, "3 finished posters")
    for picture in page.locator("main img").all():
        assert is_loaded(picture)
    screenshot(page, "django-shop-gallery")


def test_a_cancelled_order_ends_and_can_be_ordered_again(shop: RunningExample, page: Page) -> None:
    page.goto(shop.url)
    film = order(page, "A whale in a teacup", "Moving poster")

    film.get_by_role("button", name="Cancel").click()

    expect(film.get_by_role("status")).to_have_text("Cancelled. You pay nothing for it.")
    film.get_by_role("link", name="Try other words").click()
    expect(page.get_by_label("What should be on it?")).to_have_value("A whale in a teacup")
    expect(page.get_by_label("Moving poster", exact=True)).to_be_checked()


def test_a_refusal_is_kind_and_says_what_to_do(shop: RunningExample, page: Page) -> None:
    page.goto(shop.url)
    refused = order(page, "A forbidden garden")

    expect(refused.get_by_role("alert")).to_have_text(
        "We are sorry: our rules forbid us to print this one. You pay nothing for it."
    )
    refused.get_by_role("link", name="Try other words").click()
    expect(page.get_by_label("What should be on it?")).to_have_value("A forbidden garden")


def test_a_failure_that_is_no_affair_of_the_visitors_tells_nothing_of_it(shop: RunningExample, page: Page) -> None:
    cause(shop, on="submit", kind="status", status=402, code="insufficient_balance")
    page.goto(shop.url)

    failed = order(page, "A bear on a bicycle")

    expect(failed.get_by_role("alert")).to_have_text("This did not work out. Please try again.")


def test_a_reload_and_a_second_tab_show_the_same_order(shop: RunningExample, page: Page) -> None:
    page.goto(shop.url)
    order(page, "An owl with a lantern", "Moving poster")
    page.reload()
    film = poster(page, "An owl with a lantern")
    expect(film.get_by_role("status")).to_have_text("Filming")

    second = page.context.new_page()
    second.goto(shop.url)
    poster(second, "An owl with a lantern").get_by_role("button", name="Cancel").click()

    for one in (page, second):
        expect(poster(one, "An owl with a lantern").get_by_role("status")).to_have_text(re.compile("^Cancelled"))


def test_nobody_sees_the_orders_of_somebody_else(shop: RunningExample, tabs: Tabs, page: Page) -> None:
    page.goto(shop.url)
    refused = order(page, "A forbidden secret")
    address = refused.get_by_role("heading").get_by_role("link").get_attribute("href")
    assert address
    expect(refused.get_by_role("alert")).to_be_visible()

    other = tabs.open(shop.url)
    expect(other.get_by_text("Nothing here yet")).to_be_visible()
    tabs.expect_errors("404")
    answer = other.goto(shop.url.rstrip("/") + address)
    assert answer is not None
    assert answer.status == 404


def test_a_server_that_restarts_in_mid_job_loses_nothing(shop: RunningExample, tabs: Tabs, page: Page) -> None:
    tabs.expect_errors(RunningExample.AWAY)
    page.goto(shop.url)
    done = order(page, "A fox before")
    expect(done.get_by_role("img")).to_be_visible()
    film = order(page, "A fox that runs", "Moving poster")
    expect(film.get_by_role("status")).to_have_text("Filming")

    assert shop.stop() == 0
    shop.start()

    # the page was not touched meanwhile
    expect(film.locator("video")).to_be_visible(timeout=60_000)
    page.goto(f"{shop.url}gallery")
    await_gallery(page, "2 finished posters")
    for prompt in ("A fox before", "A fox that runs"):
        expect(poster(page, prompt)).to_be_visible()
    assert is_loaded(poster(page, "A fox before").get_by_role("img"))


def test_pages_poll_where_events_do_not_get_through(shop: RunningExample, tabs: Tabs, page: Page) -> None:
    tabs.expect_errors("events")
    page.route("**/events", lambda route: route.abort())
    page.goto(shop.url)
    print_ = order(page, "A hare in a hurry")

    expect(print_.get_by_role("img", name="A hare")).to_be_visible()


def test_everything_can_be_done_with_the_keyboard(shop: RunningExample, page: Page) -> None:
    page.goto(shop.url)

    def focused() -> Locator:
        return page.locator(":focus")

    page.keyboard.press("Tab")
    expect(focused()).to_have_text("Skip to the content")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("A snail by night mail")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("Moving poster", exact=True)).to_be_checked()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    film = poster(page, "A snail by night mail")
    expect(film.get_by_role("button", name="Cancel")).to_be_visible()
    for _ in range(20):
        page.keyboard.press("Tab")
        if focused().get_by_text("Cancel").or_(page.locator("bytespike-job:focus")).count():
            break
    page.keyboard.press("Enter")
    expect(film.get_by_role("status")).to_have_text(re.compile("^Cancelled"))


def test_every_page_is_accessible_and_fits_a_narrow_screen(
    shop: RunningExample, tabs: Tabs, accessible: Callable[[Page], None], screenshot: Callable[..., Path]
) -> None:
    page = tabs.open(shop.url, is_narrow=True)

    def check(name: str) -> None:
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            accessible(page)
            screenshot(page, f"django-shop-{name}-{scheme}-narrow")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= NARROW["width"], f"expected no scrolling sideways: {width}"

    check("empty")
    page.goto(f"{shop.url}gallery")
    check("empty-gallery")
    page.goto(shop.url)
    page.get_by_label("What should be on it?").fill("   ")
    page.get_by_role("button", name="Order the poster").click()
    expect(page.get_by_text("Tell us what you would like to see.")).to_be_visible()
    check("form-error")
    print_ = order(page, "A-very-long-word-that-nobody-breaks-" * 3)
    order(page, "A forbidden garden")
    film = order(page, "A cancelled trip to the moon", "Moving poster")
    check("live")
    film.get_by_role("button", name="Cancel").click()
    expect(film.get_by_role("status")).to_have_text(re.compile("^Cancelled"))
    expect(print_.get_by_role("img")).to_be_visible()
    check("ended")
    print_.get_by_role("heading").get_by_role("link").click()
    expect(page.get_by_text("Order it again")).to_be_visible()
    check("poster")
    page.goto(f"{shop.url}gallery")
    check("gallery")


def test_pages_poll_where_the_server_cannot_stream(shop: RunningExample, tabs: Tabs) -> None:
    asked: list[str] = []
    shop.stop()
    shop.start("--wsgi")  # the last test of all: it stays so
    page = tabs.open(shop.url)
    page.on("request", lambda request: asked.append(request.resource_type))

    print_ = order(page, "A hare at rest")
    expect(print_.get_by_role("img", name="A hare")).to_be_visible()

    assert "eventsource" not in asked
    assert asked.count("fetch") > 1
