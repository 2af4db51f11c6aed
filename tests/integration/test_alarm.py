"""The alarm on a real server that goes away."""

from __future__ import annotations

import logging

import pytest
from celery import Celery

from tasks_bridge import Settings, install
from tasks_bridge.alarm import AlarmThread
from tasks_bridge.embedded import EmbeddedRedis


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
