"""A Redis Cluster of three nodes: a namespace lives in one slot, and several spread over the nodes."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
import redis
from redis.cluster import ClusterNode, RedisCluster

from tasks_bridge.embedded import GuardedProcess
from tasks_bridge.errors import StoreError
from tasks_bridge.record import RECORD_VERSION, JobRecord, JobState
from tasks_bridge.store import Purpose, RedisStore
from tests.smoke.processes import eventually

NODES, SLOTS = 3, 16384
NAMESPACES = [f"shop-{number}" for number in range(6)]
RECORD = JobRecord(version=RECORD_VERSION, model="m", key="default", digest="d", created_at=1.0)


def free_port() -> int:
    # the nodes talk to each other 10,000 ports above
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = int(listener.getsockname()[1])
        if port < 55_000:
            return port


@pytest.fixture(scope="module")
def nodes(directory: Path) -> Iterator[list[redis.Redis]]:
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip("no Redis server is installed (Debian: apt install redis-server)")
    with ExitStack() as stack:
        clients = []
        for number in range(NODES):
            home, port = directory / f"node-{number}", free_port()
            home.mkdir()
            command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(home), "--save", ""]
            node = GuardedProcess([*command, "--cluster-enabled", "yes"], log=home / "log")
            stack.callback(node.end, SIGKILL)
            clients.append(stack.enter_context(redis.Redis(port=port)))
        for client in clients:
            eventually(partial(answers, client), expected="a node to be up")
        for number, client in enumerate(clients):
            first, after = SLOTS * number // NODES, SLOTS * (number + 1) // NODES
            client.execute_command("CLUSTER ADDSLOTSRANGE", first, after - 1)
            client.execute_command("CLUSTER MEET", "127.0.0.1", clients[0].connection_pool.connection_kwargs["port"])
        for client in clients:
            eventually(partial(is_complete, client), expected="the cluster to be up")
        yield clients


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def is_complete(client: redis.Redis) -> bool:
    return bool(client.cluster("INFO")["cluster_state"] == "ok")


def live(store: RedisStore, job_id: str) -> None:
    """Take a job through all of its life."""
    assert store.register(job_id, RECORD, b"{}", delay_s=0, published=False).is_new
    assert [claim.job_id for claim in store.claim(10, 15)] == [job_id]
    (lease,) = store.begin([job_id], Purpose.GENERATE, 15)
    assert store.write(lease, JobState.RUNNING, RECORD, delay_s=60, notice="accepted")
    assert store.touch([job_id]) == 1
    (lease,) = store.begin([job_id], Purpose.POLL, 15)
    store.renew([lease], 15)
    assert store.write(lease, JobState.COMPLETED, RECORD, delay_s=15, published=True)
    (lease,) = store.begin([job_id], Purpose.GENERATE, 15)
    assert store.end(lease, 60)
    assert store.open_count() == store.due_count() == 0
    assert store.get([job_id])[0].state is JobState.COMPLETED  # type: ignore[union-attr]


def test_each_namespace_lives_on_one_node_and_several_spread_over_the_cluster(nodes: list[redis.Redis]) -> None:
    port = nodes[0].connection_pool.connection_kwargs["port"]
    with RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", port)]) as cluster:
        client: Any = cluster
        assert repr(RedisStore(client, namespace="shop")) == "<RedisStore the cluster {shop}:>"
        for namespace in NAMESPACES:
            live(RedisStore(client, namespace=namespace), "job")
        slots = {
            namespace: client.keyslot(RedisStore(client, namespace=namespace).key("", "")) for namespace in NAMESPACES
        }

    for namespace, slot in slots.items():
        holders = [number for number, node in enumerate(nodes) if node.keys(f"{{{namespace}}}:*")]
        assert holders == [slot * NODES // SLOTS], "all keys of a namespace should be in its slot"
    assert {slot * NODES // SLOTS for slot in slots.values()} == set(range(NODES)), "every node should have some"


def test_a_plain_client_works_on_the_node_of_its_namespace_and_is_sent_away_from_others(
    nodes: list[redis.Redis],
) -> None:
    namespace = "plain"
    owner = next(
        node
        for number, node in enumerate(nodes)
        if int(nodes[0].execute_command("CLUSTER KEYSLOT", f"{{{namespace}}}:due")) * NODES // SLOTS == number
    )

    live(RedisStore(owner, namespace=namespace), "job")

    for other in nodes:
        if other is not owner:
            with pytest.raises(StoreError, match="refused a command"):
                RedisStore(other, namespace=namespace).open_count()
