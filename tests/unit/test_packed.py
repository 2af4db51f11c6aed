from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from tasks_bridge.record import RECORD_VERSION, JobRecord
from tasks_bridge.store.packed import pack, unpack

JOB_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
WAITING = {
    "version": 2,
    "model": "sora-2-pro",
    "key": "default",
    "digest": "KfszYW640J6m",
    "created_at": 1795404824.84,
    "options": {"link": [{"task": "shop.publish", "args": [], "kwargs": {"user_id": 7}, "options": {"task_id": "x"}}]},
    "remote": {
        "task_id": "task_01HQX9F2P6Y8VEX3CRZ8GXJVD9",
        "out_task_id": JOB_ID,
        "status": "running",
        "estimated_credits": 1.5,
        "estimated_seconds": 35.0,
    },
    "estimated_s": 35.0,
    "submitted_at": 1795404824.85,
    "polled_at": 1795404830.1,
    "left_s": 20.61,
    "progress": 0.412,
    "polls": 3,
}
TEXT = json.dumps(WAITING, separators=(",", ":"))


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text())), st.text())
def test_whatever_was_packed_comes_back(document: dict[str, object], job_id: str) -> None:
    text = json.dumps(document, ensure_ascii=False)

    assert unpack(pack(text, job_id), job_id) == text.encode()


def test_what_this_version_once_packed_can_be_read_for_ever() -> None:
    """A record packed by it; only a new packing may change what the bytes mean."""
    packed = bytes.fromhex(
        "7ac3911a888a77efb4e2aac8703313032fb35ccc34606a6260626164a267618237fa8a33f20bf40a4a9372328b330815"
        "84e6b862b542a996508479044658ba190598455a84b946183b074559b8477885b9586244a401317512c5316b8a25664d"
        "b1c62c3c1c4dd1e3182c630c8e5ea4c836438f6d4323787c1bd70200"
    )

    assert unpack(packed, JOB_ID).decode() == TEXT


def test_a_waiting_jobs_record_is_packed_to_a_third() -> None:
    assert len(pack(TEXT, JOB_ID)) < len(TEXT) / 3


def test_the_plain_json_of_version_1_is_read() -> None:
    assert unpack(b'{"version":1}', JOB_ID) == b'{"version":1}'


def test_a_record_of_an_unknown_packing_is_shown_as_one_of_a_newer_version() -> None:
    record = JobRecord.from_json(unpack(b"\x07whatever", JOB_ID))

    assert record.version == RECORD_VERSION + 1
