"""A stage for each module: the servers and workers of its tests, which are cleared but not started anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.stage import Stage
from tests.smoke.processes import Reaper
from tests.smoke.scene import Scene

HERE = Path(__file__).parent
OF_CELERY = "ignore:Call to deprecated setex:DeprecationWarning"
"""Celery's own way to store a result, of which redis-py 8 warns."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.filterwarnings(OF_CELERY))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows the end of each worker's log."""
    report = yield
    stage = item.funcargs.get("stage") if hasattr(item, "funcargs") else None
    if report.failed and call.when != "teardown" and isinstance(stage, Stage):
        for node in stage.workers:
            report.sections.append((node.name(), node.container.tail()))
    return report


@pytest.fixture(scope="session")
def reaper() -> Iterator[Reaper]:
    reaper = Reaper()
    yield reaper
    reaper.close()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture
def scene(stage: Stage) -> Scene:
    """What the module's `stage` shows, without what an earlier test left."""
    return stage.clear()
