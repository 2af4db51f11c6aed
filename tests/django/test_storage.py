"""Outputs in a project's storages."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages

from tasks_bridge import RemoteTask, SettingsError, save_output
from tasks_bridge.contrib.django import conf, storage
from tasks_bridge.contrib.django.storage import DjangoStorage
from tasks_bridge.naming import Target
from tasks_bridge.outputs.destination import Whole
from tasks_bridge.outputs.partial import HIDDEN
from tests.smoke.processes import LocalProcess

DATA = b"\x89PNG\r\n\x1a\n" + b"fox" * 1000


@pytest.fixture
def media(configured: Any) -> Path:
    return Path(storages["default"].path(""))


@pytest.fixture(params=["default", "memory"])
def place(request: pytest.FixtureRequest, shop: Any) -> Iterator[DjangoStorage]:
    yield DjangoStorage(Target("django", request.param, "{id}"), conf.library_settings())
    for name in storages[request.param].listdir("")[1]:
        storages[request.param].delete(name)


@pytest.fixture
def whole(tmp_path: Path) -> Whole:
    return make(tmp_path / "whole.part")


def make(path: Path, data: bytes = DATA) -> Whole:
    path.write_bytes(data)
    return Whole(path, len(data), hashlib.sha256(data).hexdigest(), "image/png")


def content(place: DjangoStorage, name: str) -> bytes:
    with place._storage.open(name) as file:
        found: bytes = file.read()
    return found


def names(place: DjangoStorage) -> list[str]:
    found: list[str] = place._storage.listdir("")[1]
    return sorted(found)


def test_a_row_keeps_what_was_saved_of_its_job(shop: Any, worker: LocalProcess, media: Path) -> None:
    row = shop.Render(prompt="a fox", script={"file_bytes": 300_000})
    row.start_job(link=save_output.s() | shop.keep.s())

    def kept() -> bool:
        row.refresh_from_db()
        return bool(row.picture)

    from tests.smoke.processes import eventually

    eventually(kept, expected="the picture to be in its row", show=worker.tail)
    assert row.picture.name == f"bytespike/{row.job_id}.png"
    assert row.picture.size == (media / row.picture.name).stat().st_size == 300_000
    assert not list((media / HIDDEN).glob("*"))


def test_a_file_is_kept_under_its_name_and_found_again(place: DjangoStorage, whole: Whole) -> None:
    assert place.size("a/fox.png") is None
    path = place.publish(whole, "a/fox.png")

    assert path == "a/fox.png"
    assert content(place, path) == DATA
    assert place.size(path) == len(DATA)
    place._storage.delete(path)


def test_a_storage_in_a_folder_gets_it_by_a_rename(shop: Any, media: Path) -> None:
    place = DjangoStorage(Target("django", "default", "{id}"), conf.library_settings())
    assert place.working_folder == media / HIDDEN
    place.working_folder.mkdir(exist_ok=True)
    whole = make(place.working_folder / "fox.part")
    number = whole.path.stat().st_ino

    place.publish(whole, "renamed.png")

    assert (media / "renamed.png").stat().st_ino == number
    assert not whole.path.exists()
    place._storage.delete("renamed.png")


def test_the_same_file_once_more_changes_nothing(place: DjangoStorage, tmp_path: Path) -> None:
    paths = [place.publish(make(tmp_path / f"{number}.part"), "fox.png") for number in range(2)]

    assert paths == ["fox.png"] * 2
    assert names(place) == ["fox.png"]


@pytest.mark.parametrize("before", [b"another", bytes(len(DATA))])
def test_another_file_of_the_name_is_replaced(place: DjangoStorage, whole: Whole, before: bytes) -> None:
    place._storage.save("fox.png", ContentFile(before))

    assert place.publish(whole, "fox.png") == "fox.png"
    assert content(place, "fox.png") == DATA
    assert names(place) == ["fox.png"]


@pytest.mark.parametrize("place", ["default"], indirect=True)
def test_many_at_once_leave_one_file(place: DjangoStorage, tmp_path: Path) -> None:
    paths: list[str] = []
    start = threading.Barrier(4)

    def run(number: int) -> None:
        whole = make(tmp_path / f"{number}.part")
        start.wait()
        paths.append(place.publish(whole, "fox.png"))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert set(paths) <= {*names(place)}
    assert all(content(place, path) == DATA for path in paths)
    assert names(place) == ["fox.png"]


def test_one_that_was_there_at_the_same_moment_is_left_and_the_double_taken_away(
    place: DjangoStorage, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = place._storage.save

    def late(name: str, file: Any) -> str:
        real(name, ContentFile(DATA))  # somebody else's
        saved: str = real(name, file)
        return saved

    monkeypatch.setattr(place._storage, "save", late)

    assert place.publish(whole, "fox.png") == "fox.png"
    assert names(place) == ["fox.png"]


def test_a_storage_that_names_files_by_itself_is_believed(
    place: DjangoStorage, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place._storage, "get_available_name", lambda name, **_: f"of-mine-{name}")

    assert place.publish(whole, "fox.png") == "of-mine-fox.png"
    assert place.size("of-mine-fox.png") == len(DATA)


def test_a_storage_in_memory_is_saved_to_by_a_direct_call(shop: Any, django_sandbox: Any, worker: LocalProcess) -> None:
    row = shop.ended(shop.started(), worker)

    document = save_output(row.job_id, "django://memory/renders/{id}.{ext}")

    (saved,) = RemoteTask.model_validate(document).saved
    assert saved.path == f"renders/{row.job_id}.png"
    assert storages["memory"].size(saved.path) == saved.bytes
    assert django_sandbox.stats()["keys_sent_to_files"] == 0


def test_a_storage_that_the_project_lacks_is_told(shop: Any) -> None:
    with pytest.raises(SettingsError, match="nowhere"):
        DjangoStorage(Target("django", "nowhere", "{id}"), conf.library_settings())


def test_outputs_of_a_project_go_to_its_default_storage_unless_it_says_otherwise(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert conf.library_settings().save_to == storage.DEFAULT_TARGET
    monkeypatch.setenv("TASKS_BRIDGE_SAVE_TO", "/srv/media")
    assert conf.library_settings().save_to == "/srv/media"
