"""The oldest versions that pyproject.toml allows, with the oldest Python: what holds for both ends holds between."""

from __future__ import annotations

import re
import shutil
import tomllib

import pytest

from tests.release.environments import OLDEST_VERSIONS, ROOT, Environment, build
from tests.release.interpreters import interpreters

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = [python for name, python in interpreters().items() if name in {"3.11", "3.12"}]
"""Those that the oldest versions, aiohttp's for one, have wheels for."""

EXTRAS = "embedded,testing"
TOOLS = ("hypothesis", "psutil", "pytest-timeout", "pytest-xdist")
PARTS = (
    "tests/unit/test_stop.py",
    "tests/integration/test_atomic.py",
    "tests/integration/test_generate.py",
    "tests/integration/test_ignored_results.py",
    "tests/integration/test_recovery.py",
)
"""
Where Celery's, kombu's and redis-py's private and changing parts are used: canvases and errbacks, publishing, revokes,
results, recovery, stops. The demo has processes of a pool, and a worker that is killed.
"""

LEFT_OUT = "monitors"
"""By their names: with kombu 5.5.2, what receives events in a worker's own process may cease to hear them."""


def pinned() -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", OLDEST_VERSIONS.read_text(), re.MULTILINE))


def test_the_oldest_versions_are_those_of_the_lower_bounds() -> None:
    extras = {name: wanted for name, wanted in PROJECT["optional-dependencies"].items() if name != "dev"}
    wanted = [*PROJECT["dependencies"], *(one for some in extras.values() for one in some)]
    bounds = dict(re.findall(r"^([a-z0-9-]+)(?:\[[a-z]+\])?>=([0-9.]+)", "\n".join(wanted), re.MULTILINE))

    assert {"celery", "kombu", "redis", "django", "flask"} <= bounds.keys()
    raised = {name: least for name, least in bounds.items() if not f"{pinned()[name]}.".startswith(f"{least}.")}
    assert not raised, f"run `make constraints`: constraints-oldest.txt has other versions of {raised}"


@pytest.fixture(scope="module")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    if not PYTHONS:
        pytest.skip("not applicable: the oldest versions have no wheels for Python 3.13 and later")
    folder = tmp_path_factory.mktemp("oldest")
    environment = Environment(folder, PYTHONS[0], OLDEST_VERSIONS)
    environment.install(f"tasks-bridge[{EXTRAS}] @ {build(folder).as_uri()}", *TOOLS)
    return environment


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_does_all_that_the_demo_shows_with_the_oldest_versions(oldest: Environment) -> None:
    installed = oldest.versions()
    assert {name: installed[name] for name in ("celery", "kombu", "redis")} == {
        name: pinned()[name] for name in ("celery", "kombu", "redis")
    }

    oldest.show_all()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_rests_on_private_parts_of_celery_works_with_the_oldest_versions(oldest: Environment) -> None:
    # without the library beside them, the tests find the wheel's
    for part in ("tests", "worker"):
        shutil.copytree(ROOT / part, oldest.folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / part, oldest.folder)

    oldest.test(*PARTS, "-k", f"not {LEFT_OUT}")
