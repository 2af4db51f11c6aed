"""A real browser, a real web server, a worker and the sandbox: what the tests with a browser share."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tasks_bridge.sandbox import SandboxServer
from tests.browser.jobs import Jobs
from tests.browser.site import SECRET, Site
from tests.browser.tabs import CHROMIUM_FLAGS, PATIENCE_MS, Tabs, save, violations
from tests.integration.lab import API_KEY, Lab

HERE = Path(__file__).parent
OF_CELERY = "ignore:Call to deprecated setex:DeprecationWarning"
FAILED = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.filterwarnings(OF_CELERY))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


# -- the browser ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium: one process for all tests, of which none sees another's cookies."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium is installed (Debian: apt install chromium)")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def tabs(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Tabs]:
    """Opens tabs. After the test: no error in their consoles, unless the test said that it would be there."""
    tabs = Tabs(browser)
    yield tabs
    if request.node.stash.get(FAILED, False):
        tabs.save(re.sub(r"\W+", "-", request.node.name).strip("-"))
    tabs.close()
    assert not tabs.errors, "expected no error in any console:\n" + "\n".join(tabs.errors)


@pytest.fixture
def page(tabs: Tabs) -> Page:
    """One tab."""
    return tabs.open()


@pytest.fixture
def screenshot() -> Callable[[Page | Locator, str], Path]:
    """``screenshot(page, "gallery-dark")`` saves a picture of a page, or of a part of it, as an artefact."""
    return save


@pytest.fixture
def accessible() -> Callable[[Page], None]:
    """``accessible(page)`` fails if axe-core finds a violation on the page as it is at that moment."""

    def check(page: Page) -> None:
        found = violations(page)
        assert not found, "expected axe-core to find no violation:\n" + "\n".join(found)

    return check


# -- what it looks at -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def browser_sandbox() -> Iterator[SandboxServer]:
    with SandboxServer(keys=[API_KEY]) as server:
        yield server


@pytest.fixture(scope="session")
def working_lab(redis_url: str, browser_sandbox: SandboxServer) -> Iterator[Lab]:
    lab = Lab(redis_url, browser_sandbox, secret_key=SECRET)
    with lab.current(), lab.worker():
        yield lab


@pytest.fixture
def lab(working_lab: Lab) -> Iterator[Lab]:
    """An app with a worker that is up."""
    working_lab.be_current()  # it is older than the module, which may have made another app before
    working_lab.sandbox.heal()
    yield working_lab
    working_lab.sandbox.heal()


# A module's tests use either of these labs: shared tasks belong to one app at a time.


@pytest.fixture(scope="module")
def idle_lab(redis_url: str, browser_sandbox: SandboxServer) -> Iterator[Lab]:
    """An app without a worker: its jobs are where the tests put them."""
    lab = Lab(redis_url, browser_sandbox, secret_key=SECRET, lease_s=60)
    with lab.current():
        yield lab


@pytest.fixture
def site(lab: Lab) -> Iterator[Site]:
    """Pages and the jobs' URLs, on an ASGI server."""
    with Site(lab) as site:
        yield site


@pytest.fixture
def idle_site(idle_lab: Lab) -> Iterator[Site]:
    """Pages of jobs that are where tests put them: see `jobs`."""
    with Site(idle_lab) as site:
        yield site


@pytest.fixture(scope="module")
def jobs(idle_lab: Lab) -> Jobs:
    """Puts jobs where a test wants them."""
    return Jobs(idle_lab)
