from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks_bridge.sandbox import SandboxServer
from tests.integration.lab import API_KEY, CALLS, RUNS, Lab

HERE = Path(__file__).parent
OF_CELERY = "ignore:Call to deprecated setex:DeprecationWarning"
"""Celery's own way to store a result, of which redis-py 8 warns."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.filterwarnings(OF_CELERY))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer(keys=[API_KEY]) as server:
        yield server


@pytest.fixture(scope="module")
def working_lab(redis_url: str, sandbox: SandboxServer) -> Iterator[Lab]:
    lab = Lab(redis_url, sandbox)
    with lab.current(), lab.worker(queues=["special"]):
        yield lab


@pytest.fixture
def lab(working_lab: Lab) -> Iterator[Lab]:
    """An app with a worker that is up: one for all tests of a module."""
    CALLS.clear()
    RUNS.clear()
    working_lab.sandbox.heal()
    yield working_lab
    working_lab.sandbox.heal()


@pytest.fixture
def idle_lab(redis_url: str, sandbox: SandboxServer) -> Iterator[Lab]:
    """An app of this test alone, without a worker until the test starts one."""
    CALLS.clear()
    RUNS.clear()
    sandbox.reset()
    lab = Lab(redis_url, sandbox)
    with lab.current():
        yield lab
    sandbox.reset()
