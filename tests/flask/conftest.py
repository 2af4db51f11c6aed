"""
A Flask application on real Redis, the sandbox, a WSGI server, and a worker of its own processes.

It is used in this process too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from tasks_bridge.sandbox import SandboxServer
from tests.celery_state import forget_results
from tests.flask import shop
from tests.smoke.processes import LocalProcess, eventually, pythons

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
API_KEY = "sk-byts-flask-0123456789"
OF_CELERY = "ignore:Call to deprecated setex:DeprecationWarning"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.filterwarnings(OF_CELERY))


@pytest.fixture(scope="session")
def flask_sandbox() -> Iterator[SandboxServer]:
    with SandboxServer(keys=[API_KEY]) as server:
        yield server


@pytest.fixture(scope="session")
def environment(redis_url: str, flask_sandbox: SandboxServer) -> dict[str, str]:
    """What the application's settings are read from."""
    return {"TESTS_REDIS": redis_url, "TESTS_SANDBOX": flask_sandbox.url, "TESTS_API_KEY": API_KEY}


@pytest.fixture(scope="module", autouse=True)
def no_results_left() -> Iterator[None]:
    yield
    forget_results()


@pytest.fixture(scope="module")
def app(environment: dict[str, str], no_results_left: None) -> Flask:
    """The application, in this process."""
    return shop.create_app(environment)


@pytest.fixture
def context(app: Flask) -> Iterator[None]:
    with app.app_context():
        yield


@pytest.fixture
def client(app: Flask) -> Any:
    return app.test_client()


@pytest.fixture(scope="session")
def run(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., LocalProcess]]:
    """Start processes of the application: ``run("flask", "bytespike", "check")`` or ``run("celery", …)``."""
    ours = {**environment, "FLASK_APP": "tests.flask.shop", "PYTHONPATH": str(ROOT)}
    with pythons(tmp_path_factory.mktemp("processes"), ours, stop_s=5) as start:
        yield partial(start, "-m")


@pytest.fixture(scope="session")
def worker(run: Callable[..., LocalProcess]) -> Iterator[LocalProcess]:
    """A real worker of the application, found as the ``flask`` command finds it."""
    arguments = ("worker", "-c", "2", "--without-gossip", "-l", "INFO")
    process = run("celery", "-A", "tasks_bridge.contrib.flask", *arguments)
    eventually(lambda: "ready." in process.logs(), expected="the worker to start", show=process.tail)
    yield process
    process.stop(timeout_s=10)


class Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - Werkzeug's name
        pass


@contextmanager
def served(application: Any) -> Iterator[str]:
    """A real WSGI server in a thread; gives its address."""
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, name="web server")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def store_of(app: Flask) -> Any:
    return app.extensions["tasks-bridge"].bridge.store


def heard(app: Flask, job_id: str) -> list[str]:
    """What receivers and callbacks noted of a job."""
    store = store_of(app)
    return [found.decode() for found in store.client.lrange(store.key("heard", job_id), 0, -1)]


def fails(app: Flask, job_id: str, step: str, kind: str) -> None:
    """Have the receiver that hears of this step fail, once."""
    store = store_of(app)
    store.client.set(store.key("fault", f"{job_id}:{step}"), kind)


def ended(app: Flask, job_id: str, worker: LocalProcess) -> Any:
    """Wait until the job is off the schedule."""

    def entry() -> Any:
        (found,) = store_of(app).get([job_id])
        return found if found is not None and found.due_at is None else None

    return eventually(entry, expected=f"job {job_id} to end", show=worker.tail)
