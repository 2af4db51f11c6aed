"""
A Django project on a real database (SQLite in a file), real Redis, the sandbox, and a worker of its own processes.

The project is set up in this process too, once, and without the environment variable that would make every Celery app
of the other tests Django's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django
import pytest
import uvicorn
from django.conf import settings
from django.core.management import call_command

from tasks_bridge.sandbox import SandboxServer
from tests.celery_state import same_apps_afterwards, set_apps
from tests.smoke.processes import LocalProcess, eventually, pythons

HERE = Path(__file__).parent
API_KEY = "sk-byts-django-0123456789"
ROOT = HERE.parents[1]
OF_CELERY = "ignore:Call to deprecated setex:DeprecationWarning"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.filterwarnings(OF_CELERY))


@pytest.fixture(scope="session")
def django_sandbox() -> Iterator[SandboxServer]:
    with SandboxServer(keys=[API_KEY]) as server:
        yield server


@pytest.fixture(scope="session")
def environment(
    redis_url: str, django_sandbox: SandboxServer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """What the project's settings are read from."""
    return {
        "TESTS_DATABASE": str(tmp_path_factory.mktemp("django") / "db.sqlite3"),
        "TESTS_MEDIA": str(tmp_path_factory.mktemp("media")),
        "TESTS_REDIS": redis_url,
        "TESTS_SANDBOX": django_sandbox.url,
        "TESTS_API_KEY": API_KEY,
    }


@pytest.fixture(scope="session")
def configured(environment: dict[str, str]) -> Any:
    """Django in this process, and the project's Celery app."""
    with same_apps_afterwards(), pytest.MonkeyPatch.context() as patch:
        set_apps(None, None)  # a process of the project has made none yet
        for name, value in environment.items():
            patch.setenv(name, value)
        from tests.django.project import settings as project

        settings.configure(**{name: value for name, value in vars(project).items() if name.isupper()})
        django.setup()
        call_command("migrate", run_syncdb=True, verbosity=0)
        from tasks_bridge.contrib.django.celery import app

    return app


@pytest.fixture(scope="module", autouse=True)
def project(configured: Any) -> Any:
    """The project's Celery app is the current one, as in the project's processes."""
    set_apps(configured, configured)
    return configured


@pytest.fixture(scope="module")
def shop(project: Any) -> Any:
    """The tests' helpers, which can be imported only now."""
    from tests.django import lab

    return lab


@pytest.fixture(scope="session")
def run(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., LocalProcess]]:
    """Start processes of the project: ``run("manage.py", "check")`` or ``run("celery", …)``."""
    ours = {**environment, "DJANGO_SETTINGS_MODULE": "tests.django.project.settings", "PYTHONPATH": str(ROOT)}
    with pythons(tmp_path_factory.mktemp("processes"), ours, stop_s=5) as start:

        def call(program: str, *arguments: str, **more: str) -> LocalProcess:
            return start("-m", {"celery": "celery", "manage.py": "django"}[program], *arguments, **more)

        yield call


@pytest.fixture(scope="session")
def worker(configured: Any, run: Callable[..., LocalProcess]) -> Iterator[LocalProcess]:
    """A real worker of the project, which has no Celery app of its own."""
    process = run("celery", "-A", "tasks_bridge.contrib.django", "worker", "-c", "2", "--without-gossip", "-l", "INFO")
    eventually(lambda: "ready." in process.logs(), expected="the worker to start", show=process.tail)
    yield process
    process.stop(timeout_s=10)


@contextmanager
def served(app: Any) -> Iterator[int]:
    """A real ASGI server in a thread; gives its port."""
    config = uvicorn.Config(app, port=0, log_level="error", lifespan="off", ws="none", http="h11", loop="asyncio")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="web server")
    thread.start()
    try:
        eventually(lambda: server.started, expected="the web server to start")
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
