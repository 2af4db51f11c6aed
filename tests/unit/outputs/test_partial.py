from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from tasks_bridge.errors import SettingsError
from tasks_bridge.outputs.partial import ABANDONED_S, Busy, Partial, sweep, working_folder
from tasks_bridge.outputs.resume import Held

TAG = '"abc"'


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_has_come_is_there_for_the_next_holder(tmp_path: Path) -> None:
    with Partial(tmp_path, "a") as partial:
        assert partial.held == Held()
        partial.begin(TAG, 10)
        partial.append(b"12345")

    with Partial(tmp_path, "a") as partial:
        assert partial.held == Held(5, TAG, 10)
        partial.append(b"67890")
        assert partial.head(7) == b"1234567"
        assert partial.finish() == hashlib.sha256(b"1234567890").hexdigest()
        assert partial.held.is_whole


def test_a_new_beginning_leaves_nothing_of_the_old(tmp_path: Path) -> None:
    with Partial(tmp_path, "a") as partial:
        partial.begin(TAG, 10)
        partial.append(b"12345")
        partial.begin(None, None)
        partial.append(b"9")

    with Partial(tmp_path, "a") as partial:
        assert partial.held == Held(1, None, None)
        assert partial.head(10) == b"9"


def test_of_what_the_server_said_only_what_can_be_read_counts(tmp_path: Path) -> None:
    with Partial(tmp_path, "a") as partial:
        partial.begin(TAG, 10)
        partial.append(b"12345")
    for said in ('{"validator": "', "[]", ""):
        (tmp_path / "a.json").write_text(said)
        with Partial(tmp_path, "a") as partial:
            assert partial.held == Held(5, None, None)


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    with Partial(tmp_path, "a"), Partial(tmp_path, "b"), pytest.raises(Busy):
        Partial(tmp_path, "a").__enter__()
    with Partial(tmp_path, "a"):
        pass


def test_a_holder_that_is_killed_holds_no_longer_and_leaves_what_came(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from tasks_bridge.outputs.partial import Partial\n"
        "with Partial(Path(sys.argv[1]), 'a') as p:\n"
        "    p.begin('\"abc\"', 10); p.append(b'12345'); p.head(1); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Busy):
            Partial(tmp_path, "a").__enter__()
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()

    with Partial(tmp_path, "a") as partial:
        assert partial.held == Held(5, TAG, 10)


def test_an_empty_or_discarded_one_leaves_no_file(tmp_path: Path) -> None:
    with Partial(tmp_path, "a"):
        pass
    with Partial(tmp_path, "b") as partial:
        partial.begin(TAG, 10)
        partial.append(b"12345")
        partial.discard()

    assert left(tmp_path) == []


def test_a_file_that_has_been_published_is_not_touched_by_whoever_had_waited_for_it(tmp_path: Path) -> None:
    published = tmp_path / "published"
    waiting = os.open(tmp_path / "a.part", os.O_RDWR | os.O_CREAT)
    with Partial(tmp_path, "a") as partial:
        partial.begin(None, 5)
        partial.append(b"12345")
        partial.finish()
        partial.path.replace(published)
        partial.discard()

    with Partial(tmp_path, "a") as partial:  # a file of its own, and not the one that `waiting` has
        partial.begin(None, None)
        assert os.fstat(waiting).st_ino == published.stat().st_ino
    os.close(waiting)

    assert published.read_bytes() == b"12345"


def test_a_late_discard_leaves_the_next_holders_file_alone(tmp_path: Path) -> None:
    with Partial(tmp_path, "a") as first:
        first.begin(None, 5)
        first.append(b"12345")
        first.path.replace(tmp_path / "published")
        with Partial(tmp_path, "a") as second:
            second.begin(None, None)
            second.append(b"6")
            first.discard()
            assert second.path.exists()


def test_many_at_once_end_with_one_whole_file(tmp_path: Path) -> None:
    """Each that gets hold of it writes, publishes and throws away; nobody sees another's half."""
    published, seen = tmp_path / "published", []
    content = b"x" * 100_000

    def run() -> None:
        for _ in range(30):
            try:
                with Partial(tmp_path, "a") as partial:
                    partial.begin(None, len(content))
                    for at in range(0, len(content), 10_000):
                        partial.append(content[at : at + 10_000])
                    partial.finish()
                    partial.path.replace(published)
                    partial.discard()
            except Busy:
                pass
            if published.exists():
                seen.append(published.read_bytes() == content)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen
    assert all(seen)
    assert left(tmp_path) == ["published"]


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "a.part").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OSError, match=r"a\.part"):
        Partial(tmp_path, "a").__enter__()


def test_what_was_given_up_long_ago_is_swept_away_and_nothing_else(tmp_path: Path) -> None:
    for name in ("old", "new", "held"):
        with Partial(tmp_path, name) as partial:
            partial.begin(TAG, 10)
            partial.append(b"12345")
    (tmp_path / "orphan.json").write_text("{}")
    (tmp_path / "other.txt").write_text("")
    long_ago = (tmp_path / "new.part").stat().st_mtime - 2 * ABANDONED_S
    for name in ("old.part", "held.part", "orphan.json", "other.txt"):
        os.utime(tmp_path / name, (long_ago, long_ago))

    with Partial(tmp_path, "held"):
        sweep(tmp_path)

    assert left(tmp_path) == ["held.json", "held.part", "new.json", "new.part", "other.txt"]
    sweep(tmp_path / "that is not there")


def test_what_is_on_its_way_is_kept_where_the_settings_say(tmp_path: Path) -> None:
    assert working_folder(str(tmp_path)) == tmp_path


def test_or_in_a_folder_that_only_this_user_can_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    folder = working_folder(None)

    assert folder == working_folder(None)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_somebody_else_made_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    folder = tmp_path / f"tasks-bridge-{os.getuid()}"
    folder.symlink_to(tmp_path)

    with pytest.raises(SettingsError, match="TASKS_BRIDGE_SAVE_FOLDER"):
        working_folder(None)
