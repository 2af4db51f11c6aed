"""
What a person has in front of them: tabs of a real browser, which fail the test on any error that nobody expected.

Playwright's synchronous interface keeps an event loop in the test's thread: `asyncio.run` and Django's ORM refuse to
work there meanwhile, so that a test of this folder leaves both to other threads and processes.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, WebError

SCREENSHOTS: Final = Path(__file__).parents[2] / ".cache" / "screenshots"

CHROMIUM_FLAGS: Final = (
    "--no-sandbox",  # root, as in containers
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    # nothing looks for the internet
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

PATIENCE_MS: Final = 20_000
"""How long a step may take on a busy machine before it has failed."""

NARROW: Final = {"width": 320, "height": 640}
"""The least that WCAG 2.2 asks a page to fit into (1.4.10, reflow)."""


class Tabs:
    """The tabs of one test."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self._expected: list[re.Pattern[str]] = []
        self._seen: list[str] = []

    def open(
        self,
        url: str | None = None,
        *,
        is_dark: bool = False,
        is_narrow: bool = False,
        has_clock: bool = False,
        **options: Any,
    ) -> Page:
        """
        A tab of somebody who has no cookies yet, at *url*.

        Args:
            url: Where to go.
            is_dark: Whether they prefer dark pages.
            is_narrow: Whether their screen is `NARROW`.
            has_clock: Whether the test may put its clock forward (``page.clock``).
            options: As for Playwright's `Browser.new_context`, such as ``reduced_motion="reduce"``.
        """
        context = self._browser.new_context(
            **{
                "viewport": NARROW if is_narrow else {"width": 960, "height": 720},
                "color_scheme": "dark" if is_dark else "light",
                **options,
            }
        )
        self._contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        context.on("console", self._hear)
        context.on("weberror", self._fail)
        page = context.new_page()
        if has_clock:
            page.clock.install()
        if url is not None:
            page.goto(url)
        return page

    def expect_errors(self, pattern: str) -> None:
        """Let pass what matches *pattern* of the errors in consoles: the test causes it."""
        self._expected.append(re.compile(pattern))

    @property
    def errors(self) -> list[str]:
        """Errors that nobody expected: those in consoles, violations of a content security policy among them."""
        return [found for found in self._seen if not any(pattern.search(found) for pattern in self._expected)]

    def save(self, name: str) -> None:
        """Keep what all tabs show, for whoever looks for what went wrong."""
        pages = [page for context in self._contexts for page in context.pages]
        for number, page in enumerate(pages, start=1):
            save(page, f"failed-{name}-{number}")

    def close(self) -> None:
        """Close all of them."""
        for context in self._contexts:
            context.close()

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._seen.append(f"{message.text} ({message.location.get('url', '')})")

    def _fail(self, error: WebError) -> None:
        self._seen.append(f"uncaught: {error.error}")


def save(what: Page | Locator, name: str) -> Path:
    """Save a picture of a page or a part of it under `SCREENSHOTS`."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    what.screenshot(path=path)
    return path


def violations(page: Page) -> list[str]:
    """What axe-core has against the page as it is now, shadow trees included: one line for each place."""
    answer = Axe().run(page).response
    return [
        f"{found['id']} ({found['impact']}): {found['help']}: {json.dumps(node['target'])} {node['html']}"
        for found in answer["violations"]
        for node in found["nodes"]
    ]
