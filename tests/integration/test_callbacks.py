"""ByteSpike's callbacks, from the sandbox through a web server of this test to the job."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import httpx
import pytest
from pydantic import SecretStr

from tasks_bridge import InvalidToken, JobState, SettingsError, generate
from tasks_bridge.callbacks import callback_url, receive
from tasks_bridge.sandbox import SandboxServer
from tasks_bridge.tokens import TokenPurpose, sign
from tests.integration.lab import MODEL, Lab, eventually

SECRET_KEY = SecretStr("callbacks are signed with these characters")
OTHER_SECRET_KEY = SecretStr("and somebody else signs with these instead")
GAP_S = 0.5
ROOT = Path(__file__).parents[2]
POLLED = {JobState.PENDING, JobState.RUNNING}


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def web_server(lab_of: Callable[[], Lab], seen: list[int]) -> Iterator[str]:
    """A view as an application has it, and a thread that serves it; gives the address of the view."""

    def view(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        try:
            receive(environ["PATH_INFO"].rpartition("/")[2], app=lab_of().app)
            status = 204
        except InvalidToken:
            status = 404
        seen.append(status)
        start_response(f"{status} .", [("Content-Length", "0")] if status == 404 else [])
        return []

    server: WSGIServer = make_server("127.0.0.1", 0, view, handler_class=Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="web server")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/shop/bytespike"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def seen() -> list[int]:
    """What the view answered, callback by callback."""
    return []


@pytest.fixture(scope="module")
def called_lab(redis_url: str, sandbox: SandboxServer, seen: list[int]) -> Iterator[Lab]:
    """An app that is called back, and hardly polls."""
    labs: list[Lab] = []
    with web_server(lambda: labs[0], seen) as address:
        lab = Lab(
            redis_url,
            sandbox,
            poll_min_s=GAP_S,
            poll_max_s=60,
            secret_key=SECRET_KEY,
            callback_base_url=address,
        )
        labs.append(lab)
        with lab.current(), lab.worker():
            yield lab


def queries(lab: Lab) -> int:
    return int(lab.sandbox.stats()["requests"].get("query", 0))


def test_a_job_ends_with_its_callback_long_before_its_countdown(called_lab: Lab, seen: list[int]) -> None:
    seen.clear()
    result = called_lab.submit({"duration_s": 1.5, "estimate_s": 120})
    entry = called_lab.ended(result)

    assert entry.state is JobState.COMPLETED
    assert seen == [204]
    assert entry.record.polls == 1, "expected one look, after the callback, for the countdown has 80 seconds"
    assert called_lab.remote(result)[0]["status"] == "completed"


FLOODING = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from celery import Celery
from tasks_bridge import Settings, install
from tasks_bridge.callbacks import receive
order = json.load(sys.stdin)
app = Celery("flood", set_as_current=False)
install(app, Settings(**order["settings"]))
with ThreadPoolExecutor(4) as pool:
    print(sum(pool.map(lambda token: receive(token, app=app), order["tokens"] * order["times"])))
"""
FLOODERS = 2


def flood(lab: Lab, job_ids: list[str], callbacks: int) -> int:
    """That many callbacks about jobs from several processes with several threads each; how many were taken."""
    order = {
        "settings": {
            "redis_url": lab.settings.redis_url.get_secret_value(),
            "namespace": lab.settings.namespace,
            "poll_min_s": GAP_S,
            "poll_max_s": 60,
            "secret_key": SECRET_KEY.get_secret_value(),
        },
        "tokens": [sign(SECRET_KEY, TokenPurpose.CALLBACK, job_id) for job_id in job_ids],
        "times": callbacks // FLOODERS // len(job_ids),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FLOODING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        for _ in range(FLOODERS)
    ]
    with ThreadPoolExecutor(FLOODERS) as pool:
        return sum(int(out) for out, _ in pool.map(lambda one: one.communicate(json.dumps(order), 100), processes))


@pytest.mark.parametrize("jobs", [1, 100])
def test_ten_thousand_callbacks_make_a_bounded_number_of_queries(called_lab: Lab, jobs: int) -> None:
    called_lab.sandbox.reset()
    results = [called_lab.submit({"duration_s": 900, "estimate_s": 120}) for _ in range(jobs)]
    ids, store = [result.id for result in results], called_lab.bridge.store
    eventually(lambda: len(called_lab.sandbox.tasks()) == jobs, "the jobs to be submitted")
    eventually(lambda: {entry and entry.state for entry in store.get(ids)} <= POLLED, "the jobs to be accepted")
    began = store.now()

    assert flood(called_lab, ids, 10_000) == 10_000

    flooded_s = store.now() - began
    eventually(
        lambda: all(entry and entry.due_at and entry.due_at - entry.now > GAP_S for entry in store.get(ids)),
        "nothing more to come of it",
    )
    queried = [task["queries"] for task in called_lab.sandbox.tasks()]
    # as docs/reliability.md says: one in `poll_min_s`, the first at once, and one after the end
    assert min(queried) >= 1
    assert max(queried) <= flooded_s / GAP_S + 2
    for result in results:
        result.revoke()
    for result in results:
        called_lab.ended(result)


def test_forged_callbacks_change_nothing(called_lab: Lab) -> None:
    result = called_lab.submit({"duration_s": 60, "estimate_s": 120})
    eventually(lambda: called_lab.job(result).remote, "the job to be accepted")
    before, due_at = queries(called_lab), called_lab.bridge.store.get([result.id])[0]
    address = called_lab.settings.callback_base_url
    forged = [
        sign(OTHER_SECRET_KEY, TokenPurpose.CALLBACK, result.id),
        sign(SECRET_KEY, TokenPurpose.STATUS, result.id),
        sign(SECRET_KEY, TokenPurpose.CALLBACK, result.id)[:-1],
        result.id,
        "",
    ]

    assert [httpx.post(f"{address}/{token}").status_code for token in forged] == [404] * len(forged)

    after = called_lab.bridge.store.get([result.id])[0]
    assert due_at is not None
    assert after is not None
    assert (queries(called_lab), after.due_at) == (before, due_at.due_at)
    result.revoke()
    called_lab.ended(result)


def test_a_callback_for_a_job_that_is_over_or_forgotten_is_harmless(called_lab: Lab) -> None:
    result = called_lab.submit({"duration_s": 0.1})
    called_lab.ended(result)
    before = queries(called_lab)

    assert receive(sign(SECRET_KEY, TokenPurpose.CALLBACK, result.id), app=called_lab.app) is False
    assert receive(sign(SECRET_KEY, TokenPurpose.CALLBACK, "forgotten"), app=called_lab.app) is False
    assert queries(called_lab) == before


def test_a_job_whose_callback_never_comes_is_polled_all_the_same(called_lab: Lab) -> None:
    result = called_lab.submit({"duration_s": 0.3, "estimate_s": 1, "faults": [{"on": "callback", "kind": "refused"}]})

    assert called_lab.ended(result).state is JobState.COMPLETED


def test_the_same_request_is_the_same_job_when_the_address_has_changed(redis_url: str, sandbox: SandboxServer) -> None:
    callbacks: dict[str, Any] = {"secret_key": SECRET_KEY, "callback_base_url": "http://127.0.0.1:9/old"}
    lab = Lab(redis_url, sandbox, **callbacks)
    with lab.current():
        first = generate.apply_async((MODEL, lab.params()), countdown=600)
        body = lab.bridge.store.client.get(lab.bridge.store.key("body", first.id))
        lab.bridge.settings = lab.settings.model_copy(update={"callback_base_url": "http://127.0.0.1:9/new"})

        again = generate.apply_async((MODEL, lab.params()), task_id=first.id, countdown=600)

        assert again.id == first.id
        assert b'"callback_url":"http://127.0.0.1:9/old/1~~' in (body or b"")
        entry = lab.bridge.store.get([first.id])[0]
        assert entry is not None
        assert entry.record.has_callback


def test_without_an_address_nobody_is_told_to_call(idle_lab: Lab) -> None:
    result = generate.apply_async((MODEL, idle_lab.params()), countdown=600)
    store = idle_lab.bridge.store

    assert b"callback" not in (store.client.get(store.key("body", result.id)) or b"callback")
    with pytest.raises(SettingsError, match="TASKS_BRIDGE_CALLBACK_BASE_URL"):
        callback_url(result.id, app=idle_lab.app)
    with pytest.raises(SettingsError, match="TASKS_BRIDGE_SECRET_KEY"):
        receive("token", app=idle_lab.app)
