"""The journal in a real Redis: what is noted is found again, the oldest leaves, and nothing depends on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tasks_bridge import journal as journal_module
from tasks_bridge.errors import StoreError
from tasks_bridge.journal import Journal, Line
from tasks_bridge.record import JobState
from tasks_bridge.store import RedisStore


@pytest.fixture
def store(each_redis_url: str, namespace: str) -> Iterator[RedisStore]:
    with redis.Redis.from_url(each_redis_url) as client:
        yield RedisStore(client, namespace=namespace)
        client.delete(*client.keys(f"{{{namespace}}}:*") or ["nothing"])


@pytest.fixture
def journal(store: RedisStore) -> Journal:
    return Journal(store)


def look(job_id: str = "job-1", token: int = 2, reason: str = "ByteSpike says running") -> Line:
    return Line(job_id, token, JobState.RUNNING, JobState.RUNNING, reason, 4.0, is_look=True)


def change(job_id: str = "job-1", token: int = 1) -> Line:
    return Line(job_id, token, JobState.QUEUED, JobState.PENDING, "accepted as task_1", 4.0, is_look=False)


def trouble(job_id: str = "job-1", token: int = 3) -> Line:
    return Line(job_id, token, JobState.RUNNING, JobState.RUNNING, 'read 1 failed: "é"\n', 4.0, is_look=False)


def told(lines: list[Line]) -> list[tuple[str, int, str]]:
    return [(line.job_id, line.token, line.reason) for line in lines]


def test_what_is_noted_of_a_job_is_found_again_in_order(journal: Journal, store: RedisStore) -> None:
    began = store.now()
    journal.note([change(), change("job-2")])
    journal.note([look(), look("job-2"), look("job-11")])
    journal.note([trouble()])
    past = journal.of("job-1", began - 1)

    assert told(list(past.lines)) == told([change(), look(), trouble()])
    assert [line.is_look for line in past.lines] == [False, True, False]
    assert all(began - 1 < line.at <= store.now() + 0.01 for line in past.lines)
    assert (past.changes_since, past.looks_since) == (None, None), "nothing has left it"
    assert list(journal.of("job-1", store.now() + 1).lines) == []


def test_a_journal_that_nobody_wrote_is_empty(journal: Journal) -> None:
    past = journal.of("job-1", 0.0)

    assert (list(past.lines), past.changes_since, past.looks_since) == ([], None, None)
    assert journal.activity(1e9, 10).steps_per_s == 0


def test_an_id_that_looks_like_anything_finds_its_own_lines_only(journal: Journal) -> None:
    journal.note([look("a.b_c-d"), look("ByteSpike")])

    assert told(list(journal.of("ByteSpike", 0.0).lines)) == told([look("ByteSpike")])


def test_the_oldest_leave_and_from_when_on_it_has_all_is_known(
    journal: Journal, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "MOST_BYTES", 40_000)
    journal.note([change()])
    for number in range(3000):
        journal.note([look(f"job-{number}")])
    used = store.client.memory_usage(store.key("journal", "looks"), samples=0)
    past = journal.of("job-2999", 0.0)

    assert used is not None
    assert used < 3 * 40_000, "the stream should stay about as small as it is told to"
    assert told(list(past.lines)) == told([look("job-2999")])
    assert list(journal.of("job-0", 0.0).lines) == []
    assert past.looks_since is not None
    assert past.changes_since is None, "looks should push out no changes"


def test_large_batches_are_kept_within_the_same_room(
    journal: Journal, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "MOST_BYTES", 100_000)
    for number in range(300):
        journal.note([look(f"{number:04}-{line:027}") for line in range(100)])
    used = store.client.memory_usage(store.key("journal", "looks"), samples=0)

    assert used is not None
    assert used < 3 * 100_000


def test_what_all_workers_did_lately_is_counted(journal: Journal, store: RedisStore) -> None:
    journal.note([look() for _ in range(30)] + [change(), trouble(), trouble()])
    activity = journal.activity(store.now(), 10)

    assert (activity.looks, activity.changes, activity.troubles) == (30, 1, 2)
    assert activity.steps_per_s == pytest.approx(3.3)


def test_entries_that_another_version_wrote_are_skipped(journal: Journal, store: RedisStore) -> None:
    key = store.key("journal", "changes")
    store.client.xadd(key, {"n": 1, "z": b"another packing"})
    store.client.xadd(key, {"n": 1})
    journal.note([change()])

    assert told(list(journal.of("job-1", 0.0).lines)) == told([change()])


def test_a_long_reason_is_cut(journal: Journal) -> None:
    journal.note([look(reason="x" * 5000)])

    assert [len(line.reason) for line in journal.of("job-1", 0.0).lines] == [journal_module.LONGEST_REASON]


def test_a_key_of_another_kind_in_its_place_is_an_error_of_ours(journal: Journal, store: RedisStore) -> None:
    store.client.set(store.key("journal", "changes"), "not a stream")
    for call in (lambda: journal.note([change()]), lambda: journal.of("job-1", 0.0)):
        with pytest.raises(StoreError, match="The journal can't be"):
            call()
