"""What the alarm says, on a real server."""

from __future__ import annotations

import logging
import time

import pytest
from celery import Celery

from tasks_bridge import Settings, install
from tasks_bridge.alarm import NEWER_WARN_S, AlarmThread
from tasks_bridge.embedded import EmbeddedRedis
from tasks_bridge.record import RECORD_VERSION, JobRecord


def test_a_broker_that_dies_under_the_alarm_is_an_outage_and_no_bug(caplog: pytest.LogCaptureFixture) -> None:
    with EmbeddedRedis() as server, Celery(set_as_current=False) as app:
        alarm = AlarmThread(install(app, Settings(api_key="sk-byts-test", redis_url=server.url)), slots=1)
        alarm._turn()
        server.kill()
        with caplog.at_level(logging.INFO, "tasks_bridge"):
            alarm._turn()
            server.restart()
            alarm._turn()
        alarm._disconnect()

    said = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert said == ["no job can be woken until this is over", "jobs are woken again"]


def test_the_alarm_tells_once_of_jobs_that_wait_for_a_newer_version(
    redis_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(api_key="sk-byts-test", redis_url=redis_url, namespace=namespace, queue=namespace)
    record = JobRecord(version=RECORD_VERSION + 1, model="m", key="default", digest="d", created_at=0.0)
    with Celery(set_as_current=False) as app, caplog.at_level(logging.WARNING, "tasks_bridge"):
        alarm = AlarmThread(install(app, settings), slots=1)
        store = alarm._bridge.store
        for job_id in ("one", "two"):
            store.register(job_id, record, b"{}", delay_s=0, published=False)
        assert store.claim(10, 15) == [], "an older worker should put them aside"

        for _ in range(3):
            alarm._turn()
        alarm._disconnect()

    (said,) = caplog.messages
    assert said.startswith("2 due jobs were written by a newer version")
    assert alarm._newer_look_at > time.monotonic() + NEWER_WARN_S - 60
