"""
The plugin for pytest, which is loaded wherever the library is installed beside pytest.

It imports nothing of the library but `outbound`: fixtures import what they need when a test asks for them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

import pytest

from tasks_bridge import outbound

if TYPE_CHECKING:
    from tasks_bridge.sandbox import SandboxServer
    from tasks_bridge.testing.bytespike import ByteSpike
    from tasks_bridge.testing.clock import FastClock

HOSTS: Final = "bytespike_allow_hosts"
KEY: Final = "sk-byts-test"

_RESERVED: Final = ("test", "invalid", "example", "localhost")
"""Names that lead nowhere (RFC 2606)."""

_before = pytest.StashKey[dict[str, str | None]]()


# -- safety -----------------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Pytest's hook."""
    parser.addini(HOSTS, "hosts beside this machine that tests may send ByteSpike requests to", type="args", default=[])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Pytest's hook: before any other plugin, Django's say, reads the environment."""
    _keep_from_spending(early_config)
    yield


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Pytest's hook."""
    _keep_from_spending(config)
    config.addinivalue_line("markers", "bytespike(**settings): settings of the library for a test with `bytespike`")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Pytest's hook: put everything back."""
    outbound.restrict(None)
    for name, value in config.stash.get(_before, {}).items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _keep_from_spending(config: pytest.Config) -> None:
    """Let no test send a request that is paid for, and let none see a real key."""
    if _before in config.stash:
        return
    names = ("BYTESPIKE_API_KEY", "BYTESPIKE_API_KEYS", "BYTESPIKE_BASE_URL")
    before = config.stash[_before] = {name: os.environ.get(name) for name in names}
    allowed = {str(host).lower() for host in config.getini(HOSTS)}

    def allows(host: str) -> bool:
        return host.lower() in allowed or _leads_nowhere(host.lower())

    outbound.restrict(allows)
    if allowed:
        return  # then somebody knows what they do, and needs a key for it
    os.environ["BYTESPIKE_API_KEY"] = KEY
    if keys := before["BYTESPIKE_API_KEYS"]:
        os.environ["BYTESPIKE_API_KEYS"] = json.dumps({alias: f"{KEY}-{alias}" for alias in _aliases(keys)})


def _leads_nowhere(host: str) -> bool:
    if host.rpartition(".")[2] in _RESERVED:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _aliases(keys: str) -> list[str]:
    try:
        found = json.loads(keys)
    except ValueError:
        return []
    return list(found) if isinstance(found, dict) else []


# -- all in the test's own thread -------------------------------------------------------------------------------------


@pytest.fixture
def bytespike(request: pytest.FixtureRequest) -> Iterator[ByteSpike]:
    """
    ByteSpike for this test: jobs wait for it, and end when the test completes or fails them, or lets time pass.

    ::

        def test_the_user_gets_a_mail(bytespike, mailoutbox):
            start_render(user, "a fox")
            bytespike.complete()
            assert len(mailoutbox) == 1

    No Redis, no worker and no waiting. ``@pytest.mark.bytespike(spend_limit=10)`` changes settings for one test.
    """
    from tasks_bridge.testing.bytespike import ByteSpike

    settings: dict[str, object] = {}
    for marker in reversed(list(request.node.iter_markers("bytespike"))):
        settings |= marker.kwargs
    with ByteSpike(**settings) as found:
        yield found


@pytest.fixture
def fast_clock(bytespike: ByteSpike) -> FastClock:
    """The clock of the jobs of this test: it stands still until ``fast_clock.advance(seconds)``."""
    return bytespike.clock


# -- with real workers ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _bytespike_server() -> Iterator[SandboxServer]:
    from tasks_bridge.sandbox import SandboxServer
    from tasks_bridge.testing.servers import SPEED

    with SandboxServer(speed=SPEED) as server:
        yield server


@pytest.fixture
def bytespike_sandbox(request: pytest.FixtureRequest, _bytespike_server: SandboxServer) -> Iterator[SandboxServer]:
    """
    A real ByteSpike sandbox over HTTP on this machine, empty for each test, for tests with real workers.

    Everything takes a thousandth of its time, and the library waits for fractions of a second.
    """
    from tasks_bridge.testing.servers import at_sandbox

    if "bytespike" in request.fixturenames:
        pytest.fail("a test has either `bytespike` (and `fast_clock`) or `bytespike_sandbox`: not both", pytrace=False)
    with at_sandbox(_bytespike_server):
        yield _bytespike_server


@pytest.fixture(scope="session")
def _bytespike_redis_server() -> Iterator[str]:
    from tasks_bridge.embedded import EmbeddedRedis

    with EmbeddedRedis() as server:
        yield server.url


@pytest.fixture
def bytespike_redis(_bytespike_redis_server: str) -> Iterator[str]:
    """
    The URL of a real Redis of this test run, empty for each test: all apps have their broker, results and jobs there.

    It is started from ``valkey-server`` or ``redis-server`` on PATH, or from the extra ``testing``.
    """
    from tasks_bridge.testing.servers import at_redis

    with at_redis(_bytespike_redis_server):
        yield _bytespike_redis_server
