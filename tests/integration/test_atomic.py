"""A job and its message in one step: what is sent, what it is worth, and where it is not possible."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import kombu.pools
import pytest
import redis
from celery import Celery
from celery.signals import after_task_publish, before_task_publish
from kombu import Exchange, Queue

from tasks_bridge import JobConflict, Settings, StoreError, generate, install
from tasks_bridge.bridge import Bridge
from tasks_bridge.embedded import EmbeddedRedis
from tasks_bridge.store.base import Message
from tests.integration.lab import commands

CALL = ("seedream-v4", {"prompt": "a fox"})


class Caller:
    """An app that calls and has no worker; its first call is over, from which on jobs and messages are one step."""

    def __init__(self, app: Celery, bridge: Bridge) -> None:
        self.bridge = bridge
        self.queue = app.conf.task_default_queue
        self.start: Callable[..., Any] = app.tasks[generate.name].apply_async
        self.call: Callable[..., Any] = partial(self.start, CALL)
        self.redis = redis.Redis.from_url(app.conf.broker_url)
        self.call()
        self.redis.delete(self.queue)

    @property
    def store(self) -> Any:
        return self.bridge.store

    def messages(self, queue: str | None = None) -> list[dict[str, Any]]:
        return [json.loads(message) for message in self.redis.lrange(queue or self.queue, 0, -1)]


@contextmanager
def calling(url: str, namespace: str, *, broker: str | None = None, **conf: Any) -> Iterator[Caller]:
    with Celery(broker=broker or url, backend=url, set_as_current=False) as app:
        app.conf.update(task_default_queue=namespace, **conf)
        bridge = install(app, Settings(api_key="sk-byts-test", redis_url=url, namespace=namespace))
        yield Caller(app, bridge)
    kombu.pools.reset()


@pytest.fixture
def caller(each_redis_url: str, namespace: str) -> Iterator[Caller]:
    with calling(each_redis_url, namespace) as caller:
        yield caller


def test_a_call_waits_for_redis_once_and_leaves_job_state_and_message(caller: Caller) -> None:
    with commands(caller.redis) as sent:
        job_id = caller.call().id

    assert [command for command in sent if command != "UNSUBSCRIBE"] == ["EVALSHA"]
    (message,) = caller.messages()
    assert message["headers"]["id"] == job_id
    (entry,) = caller.store.get([job_id])
    assert entry.due_at > entry.now + 1, "claimed, for its message is under way"
    assert str(caller.bridge.app.AsyncResult(job_id).state) == "QUEUED"


def test_the_message_is_the_one_that_celery_sends(caller: Caller) -> None:
    options: dict[str, Any] = {"priority": 3, "headers": {"tenant": "t"}, "expires": 60, "shadow": "fox"}
    with caller.bridge.app.producer_or_acquire() as producer:
        caller.call(producer=producer, task_id="a", **options)
    caller.call(task_id="b", **options)

    queue = f"{caller.queue}\x06\x163"
    ours, celerys = caller.messages(queue)
    for message in (ours, celerys):
        del message["properties"]["delivery_tag"]
    assert json.loads(json.dumps(celerys).replace('"a"', '"b"')) == ours


def test_a_call_repeated_under_its_id_publishes_nothing_and_another_request_is_refused(caller: Caller) -> None:
    seen = []
    for signal in (before_task_publish, after_task_publish):
        signal.connect(lambda signal, **_: seen.append(signal), weak=False, dispatch_uid="atomic")
    try:
        assert caller.call(task_id="job").id == caller.call(task_id="job").id == "job"
        with pytest.raises(JobConflict):
            caller.start(("sora-2", {"prompt": "a fox"}), task_id="job")
    finally:
        for signal in (before_task_publish, after_task_publish):
            signal.disconnect(dispatch_uid="atomic")

    assert len(caller.messages()) == 1
    assert seen == [before_task_publish, after_task_publish] * 3, "who watches Celery publish sees each publication end"


def test_a_repeated_command_pushes_one_message(caller: Caller) -> None:
    """redis-py repeats a command whose answer was lost."""
    register_many, answers = caller.store.register_many, []

    def register_twice(*arguments: Any) -> Any:
        answers.extend([register_many(*arguments) for _ in range(2)])
        return answers[-1]

    caller.store.register_many = register_twice
    caller.call(task_id="job")

    assert [answer[0].is_new for answer in answers] == [True, True]
    assert len(caller.messages()) == 1


def test_what_redis_refuses_to_push_is_not_registered(caller: Caller, namespace: str) -> None:
    queue = f"{namespace}-text"
    caller.call(queue=queue)  # now it is declared
    caller.redis.set(queue, "no list")

    with pytest.raises(StoreError, match="WRONGTYPE"):
        caller.call(task_id=namespace, queue=queue)

    assert caller.store.get([namespace]) == [None]
    assert str(caller.bridge.app.AsyncResult(namespace).state) == "PENDING", "nobody should have heard of it"


def test_a_job_whose_message_cannot_be_made_is_registered_and_left_to_the_workers(caller: Caller) -> None:
    result = caller.call(serializer="none-of-this-name")

    (entry,) = caller.store.get([result.id])
    assert entry is not None
    assert caller.messages() == []


def test_a_job_for_a_named_exchange_is_registered_before_it_is_published(redis_url: str, namespace: str) -> None:
    """Its message may go to several queues."""
    queues = [Queue(f"{namespace}-{name}", Exchange(namespace, type="topic"), routing_key="#") for name in "ab"]
    with calling(redis_url, namespace, task_queues=queues) as caller:
        for queue in queues:
            caller.call(queue=queue.name)
            caller.redis.delete(queue.name)
        register_many, pushed = caller.store.register_many, []

        def register(jobs: Any, besides: Any, messages: Any) -> Any:
            pushed.append(dict(messages))
            return register_many(jobs, besides, messages)

        caller.store.register_many = register
        job_id = caller.call(queue=queues[0].name).id

        assert pushed == [{}], "no message should have gone with the job"
        published = [[message["headers"]["id"] for message in caller.messages(queue.name)] for queue in queues]
        assert published == [[job_id], [job_id]]
        assert caller.store.get([job_id])[0] is not None


@pytest.mark.parametrize("where", ["another database", "another server", "under a prefix"])
def test_where_the_queues_are_elsewhere_a_job_is_registered_and_then_published(
    where: str, redis_url: str, namespace: str
) -> None:
    options = {"broker_transport_options": {"global_keyprefix": f"{namespace}:"}} if where == "under a prefix" else {}
    with EmbeddedRedis() as other:
        brokers = {"another database": f"{redis_url.removesuffix('/0')}/1", "another server": other.url}
        with calling(redis_url, namespace, broker=brokers.get(where), **options) as caller:
            caller.redis.delete(f"{namespace}:{namespace}")
            job_id = caller.call().id

            queue = f"{namespace}:{namespace}" if options else namespace
            assert [message["headers"]["id"] for message in caller.messages(queue)] == [job_id]
            assert caller.store.get([job_id])[0] is not None


def test_no_message_shows_in_a_repr() -> None:
    assert "secret" not in repr(Message("queue", "secret"))
