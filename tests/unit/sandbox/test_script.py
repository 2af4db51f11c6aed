from typing import Any

import pytest

from tasks_bridge.sandbox.refusal import Refusal
from tasks_bridge.sandbox.script import KINDS, NO_SCRIPT, Fault, outage_s, parse_fault, parse_script


def test_an_empty_script_is_no_script() -> None:
    assert parse_script({}) == NO_SCRIPT


def test_every_member_is_read() -> None:
    script = parse_script(
        {
            "duration_s": 4,
            "pending_s": 0.5,
            "estimate_s": 35,
            "outcome": "failed",
            "error_code": "nsfw",
            "error_message": "No.",
            "credits": 1.47,
            "estimated_credits": 1.5,
            "cancel": "billed",
            "cancel_credits": 0.3,
            "count": 2,
            "output": [{"url": "http://x"}],
            "url_life_s": 60,
            "file_bytes": 1000,
            "dialect": "old",
            "unknown_field": True,
            "unknown_status": "dreaming",
            "faults": [{"on": "query", "kind": "garbage"}],
        }
    )

    assert (script.duration_s, script.pending_s, script.estimate_s) == (4, 0.5, 35)
    assert (script.outcome, script.error_code, script.error_message) == ("failed", "nsfw", "No.")
    assert (script.credits, script.estimated_credits) == (1.47, 1.5)
    assert (script.cancel, script.cancel_credits) == ("billed", 0.3)
    assert (script.count, script.output) == (2, [{"url": "http://x"}])
    assert (script.url_life_s, script.file_bytes) == (60, 1000)
    assert (script.dialect, script.unknown_field, script.unknown_status) == ("old", True, "dreaming")
    assert script.faults == (Fault(on="query", kind="garbage", work_done=True),)


def test_null_estimates_mean_that_there_are_none() -> None:
    script = parse_script({"estimate_s": None, "estimated_credits": None})

    assert not script.has_estimate
    assert not script.has_estimated_credits


@pytest.mark.parametrize(
    ("script", "member"),
    [
        ([], "params.sandbox"),
        ({"durations": 4}, "durations"),
        ({"duration_s": "4"}, "duration_s"),
        ({"duration_s": -1}, "duration_s"),
        ({"duration_s": True}, "duration_s"),
        ({"duration_s": float("nan")}, "duration_s"),
        ({"duration_s": float("inf")}, "duration_s"),
        ({"outcome": "exploded"}, "outcome"),
        ({"cancel": "maybe"}, "cancel"),
        ({"dialect": "klingon"}, "dialect"),
        ({"count": 101}, "count"),
        ({"count": 1.5}, "count"),
        ({"output": {}}, "output"),
        ({"output": [1]}, "output"),
        ({"unknown_field": 1}, "unknown_field"),
        ({"unknown_status": 1}, "unknown_status"),
        ({"faults": [{}]}, "faults[0]"),
        ({"faults": [{"on": "query"}]}, "faults[0]"),
        ({"faults": [{"on": "any", "kind": "hang"}]}, "faults[0].on"),
        ({"faults": [{"on": "query", "kind": "explode"}]}, "faults[0].kind"),
        ({"faults": [{"on": "query", "kind": "duplicate"}]}, "faults[0].kind"),
        ({"faults": [{"on": "query", "kind": "endless"}]}, "faults[0].kind"),
        ({"file_bytes": 1.5}, "file_bytes"),
        ({"url_life_s": "1"}, "url_life_s"),
        ({"faults": [{"on": "query", "kind": "hang", "hang": 3}]}, "hang"),
        ({"faults": [{"on": "query", "kind": "status", "status": 99}]}, "faults[0].status"),
        ({"faults": [{"on": "query", "kind": "status", "headers": {"a": 1}}]}, "faults[0].headers"),
        ({"faults": [{"on": "query", "kind": "hang", "times": -1}]}, "faults[0].times"),
    ],
)
def test_a_wrong_script_is_refused_and_the_wrong_member_named(script: Any, member: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_script(script)

    assert (caught.value.status, caught.value.code) == (400, "invalid_param")
    assert member in caught.value.message


def test_a_fault_strikes_once_unless_told_otherwise() -> None:
    base = {"on": "query", "kind": "hang"}

    assert parse_fault(base).times == 1
    assert parse_fault(base | {"times": 3}).times == 3
    assert parse_fault(base | {"times": None}).times is None
    assert parse_fault(base | {"for_s": 5}).times is None
    assert parse_fault(base | {"for_s": 5, "times": 2}).times == 2


def test_whether_the_work_is_done_follows_from_the_kind_unless_told() -> None:
    places = {"duplicate": "callback"}
    done = {kind for kind in KINDS if parse_fault({"on": places.get(kind, "files"), "kind": kind}).work_done}

    assert done == {"lost_response", "garbage", "wrong_content_type", "half_close"}
    assert parse_fault({"on": "submit", "kind": "status", "work_done": True}).work_done
    assert not parse_fault({"on": "submit", "kind": "garbage", "work_done": False}).work_done


def test_a_fault_of_the_whole_server_is_on_anything_by_default() -> None:
    assert parse_fault({"kind": "hang"}, server_wide=True).on == "any"


def test_an_outage_has_a_length_and_nothing_else() -> None:
    assert outage_s({"kind": "down", "for_s": 3}) == 3.0
    for wrong in ({}, {"for_s": "3"}, {"for_s": True}, {"for_s": -1}, {"for_s": 3, "status": 503}):
        with pytest.raises(Refusal):
            outage_s(wrong)
