"""`save_output` in a worker: chains, links and chords, files that are hard to get, and places to put them."""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from celery import chain, chord, group
from celery.result import AsyncResult

from tasks_bridge import (
    InvalidRequest,
    JobFailed,
    JobNotFinished,
    JobNotFound,
    OutputError,
    OutputGone,
    OutputNotStored,
    OutputRejected,
    OutputTooLarge,
    OutputUnreachable,
    RemoteTask,
    SettingsError,
    generate,
    save_output,
)
from tasks_bridge.naming import Target
from tasks_bridge.outputs.destination import Whole
from tasks_bridge.outputs.partial import HIDDEN
from tasks_bridge.outputs.registry import register_destination
from tasks_bridge.sandbox import SandboxServer
from tests.integration.lab import CALLS, RUNS, Lab, apologise, assemble, calls, eventually, publish, receive

MEGABYTE = 1_000_000
QUICK: dict[str, Any] = {"save_retry_max_s": 0.4, "save_attempts": 4, "save_silence_s": 0.5, "lease_s": 0.9}


@pytest.fixture(scope="module")
def working_lab(redis_url: str, sandbox: SandboxServer) -> Iterator[Lab]:
    lab = Lab(redis_url, sandbox, **QUICK)
    with lab.current(), lab.worker():
        yield lab


@pytest.fixture
def to(tmp_path: Path) -> str:
    return f"{tmp_path}/{{id}}.{{ext}}"


def get(result: AsyncResult[Any]) -> Any:
    """What it came to; asked for, as an app of one test that ends lets go of every other's subscriptions."""
    eventually(result.ready, "the result")
    return result.get()


def saved(lab: Lab, to: str, *, options: dict[str, Any] | None = None, **script: Any) -> RemoteTask:
    """The outputs of a job whose course is *script*, once they are saved."""
    job = lab.signature(**script)
    return RemoteTask.model_validate(get(chain(job, save_output.s(to, **(options or {}))).apply_async()))


def completed(lab: Lab, **script: Any) -> dict[str, Any]:
    """The remote object of a job that has completed."""
    document: dict[str, Any] = get(lab.signature(**script).apply_async())
    return document


def files(folder: Path) -> list[str]:
    """What has been published; what is on its way is not looked at."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if HIDDEN not in path.parts)


def unfinished(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / HIDDEN).glob("*"))


def downloads(lab: Lab, document: RemoteTask | dict[str, Any]) -> list[dict[str, Any]]:
    job_id = document["out_task_id"] if isinstance(document, dict) else document.out_task_id
    (task,) = lab.remote(str(job_id))
    found: list[dict[str, Any]] = task["downloads"]
    return found


def assert_whole(video: RemoteTask, size: int, index: int = 0) -> None:
    """The file at its path is the one that is described."""
    at = video.saved[index]
    data = Path(at.path).read_bytes()
    assert (len(data), at.bytes) == (size, size)
    assert hashlib.sha256(data).hexdigest() == at.sha256


# -- canvas -----------------------------------------------------------------------------------------------------------


def test_the_next_step_of_a_chain_gets_the_remote_object_with_what_was_saved(lab: Lab, to: str, tmp_path: Path) -> None:
    result: Any = chain(lab.signature(file_bytes=MEGABYTE), save_output.s(to), publish.s(label="next")).apply_async()
    get(result)

    (call,) = calls(label="next")
    video: RemoteTask = call.value
    job_id = video.out_task_id
    assert files(tmp_path) == [f"{job_id}.png"]
    assert video.saved[0].path == str(tmp_path / f"{job_id}.png")
    assert video.saved[0].content_type == "image/png"
    assert_whole(video, MEGABYTE)
    assert (video.status, len(video.urls), video.credits_used) == ("completed", 1, video.credits_used)
    assert unfinished(tmp_path) == []


def test_a_link_saves_too_and_no_media_goes_through_the_result_backend(lab: Lab, to: str, tmp_path: Path) -> None:
    callback = save_output.s(to).set(task_id=f"save-{uuid.uuid4().hex}")
    job = lab.submit({"file_bytes": MEGABYTE}, link=callback)
    result: AsyncResult[Any] = AsyncResult(callback.options["task_id"], app=lab.app)
    video = RemoteTask.model_validate(
        eventually(lambda: result.successful() and result.get(), "the output to be saved")
    )

    assert_whole(video, MEGABYTE)
    assert files(tmp_path) == [f"{job.id}.png"]
    client = lab.bridge.store.client
    ours = [key for name in (lab.settings.namespace, job.id, result.id) for key in client.scan_iter(f"*{name}*")]
    stored = {key: client.memory_usage(key) or 0 for key in ours if client.type(key) == b"string"}
    assert max(stored.values()) < 10_000


def test_a_callback_of_several_steps_may_be_linked(lab: Lab, to: str) -> None:
    job = lab.submit(link=save_output.s(to) | publish.s(label="linked"))
    call = eventually(lambda: calls(job.id, label="linked"), "the step behind save_output")[0]

    assert len(call.value.saved) == 1


def test_each_part_of_a_chord_may_save(lab: Lab, to: str, tmp_path: Path) -> None:
    parts = group(chain(lab.signature(), save_output.s(to)) for _ in range(3))
    documents = get(chord(parts)(assemble.s()))

    videos = [RemoteTask.model_validate(document) for document in documents]
    assert files(tmp_path) == sorted(f"{video.out_task_id}.png" for video in videos)
    assert sorted(video.saved[0].path for video in videos) == sorted(str(path) for path in tmp_path.glob("*.png"))


def test_all_outputs_of_a_job_are_saved_each_under_its_name(lab: Lab, tmp_path: Path) -> None:
    plain = saved(lab, str(tmp_path / "a"), count=3)
    numbered = saved(lab, f"{tmp_path}/b/{{model}}/{{id}}-{{index}}.{{ext}}", count=2)

    assert files(tmp_path / "a") == sorted(f"{plain.out_task_id}{mark}.png" for mark in ("", "~1", "~2"))
    assert files(tmp_path / "b" / "seedream-v4") == [f"{numbered.out_task_id}-{index}.png" for index in range(2)]
    assert [len(video.saved) for video in (plain, numbered)] == [3, 2]
    assert len({output.sha256 for output in plain.saved}) == 3


def test_outputs_that_are_in_the_answer_are_saved_and_taken_out_of_it(lab: Lab, tmp_path: Path) -> None:
    picture = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
    output = [
        {"type": "image", "b64_json": picture},
        {"type": "text", "text": "a fox"},
        {"type": "image", "url": f"data:image/png;base64,{picture}", "width": 1},
    ]
    document = get(chain(lab.signature(output=output), save_output.s(str(tmp_path))).apply_async())

    first, text, last = document["output"]
    assert (first["saved"]["bytes"], first["saved"]["content_type"]) == (68, "image/png")
    assert (set(first), text, set(last)) == ({"type", "saved"}, output[1], {"type", "width", "saved"})
    assert picture not in str(document)
    assert len(files(tmp_path)) == 2


def test_a_job_can_be_saved_by_its_id_whenever_it_is_over(lab: Lab, to: str, tmp_path: Path) -> None:
    job_id = completed(lab)["out_task_id"]

    video = RemoteTask.model_validate(get(save_output.delay(job_id, to)))

    assert (video.out_task_id, files(tmp_path)) == (job_id, [f"{job_id}.png"])


def test_a_job_that_is_forgotten_here_is_asked_for_at_bytespike(lab: Lab, to: str, tmp_path: Path) -> None:
    job_id = completed(lab)["out_task_id"]
    lab.ended(job_id)
    lab.bridge.store.client.delete(lab.bridge.store.key("job", job_id))

    get(save_output.delay(job_id, to))

    assert files(tmp_path) == [f"{job_id}.png"]


def test_a_job_without_outputs_is_told_in_the_usual_words(lab: Lab, to: str) -> None:
    failed = lab.submit({"outcome": "failed"})
    running = lab.submit({"duration_s": 60})
    lab.ended(failed)

    for job_id, error in ((failed.id, JobFailed), (running.id, JobNotFinished), ("unheard-of", JobNotFound)):
        with pytest.raises(error):
            get(save_output.delay(job_id, to))
    lab.job(running).cancel()


def test_without_either_the_worker_says_what_to_set(lab: Lab) -> None:
    with pytest.raises(SettingsError, match="TASKS_BRIDGE_SAVE_TO"):
        get(chain(lab.signature(), save_output.s()).apply_async())


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("renders/{id}",), {}),
        (("/srv/{job}",), {}),
        (({}, "s3://bucket/hero.mp4"), {}),
        ((), {"to": "renders"}),
        ((), {"where": "/srv"}),
        (("/srv",), {"max_bytes": 0}),
        (("/srv",), {"max_bytes": True}),
        (("/srv",), {"content_types": "video/*"}),
        (("/srv",), {"content_types": ["video"]}),
        (("/srv",), {"content_types": []}),
    ],
)
def test_a_wrong_call_is_refused_where_it_is_written(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        save_output.s(*args, **kwargs)
    with pytest.raises(InvalidRequest):
        save_output.si(*(args or ("job",)), **kwargs)


@pytest.mark.parametrize("args", [("my-render-001",), ("my-render-001", "/srv"), ({"task_id": "t"}, "/srv"), ()])
def test_what_may_be_right_passes(args: tuple[Any, ...]) -> None:
    save_output.s(*args, max_bytes=1, content_types=["*/*"])


@pytest.mark.parametrize("remote", [7, None, [], {"status": "completed"}])
def test_what_is_no_remote_object_is_refused(lab: Lab, to: str, remote: Any) -> None:
    with pytest.raises(InvalidRequest, match="remote object"):
        get(save_output.delay(remote, to))


# -- files that are hard to get ---------------------------------------------------------------------------------------


def test_a_connection_that_breaks_is_taken_up_where_it_broke(lab: Lab, to: str) -> None:
    faults = [{"on": "files", "kind": "half_close", "times": 2}]
    video = saved(lab, to, file_bytes=MEGABYTE, faults=faults)

    assert_whole(video, MEGABYTE)
    assert [(asked["range"], asked["status"]) for asked in downloads(lab, video)] == [
        (None, 200),
        ("bytes=500000-", 206),
        ("bytes=750000-", 206),
    ]


def test_a_server_that_knows_no_parts_is_asked_for_everything(lab: Lab, to: str) -> None:
    faults = [{"on": "files", "kind": "half_close"}, {"on": "files", "kind": "ignore_range", "after": 1}]

    assert_whole(saved(lab, to, file_bytes=MEGABYTE, faults=faults), MEGABYTE)


def test_a_file_that_has_changed_meanwhile_is_fetched_anew(lab: Lab, to: str) -> None:
    faults = [{"on": "files", "kind": "half_close"}, {"on": "files", "kind": "new_etag", "after": 1}]
    video = saved(lab, to, file_bytes=MEGABYTE, faults=faults)

    assert_whole(video, MEGABYTE)
    assert [asked["status"] for asked in downloads(lab, video)] == [200, 200]


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 503, "times": 2},
        {"kind": "status", "status": 429, "retry_after_s": 1},
        {"kind": "lost_response", "times": 2},
        {"kind": "hang"},
    ],
)
def test_trouble_that_passes_is_waited_for(lab: Lab, to: str, fault: dict[str, Any]) -> None:
    video = saved(lab, to, file_bytes=MEGABYTE, faults=[{"on": "files", **fault}])

    assert_whole(video, MEGABYTE)
    assert len(downloads(lab, video)) == fault.get("times", 1) + 1


def test_trouble_that_does_not_pass_fails_in_the_end_with_its_reason(lab: Lab, to: str, tmp_path: Path) -> None:
    result: Any = chain(
        lab.signature(faults=[{"on": "files", "kind": "status", "status": 503, "times": None}]),
        save_output.s(to).on_error(apologise.s(label="late")),
    ).apply_async()
    with pytest.raises(OutputUnreachable, match="HTTP 503") as caught:
        get(result)

    assert (caught.value.index, caught.value.job_id) == (0, result.parent.id)
    assert len(downloads(lab, {"out_task_id": result.parent.id})) == QUICK["save_attempts"]
    assert isinstance(eventually(lambda: calls(label="late"), "the errback")[0].value, OutputUnreachable)
    assert files(tmp_path) == []


def test_a_url_that_is_served_no_more_is_replaced_by_a_fresh_one(lab: Lab, to: str) -> None:
    document = completed(lab, url_life_s=60)
    document["output"][0]["url"] += "-and-expired"

    video = RemoteTask.model_validate(get(save_output.delay(document, to)))

    assert video.saved[0].bytes > 0
    assert "expired" not in video.urls[0], "the next step gets the fresh URL"
    assert [asked["status"] for asked in downloads(lab, document)] == [403, 200]


def test_a_half_that_came_by_the_old_url_is_gone_on_with_by_the_fresh_one(lab: Lab, to: str) -> None:
    faults = [{"on": "files", "kind": "half_close"}, {"on": "files", "kind": "status", "status": 403, "after": 1}]
    video = saved(lab, to, url_life_s=60, file_bytes=MEGABYTE, faults=faults)

    assert_whole(video, MEGABYTE)
    assert [(asked["range"], asked["status"]) for asked in downloads(lab, video)] == [
        (None, 200),
        ("bytes=500000-", 403),
        ("bytes=500000-", 206),
    ]


@pytest.mark.parametrize("status", [403, 404, 410])
def test_what_is_gone_is_asked_for_once_more_and_then_told(lab: Lab, to: str, status: int, tmp_path: Path) -> None:
    document = completed(lab, faults=[{"on": "files", "kind": "status", "status": status, "times": None}])
    (before,) = lab.remote(document["out_task_id"])
    with pytest.raises(OutputGone, match=str(status)) as caught:
        get(save_output.delay(document, to))

    (after,) = lab.remote(document["out_task_id"])
    assert caught.value.status_code == status
    assert after["queries"] - before["queries"] == 1
    assert len(after["downloads"]) == 2
    assert files(tmp_path) == []


def test_a_task_that_bytespike_no_longer_knows_is_gone(lab: Lab, to: str) -> None:
    document = completed(lab, url_life_s=0)
    lab.ended(document["out_task_id"])
    lab.sandbox.fail("not_found", on="query")
    with pytest.raises(OutputGone):
        get(save_output.delay(document, to))


def test_while_bytespike_can_not_be_asked_for_fresh_urls_it_is_waited_for(lab: Lab, to: str) -> None:
    document = completed(lab, faults=[{"on": "files", "kind": "status", "status": 403}])
    lab.sandbox.fail("status", on="query", status=503)

    assert RemoteTask.model_validate(get(save_output.delay(document, to))).saved


def test_the_api_key_is_never_sent_to_where_the_files_are(lab: Lab, to: str) -> None:
    before = lab.sandbox.stats()["requests"].get("files", 0)
    saved(lab, to, file_bytes=MEGABYTE, faults=[{"on": "files", "kind": "half_close"}])
    saved(lab, to, faults=[{"on": "files", "kind": "status", "status": 403}])

    stats = lab.sandbox.stats()
    assert stats["requests"]["files"] - before == 4
    assert stats["keys_sent_to_files"] == 0


def test_what_is_too_large_is_refused_and_nothing_is_left(lab: Lab, to: str, tmp_path: Path) -> None:
    with pytest.raises(OutputTooLarge) as told:
        saved(lab, to, file_bytes=MEGABYTE, options={"max_bytes": 300_000})
    with pytest.raises(OutputTooLarge) as seen:
        saved(lab, to, faults=[{"on": "files", "kind": "endless"}], options={"max_bytes": 300_000})

    assert [(error.value.limit, error.value.size) for error in (told, seen)] == [
        (300_000, MEGABYTE),
        (300_000, None),
    ]
    assert (files(tmp_path), unfinished(tmp_path)) == ([], [])


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ({"faults": [{"on": "files", "kind": "wrong_content_type"}]}, {}),
        ({"faults": [{"on": "files", "kind": "garbage"}]}, {}),
        ({}, {"content_types": ["video/*"]}),
        ({"output": [{"type": "video", "url": "file:///etc/passwd"}]}, {}),
        ({"output": [{"type": "image", "b64_json": "PGh0bWw+"}]}, {}),
        ({"output": [{"type": "image", "b64_json": "?"}]}, {}),
    ],
)
def test_what_is_not_what_it_should_be_is_refused_and_nothing_is_left(
    lab: Lab, to: str, tmp_path: Path, script: dict[str, Any], options: dict[str, Any]
) -> None:
    with pytest.raises(OutputRejected):
        saved(lab, to, options=options, **script)

    assert (files(tmp_path), unfinished(tmp_path)) == ([], [])


# -- twice ------------------------------------------------------------------------------------------------------------


def test_what_is_saved_already_is_not_fetched_again(lab: Lab, to: str, tmp_path: Path) -> None:
    document = completed(lab, count=2)
    first, second = (get(save_output.delay(document, to)) for _ in range(2))

    assert first == second
    assert len(downloads(lab, document)) == 2
    assert unfinished(tmp_path) == []


def test_what_was_saved_and_is_no_longer_there_is_saved_again(lab: Lab, to: str, tmp_path: Path) -> None:
    document = completed(lab)
    (saved_at,) = RemoteTask.model_validate(get(save_output.delay(document, to))).saved
    for spoil in (Path.unlink, lambda path: path.write_bytes(b"cut off")):
        spoil(Path(saved_at.path))
        get(save_output.delay(document, to))
        assert hashlib.sha256(Path(saved_at.path).read_bytes()).hexdigest() == saved_at.sha256


def test_a_retry_fetches_only_what_is_missing(lab: Lab, to: str) -> None:
    faults = [{"on": "files", "kind": "status", "status": 503, "after": 1}]
    video = saved(lab, to, count=3, faults=faults)

    names = [asked["name"] for asked in downloads(lab, video) if asked["status"] == 200]
    assert len(names) == len(set(names)) == 3


def test_two_at_once_leave_one_whole_file_and_both_return(lab: Lab, to: str, tmp_path: Path) -> None:
    document = completed(lab, file_bytes=MEGABYTE, faults=[{"on": "files", "kind": "trickle", "delay_s": 1}])
    results = [save_output.delay(document, to) for _ in range(3)]
    documents = [get(result) for result in results]

    assert documents[0] == documents[1] == documents[2]
    assert_whole(RemoteTask.model_validate(documents[0]), MEGABYTE)
    assert len(downloads(lab, document)) == 1, "the others waited"
    assert (len(files(tmp_path)), unfinished(tmp_path)) == (1, [])


def test_a_message_that_comes_twice_at_the_same_time_ends_once_well(lab: Lab, to: str, tmp_path: Path) -> None:
    document = completed(lab, file_bytes=MEGABYTE, faults=[{"on": "files", "kind": "trickle", "delay_s": 0.6}])
    step: Any = chain(save_output.s(document, to), receive.s(label="behind")).set(task_id=uuid.uuid4().hex)
    step.tasks[0].set(task_id=(save_id := uuid.uuid4().hex))
    step.tasks[1].set(task_id=(next_id := uuid.uuid4().hex))
    step.apply_async()
    step.apply_async()
    get(AsyncResult(next_id, app=lab.app))

    assert len(downloads(lab, document)) == 1
    assert {call.task_id for call in calls(label="behind")} == {next_id}
    assert AsyncResult(save_id, app=lab.app).successful()
    assert_whole(RemoteTask.model_validate(AsyncResult(save_id, app=lab.app).get()), MEGABYTE)


# -- places -----------------------------------------------------------------------------------------------------------


def test_outputs_go_wherever_fsspec_can_write(lab: Lab, tmp_path: Path) -> None:
    name = uuid.uuid4().hex
    for to in (f"memory://{name}/renders/{{id}}.{{ext}}", f"local://{tmp_path}/new/folder"):
        video = saved(lab, to, file_bytes=MEGABYTE)
        (at,) = video.saved
        with fsspec.open(at.path, "rb") as file:
            data = file.read()

        assert at.path == f"{to.partition('/{id}')[0]}/{video.out_task_id}.png"
        assert (len(data), hashlib.sha256(data).hexdigest()) == (MEGABYTE, at.sha256)


def test_what_is_saved_already_by_fsspec_is_not_fetched_again(lab: Lab) -> None:
    document = completed(lab)
    for _ in range(2):
        get(save_output.delay(document, f"memory://{document['task_id']}"))

    assert len(downloads(lab, document)) == 1


@pytest.mark.parametrize("to", ["s3://bucket", "no-such-thing://a/b"])
def test_a_place_that_needs_what_is_not_installed_says_what(lab: Lab, to: str) -> None:
    with pytest.raises(SettingsError, match=r"fsspec can't open .*://: .+"):
        saved(lab, to)


def test_a_place_of_djangos_needs_a_django_project(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(register_destination.__globals__["_factories"], "django", raising=False)
    with pytest.raises(SettingsError, match="Django project"):
        saved(lab, "django://default/{id}")


class Full:
    """A destination that is full at first, and dies in the middle of a file."""

    def __init__(self, target: Target, settings: Any) -> None:
        self._name = target.root
        self.working_folder = None

    def size(self, path: str) -> int | None:
        return None

    def publish(self, whole: Whole, name: str) -> str:
        attempts = ATTEMPTS.setdefault(self._name, [])
        attempts.append(hashlib.sha256(whole.path.read_bytes()).hexdigest() == whole.sha256)
        if len(attempts) < 3:
            raise OSError(28, "No space left on device", "/secret/place")
        return f"full://{name}"


ATTEMPTS: dict[str, list[bool]] = {}


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(register_destination.__globals__["_factories"], "full", Full)
    return f"full://{uuid.uuid4().hex}/{{id}}.{{ext}}"


def test_a_place_that_is_full_is_waited_for_and_nothing_is_fetched_again(lab: Lab, full: str) -> None:
    video = saved(lab, full, file_bytes=MEGABYTE)

    assert ATTEMPTS[full.split("/")[2]] == [True] * 3
    assert len(downloads(lab, video)) == 1


def test_a_place_that_stays_full_says_so_without_its_secrets(
    lab: Lab, full: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Full, "publish", _never)
    with pytest.raises(OutputNotStored, match="OSError, No space left on device") as caught:
        saved(lab, full)

    assert "secret" not in str(caught.value)


def _never(self: Full, whole: Whole, name: str) -> str:
    raise OSError(28, "No space left on device", "/secret/place")


# -- inline -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def eager(redis_url: str, sandbox: SandboxServer) -> Iterator[Lab]:
    CALLS.clear()
    RUNS.clear()
    lab = Lab(redis_url, sandbox, **QUICK)
    with lab.current():
        lab.app.conf.task_always_eager = True
        before = set(lab.bridge.store.client.keys("*"))
        yield lab
        assert set(lab.bridge.store.client.keys("*")) <= before, "an eager job should leave nothing in Redis"


def test_an_eager_chain_saves_where_it_stands(eager: Lab, to: str) -> None:
    faults = [{"on": "files", "kind": "half_close"}, {"on": "files", "kind": "status", "status": 503, "after": 1}]
    result: Any = chain(
        eager.signature(file_bytes=MEGABYTE, faults=faults), save_output.s(to), publish.s(label="eager")
    ).apply_async()

    assert result.get()["output"][0]["saved"]["bytes"] == MEGABYTE
    assert_whole(calls(label="eager")[0].value, MEGABYTE)


def test_an_eager_callback_saves_and_one_that_fails_says_so(eager: Lab, to: str, tmp_path: Path) -> None:
    eager.submit(link=save_output.s(to))
    assert len(files(tmp_path)) == 1

    document = eager.signature(faults=[{"on": "files", "kind": "status", "status": 503, "times": None}]).apply().get()
    started = time.monotonic()
    result = save_output.delay(document, to)
    assert isinstance(result.result, OutputUnreachable)
    assert time.monotonic() - started < 5


def test_a_direct_call_saves(idle_lab: Lab, to: str, tmp_path: Path) -> None:
    document = generate("seedream-v4", idle_lab.params())

    assert save_output(RemoteTask.model_validate(document), to)["output"][0]["saved"]
    assert save_output(document["out_task_id"], to)["output"][0]["saved"]
    assert files(tmp_path) == [f"{document['out_task_id']}.png"]
    with pytest.raises(OutputError):
        save_output(document, to, content_types=["audio/*"])


# -- memory -----------------------------------------------------------------------------------------------------------


def _peak_growth(work: Callable[[], object]) -> int:
    """By how many bytes this process' memory grew at most while *work* ran."""
    import psutil

    process = psutil.Process()
    before, peak, done = process.memory_info().rss, 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return peak - before


def test_memory_stays_flat_however_large_a_file_is(idle_lab: Lab, to: str, tmp_path: Path) -> None:
    small, large = (
        generate("seedream-v4", idle_lab.params({"file_bytes": size})) for size in (MEGABYTE, 200 * MEGABYTE)
    )
    save_output(small, to)  # whatever is loaded at first

    growth = _peak_growth(lambda: save_output(large, to))

    assert (tmp_path / f"{large['out_task_id']}.png").stat().st_size == 200 * MEGABYTE
    assert growth < 30 * MEGABYTE, f"expected flat memory, and it grew by {growth / MEGABYTE:.1f} MB"
