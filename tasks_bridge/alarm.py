"""
The alarm: a bootstep in every worker that claims due jobs and publishes a message for each.

It needs no beat process and no leader: the store gives no job to two of them. A worker that dies between claim and
publication leaves jobs that are due again after the lease.
"""

from __future__ import annotations

import logging
import threading
import time
from random import random
from typing import TYPE_CHECKING, Any, Final

import redis
from amqp.exceptions import AMQPError
from celery import bootsteps
from kombu.exceptions import OperationalError

from tasks_bridge import measures
from tasks_bridge.bridge import bridge_of
from tasks_bridge.client import preload
from tasks_bridge.errors import BridgeError, SettingsError, StoreError
from tasks_bridge.publish import generate_queue, publish_generate, publish_poll

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery import Celery
    from kombu import Connection

    from tasks_bridge.bridge import Bridge
    from tasks_bridge.store import Claim

log = logging.getLogger(__name__)

BACKLOG_MESSAGES: Final = 2
"""Poll messages that may wait in the queue for each pool slot of this worker: more would only age there."""

BACKLOG_SUBMITS: Final = 50
"""The same for `generate` messages, each of which is for one job: what is published between two turns."""

TURNS_PER_TICK: Final = 5
"""Turns that find something due begin no closer than that: what comes due in between shares messages."""

JITTER: Final = 0.05
"""Most that is added to each wait, in ticks."""

NEWER_LOOK_S: Final = 60.0
"""How often to look for jobs that wait for a newer version."""

NEWER_WARN_S: Final = 3600.0
"""How often to warn of them."""

TROUBLE_WAIT_S: Final = 2.0
"""Pause after Redis or the broker could not be reached."""


class Alarm(bootsteps.StartStopStep):
    """
    Runs the alarm thread while the consumer has its connection, and makes the worker read the poll queue.

    The thread is the consumer's ``tasks_bridge_alarm``, as Celery's steps leave there what others look at.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        preload()
        consumer.tasks_bridge_alarm = None
        settings = bridge_of(consumer.app).settings
        if settings.alarm:
            _check_pool(consumer.pool)
            _read_queue(consumer.app, settings.poll_queue)

    def start(self, consumer: Any) -> None:
        """Celery's hook, also called after a lost connection came back."""
        bridge = bridge_of(consumer.app)
        if not bridge.settings.alarm:
            return
        try:
            bridge.check()
        except BridgeError as error:
            log.critical("%s", error)
        slots = consumer.pool.num_processes if consumer.pool is not None else 1
        consumer.tasks_bridge_alarm = AlarmThread(bridge, slots or 1)
        consumer.tasks_bridge_alarm.start()

    def stop(self, consumer: Any) -> None:
        """Celery's hook, before the connection closes."""
        if consumer.tasks_bridge_alarm is not None:
            consumer.tasks_bridge_alarm.stop()
            consumer.tasks_bridge_alarm = None

    shutdown = stop


def _check_pool(pool: object) -> None:
    """
    Refuse pools of green threads.

    Raises:
        SettingsError: It is gevent's or eventlet's, in which the event loop for requests would block everything.
    """
    name = type(pool).__module__.rpartition(".")[2]
    if name in ("gevent", "eventlet"):
        raise SettingsError(
            f"Jobs can't be polled in a pool of {name}: use prefork, threads or solo. "
            "A worker that does nothing of jobs may have it, with TASKS_BRIDGE_ALARM=false"
        )


def _read_queue(app: Celery, name: str) -> None:
    """
    Have the worker of *app* read the queue *name* too, declared as publishing to it declares it.

    Before the consumer connects: one that runs takes messages as soon as a queue is added to it, and at start-up, while
    it has no handler for them yet, a waiting message on AMQP would end the worker.
    """
    queues: Any = app.amqp.queues
    if name in queues or queues.create_missing:
        queues.select_add(queues[name])
    else:
        queues.select_add(name, exchange=name, exchange_type="direct", routing_key=name)


class AlarmThread(threading.Thread):
    """Claims and publishes when the earliest job comes due; looks for newcomers once every ``tick_s``."""

    def __init__(self, bridge: Bridge, slots: int) -> None:
        super().__init__(name="tasks-bridge-alarm", daemon=True)
        self._bridge = bridge
        self._slots = slots
        self._stopped = threading.Event()
        self._connection: Connection | None = None
        self._newer_look_at = 0.0
        self.in_trouble = False
        """Whether the latest turn found no Redis or no broker."""
        self.turned_at = time.monotonic()
        """When it ended."""

    def run(self) -> None:
        """The thread's body."""
        while not self._stopped.is_set():
            wait_s = self._turn()
            self.turned_at = time.monotonic()
            # jitter, so that of several workers one is first
            self._stopped.wait(wait_s + JITTER * self._bridge.settings.tick_s * random())  # noqa: S311
        self._disconnect()

    def stop(self) -> None:
        """Return once nothing more will be claimed."""
        self._stopped.set()
        self.join(timeout=5)

    def _turn(self) -> float:
        """Wake what is due; returns the seconds until the next turn."""
        settings = self._bridge.settings
        try:
            wait_s = self._wake()
            self._warn_of_newer()
        except (StoreError, OperationalError, AMQPError, redis.RedisError, OSError) as error:
            if not self.in_trouble:
                log.error("no job can be woken until this is over: %s", error)  # noqa: TRY400 - expected, no bug
            self.in_trouble = True
            self._disconnect()
            return max(TROUBLE_WAIT_S, settings.tick_s)
        except Exception:
            log.exception("a bug in the alarm; it goes on")
            self._disconnect()
            return TROUBLE_WAIT_S
        if self.in_trouble:
            log.info("jobs are woken again")
        self.in_trouble = False
        return wait_s

    def _wake(self) -> float:
        """Publish messages for what is due; returns the seconds until it pays to look again."""
        bridge, settings = self._bridge, self._bridge.settings
        begun = time.monotonic()
        # the broker first: claiming what can't be published would only delay it
        limit = self._room(settings.poll_queue, BACKLOG_MESSAGES) * settings.poll_batch
        next_due_s = bridge.store.next_due_s()
        if next_due_s is None or next_due_s > 0:
            return settings.tick_s if next_due_s is None else min(next_due_s, settings.tick_s)
        if limit and (claims := bridge.store.claim(limit, settings.lease_s, submits=self._submits())):
            bridge.counts.add(measures.of_claims(claims))
            self._publish(claims)
        gap_s = settings.tick_s / TURNS_PER_TICK
        # some rest in any case: the main process has messages to hand on
        return max(gap_s - (time.monotonic() - begun), gap_s / 2)

    def _warn_of_newer(self) -> None:
        """Tell the operator of jobs that this worker leaves alone: after a rollback, perhaps all of them do."""
        if time.monotonic() < self._newer_look_at:
            return
        count = self._bridge.store.newer_count()
        self._newer_look_at = time.monotonic() + (NEWER_WARN_S if count else NEWER_LOOK_S)
        if count:
            log.warning(
                "%d due jobs were written by a newer version of tasks-bridge and wait for its workers: "
                "start some, or upgrade this one",
                count,
            )

    def _submits(self) -> int:
        """How many more jobs to tell that they may submit: those that find no place would only turn in circles."""
        room = self._room(generate_queue(self._bridge.app), BACKLOG_SUBMITS)
        # always some: the messages in that queue may not be ours, and a cancelled job needs no place
        return int(max(min(room, self._bridge.gate.free_places()), self._slots))

    def _room(self, queue: str, most: int) -> int:
        """How many more messages *queue* should take, which holds up to *most* for each slot."""
        if self._connection is None:
            self._connection = self._bridge.app.connection_for_write()
            self._connection.ensure_connection(max_retries=1, timeout=5)
        return max(most * self._slots - self._queued(self._connection, queue), 0)

    def _queued(self, connection: Connection, queue: str) -> int:
        try:
            channel: Any = connection.default_channel
            declared = channel.queue_declare(queue=queue, passive=True)
        except connection.channel_errors:
            # Redis: an empty queue is no key. AMQP: somebody deleted it, publishing declares it, the channel is lost
            if connection.transport.driver_type == "amqp":
                self._disconnect()
            return 0
        return int(declared.message_count)

    def _publish(self, claims: Sequence[Claim]) -> None:
        bridge = self._bridge
        unpublished = {claim.job_id for claim in claims}
        try:
            with bridge.app.producer_or_acquire() as producer:
                for claim in claims:
                    if claim.record is not None:
                        publish_generate(bridge.app, claim.job_id, claim.record, producer=producer)
                        unpublished.discard(claim.job_id)
                for batch in batches(
                    [c.job_id for c in claims if c.record is None], self._slots, bridge.settings.poll_batch
                ):
                    publish_poll(bridge.app, bridge.settings.poll_queue, batch, producer=producer)
                    unpublished.difference_update(batch)
        finally:
            if unpublished:
                bridge.store.release(sorted(unpublished))

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.release()
            except Exception as error:  # noqa: BLE001 - a connection that is given up
                log.debug("while closing the alarm's connection: %s", error)


def batches(job_ids: Sequence[str], slots: int, most: int) -> list[Sequence[str]]:
    """
    Share *job_ids* out to messages: one each while there are no more than *slots*, up to *most* when there are many.

    >>> [len(batch) for batch in batches("abcdefg", slots=2, most=100)]
    [4, 3]
    """
    size = min(max(-(-len(job_ids) // slots), 1), most)
    return [job_ids[start : start + size] for start in range(0, len(job_ids), size)]
