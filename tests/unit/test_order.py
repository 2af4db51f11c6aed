from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from tasks_bridge.errors import InvalidRequest
from tasks_bridge.order import parse_order, start_delay_s, submit_by
from tasks_bridge.settings import Settings

PARAMS = {"prompt": "a fox"}
ZURICH_IN_WINTER = timezone(timedelta(hours=1))


def test_a_call_may_name_its_arguments_or_not() -> None:
    for order in (parse_order(("m", PARAMS), {}), parse_order([], {"model": "m", "params": PARAMS})):
        assert (order.model, order.params, order.deadline_s, order.key) == ("m", PARAMS, None, "default")


def test_the_body_is_the_request_under_the_jobs_id() -> None:
    body = json.loads(parse_order(("m", PARAMS), None).body("job-1"))

    assert body == {"model": "m", "params": PARAMS, "out_task_id": "job-1"}


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((), {}, "model"),
        (("m",), {}, "params is missing"),
        (("m", PARAMS, 60), {}, "positional"),
        (("m", PARAMS), {"deadline": 60}, "deadline"),
        (("m", PARAMS), {"deadline_s": 0}, "deadline_s"),
        (("m", PARAMS), {"deadline_s": -1}, "deadline_s"),
        (("m", PARAMS), {"deadline_s": "60"}, "deadline_s"),
        (("m", PARAMS), {"deadline_s": True}, "deadline_s"),
        (("m", PARAMS), {"deadline_s": float("inf")}, "deadline_s"),
        (("m", PARAMS), {"deadline_s": float("nan")}, "deadline_s"),
        (("m", PARAMS), {"key": 1}, "key"),
        (({"task_id": "task_1"}, "m", PARAMS), {}, "generate.si"),  # the result of the step before, in a chain
    ],
)
def test_arguments_that_do_not_fit_are_refused_in_words(args: Any, kwargs: Any, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        parse_order(args, kwargs)


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("", PARAMS),
        ("  ", PARAMS),
        (7, PARAMS),
        (None, PARAMS),
        ("m", "a fox"),
        ("m", [PARAMS]),
        ("m", {1: 2}),
        ("m", {"x": {1, 2}}),
        ("m", {"x": b"bytes"}),
        ("m", {"x": float("nan")}),
        ("m", {"x": datetime.now(UTC)}),
        ("m", {"prompt": "x" * 2**20}),
    ],
)
def test_a_request_that_can_not_be_sent_is_refused(model: Any, params: Any) -> None:
    with pytest.raises(InvalidRequest):
        parse_order((model, params), {}).body("job-1")


def test_the_record_says_what_was_asked_for() -> None:
    order = parse_order(("m", PARAMS), {"deadline_s": 60, "key": "b"})
    record = order.record(order.body("job-1"), Settings(deadline_s=5), now=100.0, delay_s=3.0)

    assert (record.model, record.key, record.deadline_s) == ("m", "b", 60)
    assert (record.created_at, record.starts_at) == (100, 103)


def test_the_settings_deadline_holds_where_the_call_has_none() -> None:
    order = parse_order(("m", PARAMS), {})

    assert order.record(order.body("job-1"), Settings(deadline_s=5), now=0, delay_s=0).deadline_s == 5


@pytest.mark.parametrize(("countdown", "delay_s"), [(None, 0), (0, 0), (2.5, 2.5), (-3, 0)])
def test_a_countdown_is_a_delay(countdown: float | None, delay_s: float) -> None:
    assert start_delay_s(countdown, None, UTC) == delay_s


def test_an_eta_is_a_delay_in_its_own_zone_or_the_apps() -> None:
    moment = datetime.now(UTC) + timedelta(seconds=100)
    local = moment.astimezone(ZURICH_IN_WINTER)

    for eta in (moment, local, local.replace(tzinfo=None), moment.isoformat()):
        assert start_delay_s(None, eta, ZURICH_IN_WINTER) == pytest.approx(100, abs=5)
    assert start_delay_s(5, moment - timedelta(days=1), UTC) == 0


def test_expires_is_a_moment_on_the_stores_clock() -> None:
    moment = datetime.now(UTC) + timedelta(seconds=100)

    assert submit_by(None, 5000, UTC) is None
    assert submit_by(60, 5000, UTC) == 5060
    assert submit_by(moment, 5000, UTC) == pytest.approx(5100, abs=5)
    assert submit_by(moment.isoformat(), 5000, UTC) == pytest.approx(5100, abs=5)


@pytest.mark.parametrize("wrong", ["soon", object(), float("nan"), float("inf"), True, []])
def test_times_that_are_none_are_refused(wrong: Any) -> None:
    with pytest.raises(InvalidRequest):
        start_delay_s(wrong, None, UTC)
    with pytest.raises(InvalidRequest):
        start_delay_s(None, wrong, UTC)
    with pytest.raises(InvalidRequest):
        submit_by(wrong, 0, UTC)
