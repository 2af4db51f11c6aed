"""The page for Flask users, as somebody follows it who has nothing yet: three terminals, a browser, and then rows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tasks_bridge.sandbox import SandboxServer
from tests.smoke.processes import LocalProcess, eventually

ROOT = Path(__file__).parents[2]

_FILES = re.compile(r"^```\w+ file=(?P<path>\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)

PACE = {
    "TASKS_BRIDGE_TICK_S": "0.05",
    "TASKS_BRIDGE_POLL_MIN_S": "0.2",
    "TASKS_BRIDGE_POLL_MAX_S": "0.5",
    "TASKS_BRIDGE_LEASE_S": "2",
    "TASKS_BRIDGE_RETRY_MIN_S": "0.1",
    "TASKS_BRIDGE_RETRY_MAX_S": "0.5",
}


@pytest.fixture(scope="module")
def quick_sandbox() -> Iterator[SandboxServer]:
    with SandboxServer(speed=20) as server:
        yield server


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The files of the page."""
    files = {match["path"]: match["text"] for match in _FILES.finditer((ROOT / "docs/flask.md").read_text())}
    assert len(files) == 6
    for path, text in files.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


@pytest.fixture
def terminal(
    run: Callable[..., LocalProcess], project: Path, quick_sandbox: SandboxServer, redis_url: str, namespace: str
) -> Iterator[Callable[..., LocalProcess]]:
    """Start a process in the folder of the project, with what the page says is in its environment."""
    database = redis_url.rpartition("/")[0] + "/14"  # the messages of no other test
    started: list[LocalProcess] = []
    settings = {
        "FLASK_APP": "shop",
        "BYTESPIKE_API_KEY": "sk-byts-tutorial",
        "BYTESPIKE_BASE_URL": quick_sandbox.url,
        "REDIS_URL": database,
        "TASKS_BRIDGE_NAMESPACE": namespace,
        "PYTHONWARNINGS": "error::DeprecationWarning:shop",
    }

    def start(*arguments: str, **more: str) -> LocalProcess:
        process = run(*arguments, cwd=project, **{**settings, **PACE, **more})
        started.append(process)
        return process

    yield start
    for process in started:
        process.stop(timeout_s=10)
    with redis.Redis.from_url(database) as client:
        client.flushdb()


def address_of(server: LocalProcess) -> str:
    found = eventually(
        lambda: re.search(r"[Rr]unning on (http://\S+)", server.logs()),
        expected="the web server to start",
        show=server.tail,
    )
    assert found is not None
    return found[1]


def test_whoever_follows_the_tutorial_watches_a_job_to_its_end(
    terminal: Callable[..., LocalProcess], project: Path
) -> None:
    checked = terminal("flask", "bytespike", "check")
    server = terminal("flask", "run", "--port", "0")
    worker = terminal("celery", "-A", "tasks_bridge.contrib.flask", "worker", "-E", "-c", "1")

    with httpx.Client(base_url=address_of(server), follow_redirects=True) as browser:
        page = browser.post("/renders", data={"prompt": "a fox"})
        source, script = (part.partition('"')[0] for part in page.text.split('src="')[1:])
        assert script == "/bytespike/bytespike-job.js"
        assert browser.get(script).status_code == 200

        def over() -> Any:
            document = browser.get(source).json()
            return document if document["is_over"] else None

        document = eventually(over, expected="the job to end", show=worker.tail)

    assert (document["state"], document["progress"], document["error"]) == ("COMPLETED", 1, None)
    said = re.compile(r"there it is: (.+\.png)$", re.MULTILINE)
    found = eventually(lambda: said.search(worker.logs()), expected="the callback", show=worker.tail)
    assert found is not None
    assert Path(found[1]).parent == project / "instance"
    assert Path(found[1]).read_bytes().startswith(b"\x89PNG")
    assert checked.wait(60) == 0, checked.tail()
    assert "Jobs can run: Redis at " in checked.logs()


_WITH_ROWS = """
from shop import create_app as create_shop
from shop.rows import db
from sqlalchemy import text


def create_app():
    app = create_shop()
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///shop.db"
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"connect_args": {"timeout": 0.5}}
    db.init_app(app)
    with app.app_context():
        db.create_all()
        db.session.execute(text("create table if not exists moves (job_id text, was text, became text)"))
        db.session.execute(text(
            "create trigger if not exists moved after update of job_state on render "
            "begin insert into moves values (new.job_id, old.job_state, new.job_state); end"
        ))
        db.session.commit()
    return app
"""

_ROWS = """
import sys, threading, time
from sqlalchemy import text
from tasks_bridge import JobState
from tasks_bridge.contrib.flask import NotYet
from tasks_bridge.contrib.flask.signals import announce
from tasks_bridge.events import Change
from tasks_bridge.recover import record_of
from tasks_bridge.models import RemoteTask
from shop.rows import Render, db, start
from with_rows import create_app

app = create_app()


def moves(job_id):
    found = db.session.execute(text("select was, became from moves where job_id = :id order by rowid"), {"id": job_id})
    return [tuple(one) for one in found]


def told(job_id, state, url=None):
    output = [{"type": "image", "url": url}] if url else []
    remote = RemoteTask(task_id="t", status=state.value.lower(), output=output)
    return Change(job_id, state, record_of(remote))


with app.app_context():
    row = start("a fox")
    ends_at = time.monotonic() + 60
    while row.job_state != "COMPLETED" and time.monotonic() < ends_at:
        time.sleep(0.05)
        db.session.expire_all()
    assert row.job_state == "COMPLETED", row.job_state
    assert row.picture_url.startswith("http"), row.picture_url
    steps = moves(row.job_id)
    assert steps[-1][1] == "COMPLETED" and len({was for was, _ in steps}) == len(steps), steps

    # late reports change nothing, and of many that come at once one moves the row
    for state in (JobState.QUEUED, JobState.RUNNING, JobState.COMPLETED, JobState.FAILED):
        announce(app, told(row.job_id, state))
    assert moves(row.job_id) == steps
    other = Render(prompt="a hare", job_id="other", job_state="QUEUED")
    db.session.add(other)
    db.session.commit()


def report():
    while True:
        try:
            return announce(app, told("other", JobState.COMPLETED, "https://cdn.example/hare.png"))
        except NotYet:
            pass  # SQLite has one writer at a time


threads = [threading.Thread(target=report) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
with app.app_context():
    assert moves("other") == [("QUEUED", "COMPLETED")], moves("other")
    urls = db.session.execute(db.select(Render.picture_url).where(Render.job_id == "other")).scalars()
    assert list(urls) == ["https://cdn.example/hare.png"]

    # a database that is away puts the end off
    lost = Render(prompt="a wolf", job_id="lost", job_state="RUNNING")
    db.session.add(lost)
    db.session.commit()
    with db.engine.connect() as holder:
        holder.exec_driver_sql("begin exclusive")
        try:
            announce(app, told("lost", JobState.FAILED))
        except NotYet as problem:
            print(problem)
        else:
            raise AssertionError("expected the end to wait")
    assert moves("lost") == []
print("all is as the page says")
"""


def test_rows_follow_their_jobs_as_the_page_says(terminal: Callable[..., LocalProcess], project: Path) -> None:
    (project / "with_rows.py").write_text(_WITH_ROWS)
    (project / "rows.py").write_text(_ROWS)
    options = ("worker", "-c", "1", "-l", "INFO")
    worker = terminal("celery", "-A", "tasks_bridge.contrib.flask", *options, FLASK_APP="with_rows")
    eventually(lambda: " ready." in worker.logs(), expected="the worker to have made the tables", show=worker.tail)

    followed = terminal("rows")

    assert followed.wait(90) == 0, f"{followed.tail()}\n{worker.tail()}"
    assert "all is as the page says" in followed.logs()
    # a row that nobody follows any more is found by its id
    told = terminal("flask", "bytespike", "reconcile", "--fail-lost", "lost", FLASK_APP="with_rows")
    assert told.wait(60) == 0, told.tail()
    assert "lost  ended: FAILED" in told.logs()


def test_celery_finds_the_module_of_the_page(terminal: Callable[..., LocalProcess]) -> None:
    report = terminal("celery", "-A", "shop.make_celery", "report", FLASK_APP="")

    assert report.wait(60) == 0, report.tail()


def test_under_an_asgi_server_pages_get_live_events(terminal: Callable[..., LocalProcess]) -> None:
    server = terminal("uvicorn", "shop.asgi:application", "--port", "0")

    with httpx.Client(base_url=address_of(server), follow_redirects=True, timeout=20) as browser:
        page = browser.post("/renders", data={"prompt": "a fox"})
        source, script = (part.partition('"')[0] for part in page.text.split('src="')[1:])
        assert browser.get(script).status_code == 200
        document = browser.get(source).json()
        with browser.stream("GET", httpx.URL(source).join(document["events_url"])) as events:
            data = next(line for line in events.iter_lines() if line.startswith("data: "))
            assert json.loads(data.removeprefix("data: "))["state"] == "QUEUED"
        assert browser.post(httpx.URL(source).join(document["cancel_url"])).status_code == 202
