"""
The nodes of pytest-celery: local processes, or containers where there is a container engine.

``TESTS_NODES=processes`` or ``TESTS_NODES=containers`` chooses; that none can be made is an error then.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import kombu.pools
import pytest
from celery import Celery
from pytest_celery import CeleryTestSetup, CeleryWorkerCluster

from tasks_bridge import Settings
from tasks_bridge.sandbox import SandboxServer
from tests.celery_state import forget_results
from tests.smoke import containers, smoke_app
from tests.smoke.containers import RabbitMQContainer, RedisContainer, WorkerContainer
from tests.smoke.nodes import (
    RabbitMQNode,
    RabbitMQServer,
    RedisNode,
    RedisProcess,
    WorkerNode,
    WorkerProcess,
)
from tests.smoke.processes import Reaper
from tests.smoke.scene import Scene

API_KEY = "sk-byts-smoke-0123456789"
NODES = pytest.StashKey[str]()
ENGINE = pytest.StashKey[docker.DockerClient | None]()
QUEUES = ("celery", "tasks_bridge", "callbacks")
BROKERS = ["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "workers(count, *options): the workers of celery_setup")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows the end of each worker's log."""
    report = yield
    if report.failed and call.when != "teardown":
        for node in getattr(item, "smoke_nodes", []):
            report.sections.append((node.name(), node.container.tail()))
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """
    Choose the nodes before the first test: building an image may take longer than a test is allowed to.
    """
    if not any("engine" in getattr(item, "fixturenames", ()) for item in session.items):
        return
    choice = os.environ.get("TESTS_NODES")
    client, why = None, f"TESTS_NODES={choice}"
    if choice != "processes":
        try:
            with one_at_a_time():
                client = containers.prepare()
        except containers.EngineUnusable as error:
            if choice == "containers":
                raise pytest.UsageError(f"TESTS_NODES=containers, but {error}") from None
            why = str(error)
    session.config.stash[ENGINE] = client
    session.config.stash[NODES] = f"smoke nodes: {'containers' if client else f'processes ({why})'}"
    if hasattr(session.config, "workeroutput"):  # one of several processes, which print nothing: see tests/conftest.py
        session.config.workeroutput["note"] = session.config.stash[NODES]


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    return [config.stash[NODES]] if NODES in config.stash else []


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Have the processes that share the tests wait for each other: they would build the same image."""
    with (Path(tempfile.gettempdir()) / "tasks-bridge-smoke.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def engine(request) -> Iterator[docker.DockerClient | None]:
    """
    A client of the container engine that the nodes run on; None: they are local processes.
    """
    client = request.config.stash[ENGINE]
    yield client
    if client:
        client.close()


@pytest.fixture(scope="session")
def reaper() -> Iterator[Reaper]:
    reaper = Reaper()
    yield reaper
    reaper.close()


@pytest.fixture
def celery_backend(engine, tmp_path: Path) -> Iterator[RedisNode]:
    node = RedisNode(RedisContainer(engine) if engine else RedisProcess(tmp_path / "redis"))
    yield node
    node.teardown()


@pytest.fixture(scope="session")
def rabbitmq_server(request, engine) -> Iterator[str]:
    """
    URL of a RabbitMQ server for all tests of the session: it takes seconds to start.
    """
    if not engine:
        yield request.getfixturevalue("rabbitmq_url")
        return
    container = RabbitMQContainer(engine)
    try:
        container.ready()
        yield container.url
    finally:
        container.teardown()


@pytest.fixture(params=BROKERS)
def celery_broker(request, celery_backend: RedisNode) -> Iterator[RedisNode | RabbitMQNode]:
    if request.param == "redis":
        yield celery_backend
        return
    node = RabbitMQNode(RabbitMQServer(request.getfixturevalue("rabbitmq_server")))
    yield node
    node.container.delete_queues(QUEUES)


@pytest.fixture
def worker_app() -> str:
    """
    The app of the workers: by default the ready-made one.
    """
    return "worker.app:app"


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer(keys=[API_KEY]) as server:
        yield server


@pytest.fixture
def settings(sandbox: SandboxServer, celery_broker, celery_backend) -> dict[str, Any]:
    """
    The configuration of application and workers: as in production but for the pace, about ten times faster.
    """
    return {
        "api_key": API_KEY,
        "base_url": sandbox.url,
        "redis_url": celery_backend.config()["host_url"],
        "broker_url": celery_broker.config()["host_url"],
        "result_backend": celery_backend.config()["host_url"],
        "poll_min_s": 0.2,
        "poll_max_s": 1.0,
        "tick_s": 0.1,
        "lease_s": 1.0,
        "retry_min_s": 0.2,
        "retry_max_s": 1.0,
    }


@pytest.fixture
def queue_type() -> str:
    """
    Of the queue for ordinary tasks, on RabbitMQ.
    """
    return "classic"


@pytest.fixture
def worker_env(settings: dict[str, Any], queue_type: str) -> dict[str, str]:
    ours = {
        f"{'BYTESPIKE' if k in ('api_key', 'base_url') else 'TASKS_BRIDGE'}_{k}".upper(): str(v)
        for k, v in settings.items()
    }
    return {**ours, "CELERY_IMPORTS": "tests.smoke.smoke_app", "SMOKE_QUEUE_TYPE": queue_type}


@pytest.fixture
def new_worker(
    request, engine, worker_app: str, worker_env: dict[str, str], tmp_path: Path, reaper: Reaper
) -> Iterator[Callable[..., WorkerNode]]:
    """
    Call it with command line options, and environment variables by name, to start one more worker.
    """
    nodes: list[WorkerNode] = []
    request.node.smoke_nodes = nodes

    def start(*options: str, **settings: str) -> WorkerNode:
        name = f"worker{len(nodes) + 1}"
        env = {**worker_env, **settings}
        options = ("--without-mingle", *options)  # mingling waits a second for others to answer
        if engine:
            container = WorkerContainer(engine, name, worker_app, options=options, env=env)
        else:
            container = WorkerProcess(name, worker_app, options=options, env=env, directory=tmp_path, reaper=reaper)
        nodes.append(WorkerNode(container, None))
        return nodes[-1]

    yield start
    for node in nodes:
        node.teardown()


@pytest.fixture
def celery_worker_cluster(request, new_worker) -> CeleryWorkerCluster | None:
    """As many workers as the test's marker `workers` says; they start side by side."""
    marker = request.node.get_closest_marker("workers")
    count, *options = marker.args if marker else (1, "--concurrency", "2")
    nodes = [new_worker(*options) for _ in range(count)]
    return CeleryWorkerCluster(*nodes) if nodes else None


@pytest.fixture
def celery_worker(celery_worker_cluster: CeleryWorkerCluster) -> WorkerNode:
    """The first worker, as pytest-celery's fixture of this name; celery.contrib.pytest's is another thing."""
    worker: WorkerNode = celery_worker_cluster[0]
    return worker


@pytest.fixture
def celery_setup_app(settings: dict[str, Any], queue_type: str) -> Iterator[Celery]:
    """
    The application on the test's side; a new one each time, because an app keeps its connections.
    """
    app = smoke_app.make_app(Settings(**settings), queue_type=queue_type)
    app.set_current()
    yield app
    forget_results()
    app.close()
    # They know queues as declared that the next test finds deleted.
    kombu.pools.reset()


@pytest.fixture
def scene(celery_setup: CeleryTestSetup, sandbox: SandboxServer, new_worker) -> Scene:
    """
    Everything up and running.
    """
    assert celery_setup.ready(), "expected all nodes ready"
    return Scene(celery_setup.app, sandbox, list(celery_setup.worker_cluster or ()), new_worker)
