"""What strangers may send who reach the broker: nothing but JSON is read, and nonsense about a job leaves it alone."""

from __future__ import annotations

import json
import pickle
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import chord
from kombu import Producer

from tasks_bridge import JobState, generate
from tasks_bridge.events import GENERATE, POLL
from tasks_bridge.publish import publish_poll
from tasks_bridge.sandbox import SandboxServer
from tests.integration.lab import API_KEY, MODEL, PROMPT, Lab, calls, eventually, publish
from tests.smoke.scene import count_messages

EMBED: dict[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


@pytest.fixture(scope="module", params=["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def open_lab(request: pytest.FixtureRequest, redis_url: str, sandbox: SandboxServer) -> Iterator[Lab]:
    """An app with a worker, whose broker anybody can write to."""
    broker_url = request.getfixturevalue("rabbitmq_url") if request.param == "rabbitmq" else redis_url
    lab = Lab(redis_url, sandbox, messages_at=broker_url)
    # what Celery and kombu take for Sentinels, and Redis for nothing
    lab.app.conf.broker_transport_options = {"sentinel_kwargs": {"password": "hush"}} if broker_url == redis_url else {}
    with lab.current():
        with lab.worker():
            yield lab
        with lab.app.connection_for_write() as connection:
            channel: Any = connection.default_channel
            for queue in queues(lab):
                channel.queue_delete(queue)


def queues(lab: Lab) -> tuple[str, str]:
    return lab.queue, lab.settings.poll_queue


def send(lab: Lab, name: str, body: bytes, content_type: str, **headers: Any) -> None:
    """A message as Celery's are, straight to where the task *name* is waited for."""
    values = {"task": name, "id": uuid.uuid4().hex, "lang": "py", "root_id": None, "parent_id": None, **headers}
    with lab.app.connection_for_write() as connection:
        Producer(connection.default_channel).publish(
            body,
            routing_key=lab.settings.poll_queue if name == POLL else lab.queue,
            content_type=content_type,
            content_encoding="utf-8" if "json" in content_type or "yaml" in content_type else "binary",
            headers=values,
        )


def assert_the_worker_goes_on(lab: Lab) -> None:
    """A job that comes after all this ends well, and no message waits to come again."""
    result = lab.submit({"duration_s": 0.1})

    assert lab.ended(result).state is JobState.COMPLETED
    with lab.app.connection_for_read() as connection:
        eventually(lambda: not sum(count_messages(connection, queue) for queue in queues(lab)), "empty queues")


class Bomb:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, int]]:
        return Path.mkdir, (self.path, 0o700)  # type: ignore[return-value]


@pytest.mark.parametrize("name", [GENERATE, POLL, publish.name])
def test_content_other_than_json_is_refused_unread_and_the_worker_goes_on(
    open_lab: Lab, name: str, tmp_path: Path
) -> None:
    trace = tmp_path / "executed"
    yaml = f"!!python/object/apply:os.mkdir [{str(trace)!r}]"
    pickled = pickle.dumps(((Bomb(trace),), {}, EMBED))
    assert pickle.loads(pickled)
    assert trace.exists(), "expected the bomb to go off where somebody unpickles it"
    trace.rmdir()

    for content_type, body in {
        "application/x-python-serialize": pickled,
        "application/x-yaml": yaml.encode(),
        "application/x-msgpack": b"\x93\x90\x80\x80",
        "application/x-unheard-of": pickled,
        "text/plain": b"[[], {}, {}]",
    }.items():
        send(open_lab, name, body, content_type)

    assert_the_worker_goes_on(open_lab)
    assert not trace.exists(), "expected nobody to read what a stranger sent"


IDS: list[Any] = [None, 7, True, "id", {"a": 1}, [None], [7], [["id"]], [{}], ["x" * 10**6], ["x"] * 20_000]
ARGUMENTS: list[Any] = [[], [None], [7, 8], [MODEL, None, 9], [MODEL, "prompt"], [[], {}]]
NONSENSE: list[tuple[str, Any]] = [
    *((POLL, [[ids], {}, EMBED]) for ids in IDS),
    (POLL, [[], {}, EMBED]),
    (POLL, [[["id"]], {"more": 1}, EMBED]),
    *((GENERATE, [arguments, {}, EMBED]) for arguments in ARGUMENTS),
    (GENERATE, [[MODEL], {"unheard": "of"}, EMBED]),
    (GENERATE, [[MODEL, {}], {"deadline_s": -1}, EMBED]),
    (GENERATE, [[MODEL, {}], {"key": "nobody's"}, EMBED]),
    (GENERATE, [[MODEL], {}, {"callbacks": 7, "errbacks": "x", "chain": 5, "chord": []}]),
    (GENERATE, [[MODEL], {}, 7]),
]


def test_nonsense_about_somebody_elses_job_leaves_it_alone(open_lab: Lab) -> None:
    open_lab.sandbox.reset()
    victim = open_lab.submit({"duration_s": 120, "pending_s": 0, "estimate_s": 60})
    eventually(lambda: open_lab.job(victim).status is JobState.RUNNING, "the victim to run")
    waiting = open_lab.submit(countdown=600)
    before = open_lab.bridge.store.get([victim.id, waiting.id])

    for name, content in NONSENSE:
        body = json.dumps(content).replace('"id"', json.dumps(victim.id)).encode()
        for task_id in (victim.id, waiting.id, uuid.uuid4().hex):
            send(open_lab, name, body, "application/json", id=task_id)
    for task_id in (None, 7, {"a": 1}, [[]], ["no such job"], "a b"):
        open_lab.app.control.broadcast("revoke", arguments={"task_id": task_id})
    assert_the_worker_goes_on(open_lab)

    assert (str(victim.state), str(waiting.state)) == ("RUNNING", "QUEUED")
    assert not calls(victim.id) + calls(waiting.id), "expected no callback"
    assert [len(open_lab.remote(result)) for result in (victim, waiting)] == [1, 0]
    after = open_lab.bridge.store.get([victim.id, waiting.id])
    assert [entry and (entry.state, entry.cancel) for entry in after] == [
        entry and (entry.state, entry.cancel) for entry in before
    ]
    assert len(open_lab.sandbox.tasks()) == 2, "expected a task for the victim, one for the job after it, and no other"
    for result in (victim, waiting):
        result.revoke()
        open_lab.ended(result)


def test_a_poll_for_somebody_elses_job_reads_it_only_when_it_is_due(open_lab: Lab) -> None:
    victim = open_lab.submit({"duration_s": 120, "pending_s": 0, "estimate_s": 60}, kwargs={"deadline_s": 600})
    eventually(lambda: open_lab.job(victim).status is JobState.RUNNING, "the victim to run")
    before = open_lab.job(victim).polls

    for _ in range(50):
        send(open_lab, POLL, json.dumps([[[victim.id]], {}, EMBED]).encode(), "application/json")
    assert_the_worker_goes_on(open_lab)

    assert open_lab.job(victim).polls - before < 20
    victim.revoke()
    open_lab.ended(victim)


def test_messages_that_wait_in_the_broker_show_neither_key_nor_prompt(open_lab: Lab, redis_url: str) -> None:
    lab = Lab(redis_url, open_lab.sandbox, messages_at=open_lab.app.conf.broker_url)
    with lab.current():
        results = [generate.apply_async((MODEL, lab.params()), link=publish.s()) for _ in range(2)]
        chord([lab.signature(), lab.signature()])(publish.s())
        publish_poll(lab.app, lab.settings.poll_queue, [result.id for result in results])
        bodies = []
        with lab.app.connection_for_read() as connection:
            channel: Any = connection.default_channel
            for queue in queues(lab):
                while message := channel.basic_get(queue, no_ack=True):
                    bodies.append(f"{message.body!r} {message.headers} {message.properties}")
                channel.queue_delete(queue)

    assert len(bodies) == 5
    assert results[0].id in bodies[0]
    for body in bodies:
        assert API_KEY not in body
        assert PROMPT not in body


def test_no_answer_of_a_worker_shows_a_password(open_lab: Lab) -> None:
    inspect = open_lab.app.control.inspect(timeout=5, limit=1)

    stats, conf = inspect.stats(), inspect.conf(with_defaults=True)

    assert stats
    assert conf
    assert "hush" not in json.dumps([stats, conf])
    assert "alternates" not in json.dumps(stats)
    (found,) = stats.values()
    assert found["broker"]["transport"], "expected what is no secret to be there"
