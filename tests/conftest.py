"""
Real servers for the tests, a clean environment around each, and no skips where all parts are required.

``TESTS_REQUIRE=all`` turns every skip into a failure: continuous integration must not pass because a part was
missing. A reason that starts with "not applicable" stays a skip: it is about what the machine is, not about
what it lacks.
"""

import os
import re
import shutil
import signal
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import settings

from tasks_bridge.embedded import EmbeddedRedis, packaged_server
from tests.celery_state import forget_results, same_apps_afterwards
from tests.rabbitmq import RabbitMQ, find_rabbitmq

# How long one example takes says more of what else the machine is doing than of the code.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

_OUR_SETTINGS = ("BYTESPIKE_", "TASKS_BRIDGE_", "CELERY_", "REDIS_URL")


@pytest.fixture(scope="session", autouse=True)
def bare_environment() -> Iterator[None]:
    """
    No setting of the person who runs the tests reaches them.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(_OUR_SETTINGS):
                patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def interrupts_reach_processes() -> Iterator[None]:
    """
    A shell starts what it puts in the background deaf to Ctrl-C, and so would be each process that a test starts.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def same_environment_after_each_test() -> Iterator[None]:
    before = dict(os.environ)
    yield
    if os.environ != before:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module", autouse=True)
def same_celery_apps_after_each_module(bare_environment: None) -> Iterator[None]:
    """
    As below for what its fixtures make; nor does a result look for a server that was the module's own.
    """
    with same_apps_afterwards():
        yield
    forget_results(of_lost_servers=True)


@pytest.fixture(autouse=True)
def same_celery_apps_after_each_test() -> Iterator[None]:
    """
    Shared tasks belong to whichever app a test or a command makes current: the next test's are its own again.
    """
    with same_apps_afterwards():
        yield


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """
    What ``@pytest.mark.anyio`` runs coroutines on: aiohttp knows asyncio only.
    """
    return "asyncio"


@pytest.fixture(scope="session")
def redis_url(bare_environment: None) -> Iterator[str]:
    """
    A real server of this test run alone. Its data outlives a test: see ``clean_redis`` and ``namespace``.
    """
    # The same version on every machine, that of constraints.txt, where the package has one for the machine.
    packaged = packaged_server()
    with EmbeddedRedis(program=packaged.path if packaged else None) as server:
        yield server.url


@pytest.fixture(scope="session")
def installed_redis_url(bare_environment: None) -> Iterator[str]:
    """
    As ``redis_url``, but the server that the system's packages provide: other product, or older version.
    """
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip("no Redis server is installed (Debian: apt install redis-server)")
    with EmbeddedRedis(program=Path(program)) as server:
        yield server.url


@pytest.fixture(params=["packaged", "installed"])
def each_redis_url(request: pytest.FixtureRequest) -> str:
    """
    One real server after the other, for what must hold on each.
    """
    name = {"packaged": "redis_url", "installed": "installed_redis_url"}[request.param]
    return str(request.getfixturevalue(name))


@pytest.fixture
def clean_redis(redis_url: str) -> Iterator[redis.Redis]:
    """
    A client of the session's server, emptied before the test.
    """
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def namespace() -> str:
    """
    A prefix that no other test uses.
    """
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def rabbitmq_url(bare_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """
    A real RabbitMQ node of this test run alone. Its queues outlive a test.
    """
    server = find_rabbitmq()
    if server is None:
        pytest.skip("RabbitMQ is not installed (Debian: apt install rabbitmq-server)")
    with RabbitMQ(server, tmp_path_factory.mktemp("rabbitmq")) as node:
        yield node.url


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """
    How many processes share the tests where nobody says how many (``-n``): three on two cores, as most tests wait.

    Only this one if the choice is small, or somebody wants to look on: ``-k``, a file, ``--lf``, ``-s``, ``--trace``.
    """
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return None  # xdist takes it
    chosen = config.option
    # which `-p no:cacheprovider` takes away
    resumes = any(config.getoption(name, False) for name in ("lf", "stepwise"))
    looks_on = chosen.capture == "no" or chosen.trace or resumes
    if looks_on or chosen.keyword or not all(Path(argument).is_dir() for argument in config.args):
        return 0
    return max(2, 3 * (os.cpu_count() or 1) // 2)


_NOTES = pytest.StashKey[set[str]]()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """
    Keep what a process that shared the tests has to say.
    """
    if note := getattr(node, "workeroutput", {}).get("note"):
        node.config.stash.setdefault(_NOTES, set()).add(note)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for note in sorted(config.stash.get(_NOTES, None) or ()):
        terminalreporter.write_line(note)


_TESTS = Path(__file__).parent
_ORDER = ("unit", "contract", "integration", "faults", "smoke", "browser")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+>")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Fast ones first: what is wrong in pure code should not show after minutes. A part not named comes before faults.

    The longest files are not the last, lest one process is left alone with them. The browser is: from its start on, an
    event loop is in this thread, and no other test could run its own.
    """

    def place(item: pytest.Item) -> float:
        part = next((name for name in _ORDER if item.path.is_relative_to(_TESTS / name)), None)
        return _ORDER.index(part) if part else _ORDER.index("faults") - 0.5

    for item in items:
        if _ADDRESS.search(item.nodeid):
            raise pytest.UsageError(f"each process would call it otherwise, give `ids`: {item.nodeid}")
    items.sort(key=place)


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("TESTS_REQUIRE") != "all" or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not reason.removeprefix("Skipped: ").startswith("not applicable"):
        report.outcome = "failed"
        report.longrepr = f"TESTS_REQUIRE=all allows no skips, but: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _forbid_skip(report)
    return report
