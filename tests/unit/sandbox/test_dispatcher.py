from pathlib import Path
from typing import Any

import pytest

from tasks_bridge.sandbox.dispatcher import Dispatcher, Entry
from tasks_bridge.sandbox.journal import Journal
from tasks_bridge.sandbox.plan import read_submission
from tasks_bridge.sandbox.refusal import Refusal


def submit(dispatcher: Dispatcher, owner: str = "me", out_task_id: str | None = "a", **params: Any) -> Entry:
    submission = read_submission(
        {"model": "sora-2", "out_task_id": out_task_id, "params": {"prompt": "a fox", **params}}
    )
    return dispatcher.submit(owner, submission, now_s=1000.0, base_url="http://here")[0]


def test_the_same_submit_is_the_same_task() -> None:
    dispatcher = Dispatcher()

    assert submit(dispatcher) is submit(dispatcher)
    assert len(dispatcher.entries) == 1


def test_another_submit_under_the_same_id_is_refused() -> None:
    dispatcher = Dispatcher()
    submit(dispatcher)

    with pytest.raises(Refusal) as caught:
        submit(dispatcher, seed=1)
    assert (caught.value.status, caught.value.code) == (409, "duplicate_out_task_id")


def test_the_same_id_under_another_key_is_another_task() -> None:
    dispatcher = Dispatcher()

    assert submit(dispatcher, "me").task.task_id != submit(dispatcher, "you").task.task_id


def test_without_an_id_every_submit_is_a_task() -> None:
    dispatcher = Dispatcher()

    assert submit(dispatcher, out_task_id=None) is not submit(dispatcher, out_task_id=None)


def test_a_task_takes_the_same_time_in_any_order_of_submits() -> None:
    one, other = Dispatcher(seed=5), Dispatcher(seed=5)
    ends = [submit(one, out_task_id=name).task.ended_s for name in ("a", "b")]

    assert ends == [submit(other, out_task_id=name).task.ended_s for name in ("b", "a")][::-1]
    assert submit(Dispatcher(seed=6), out_task_id="a").task.ended_s != ends[0]


def test_the_end_is_noted_when_it_is_first_seen() -> None:
    dispatcher = Dispatcher()
    entry = submit(dispatcher, sandbox={"duration_s": 10})

    for now_s in (1005.0, 1012.0, 1020.0):
        dispatcher.read(entry, now_s)
    assert entry.seen_end_s == 1012.0


def test_tasks_survive_in_the_journal_as_they_are(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "tasks.jsonl")
    dispatcher = Dispatcher()
    endless = submit(dispatcher, sandbox={"outcome": "hang", "output": [{"url": "http://x"}]}).task
    cancelled = submit(dispatcher, out_task_id="b").task
    journal.write(endless)
    journal.write(cancelled)
    cancelled.cancel(1001.0)
    journal.write(cancelled)

    assert list(journal.read()) == [endless, cancelled]


def test_a_line_cut_short_by_a_crash_is_dropped_from_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    journal = Journal(path)
    task = submit(Dispatcher()).task
    journal.write(task)
    whole = path.read_text()
    path.write_text(whole + whole[:50])

    assert list(journal.read()) == [task]
    journal.write(task)
    assert path.read_text() == whole * 2


def test_a_file_of_something_else_is_no_journal(tmp_path: Path) -> None:
    path = tmp_path / "diary.txt"
    path.write_text("Dear diary,\n")

    with pytest.raises(ValueError, match="line 1"):
        list(Journal(path).read())


def test_no_journal_is_no_tasks(tmp_path: Path) -> None:
    assert list(Journal(tmp_path / "none").read()) == []
