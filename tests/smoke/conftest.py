"""The nodes of pytest-celery, as local processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from celery import Celery
from pytest_celery import CeleryWorkerCluster

from tests.smoke import plain_app
from tests.smoke.nodes import (
    LocalRabbitMQNode,
    LocalRedisNode,
    LocalWorkerNode,
    RabbitMQContainer,
    RedisContainer,
    WorkerContainer,
)
from tests.smoke.processes import Reaper

BROKERS = ["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "workers(count, *options): the workers of celery_setup")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows the end of each worker's log."""
    report = yield
    if report.failed:
        for node in getattr(item, "smoke_nodes", []):
            report.sections.append((node.name(), node.container.tail()))
    return report


@pytest.fixture(scope="session")
def reaper() -> Iterator[Reaper]:
    reaper = Reaper()
    yield reaper
    reaper.close()


@pytest.fixture
def celery_backend(tmp_path: Path) -> Iterator[LocalRedisNode]:
    node = LocalRedisNode(RedisContainer(tmp_path / "redis"))
    yield node
    node.teardown()


@pytest.fixture(params=BROKERS)
def celery_broker(request, celery_backend: LocalRedisNode) -> Iterator[LocalRedisNode | LocalRabbitMQNode]:
    if request.param == "redis":
        yield celery_backend
        return
    node = LocalRabbitMQNode(RabbitMQContainer(request.getfixturevalue("rabbitmq_url")))
    yield node
    if node.app is not None:
        node.container.delete_queues(list(node.app.amqp.queues))


@pytest.fixture
def worker_app() -> str:
    return "tests.smoke.plain_app:app"


@pytest.fixture
def worker_env(celery_broker, celery_backend) -> dict[str, str]:
    return {
        "PLAIN_BROKER_URL": celery_broker.config()["url"],
        "PLAIN_RESULT_BACKEND": celery_backend.config()["url"],
    }


@pytest.fixture
def new_worker(
    request, worker_app: str, worker_env: dict[str, str], tmp_path: Path, reaper: Reaper
) -> Iterator[Callable[..., LocalWorkerNode]]:
    """Call it with command line options to start one more worker."""
    nodes: list[LocalWorkerNode] = []
    request.node.smoke_nodes = nodes

    def start(*options: str) -> LocalWorkerNode:
        container = WorkerContainer(
            f"worker{len(nodes) + 1}",
            worker_app,
            options=("--without-mingle", *options),  # mingling waits a second for others to answer
            env=worker_env,
            directory=tmp_path,
            reaper=reaper,
        )
        nodes.append(LocalWorkerNode(container, None))
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
def celery_worker(celery_worker_cluster: CeleryWorkerCluster) -> LocalWorkerNode:
    """The first worker, as pytest-celery's fixture of this name; celery.contrib.pytest's is another thing."""
    return celery_worker_cluster[0]


@pytest.fixture
def celery_setup_app(celery_setup_config: dict[str, str]) -> Iterator[Celery]:
    """The application on the test's side; a new one each time, because an app keeps its connections."""
    app = plain_app.make_app(celery_setup_config["broker_url"], celery_setup_config["result_backend"])
    app.set_current()
    yield app
    app.close()
