"""``flask bytespike``: what it says of an application and its jobs, and what brings lost ones back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.cli import ScriptInfo

from tasks_bridge import Client, Job, generate
from tasks_bridge.contrib.flask.commands import bytespike
from tasks_bridge.sandbox import SandboxServer
from tests.flask import shop
from tests.flask.conftest import API_KEY, fails, heard, store_of
from tests.smoke.processes import LocalProcess, eventually


@pytest.fixture
def flask(app: Flask) -> Callable[..., Any]:
    """Call a command as the ``flask`` command does once it has found the application."""
    runner = app.test_cli_runner()

    def call(*arguments: str, stdin: str | None = None) -> Any:
        info = ScriptInfo(create_app=lambda: app, set_debug_flag=False)
        return runner.invoke(bytespike, list(arguments), obj=info, input=stdin)

    return call


@pytest.fixture
def waiting(app: Flask, namespace: str) -> str:
    """A job that is not submitted for a while."""
    with app.app_context():
        return str(generate.apply_async((shop.MODEL, shop.params()), task_id=namespace, countdown=600).id)


def submitted(sandbox: SandboxServer, job_id: str, **script: Any) -> str:
    """A task that ByteSpike has and nobody here remembers."""
    params = {"prompt": "a fox", "sandbox": {"duration_s": 0, "estimate_s": 1, **script}}
    with Client(API_KEY, sandbox.url) as client:
        client.submit(shop.MODEL, params, out_task_id=job_id)
        if script.get("duration_s", 0) == 0:
            eventually(lambda: client.query(out_task_id=job_id).is_terminal, expected="the remote task to end")
    return job_id


# -- status, cancel ---------------------------------------------------------------------------------------------------


def test_the_status_of_everything_and_of_single_jobs(flask: Callable[..., Any], waiting: str) -> None:
    overview = flask("status", "--json")
    assert (overview.exit_code, json.loads(overview.output)["open"] >= 1) == (0, True)
    assert " open, " in flask("status").output
    assert flask("status", waiting).output == f"{waiting}  QUEUED     0%\n"
    assert json.loads(flask("status", "--json", waiting).output)["state"] == "QUEUED"

    some = flask("status", waiting, "never-heard-of")
    assert some.exit_code == 1
    assert "never-heard-of  unknown" in some.output
    assert "Some of these jobs are unknown" in some.output


def test_cancel_asks_for_all_or_none(app: Flask, flask: Callable[..., Any], waiting: str) -> None:
    refused = flask("cancel", waiting, "never-heard-of")
    assert (refused.exit_code, "never-heard-of" in refused.output) == (1, True)
    assert store_of(app).get([waiting])[0].cancel is None

    asked = flask("cancel", waiting)
    assert (asked.exit_code, asked.output) == (0, f"{waiting}  is being cancelled\n")
    assert store_of(app).get([waiting])[0].cancel == "cancelled by flask bytespike"


@pytest.mark.parametrize("arguments", [("cancel",), ("reconcile",), ("statis",), ("status", "--jsn")])
def test_wrong_usage_is_exit_status_2(flask: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    called = flask(*arguments)

    assert called.exit_code == 2
    assert "Usage: " in called.output


# -- reconcile --------------------------------------------------------------------------------------------------------


def test_receivers_are_told_anew_of_jobs_that_redis_knows(app: Flask, flask: Callable[..., Any], waiting: str) -> None:
    called = flask("reconcile", "-", stdin=f"\n  {waiting} \n\n")

    assert (called.exit_code, called.output) == (0, f"{waiting}  known: QUEUED\n1 known\n")
    assert heard(app, waiting) == ["-> QUEUED"]


def test_what_only_bytespike_remembers_is_told_by_the_job_s_id(
    app: Flask, flask: Callable[..., Any], flask_sandbox: SandboxServer, namespace: str
) -> None:
    done = submitted(flask_sandbox, f"{namespace}-done")
    failed = submitted(flask_sandbox, f"{namespace}-failed", outcome="failed", error_code="content_policy_violation")
    going = submitted(flask_sandbox, f"{namespace}-going", duration_s=60)

    dry = flask("reconcile", "--dry-run", done, failed, going)
    assert (dry.exit_code, dry.output.splitlines()[-1]) == (0, "Would be: 3 recovered")
    assert heard(app, done) == []
    called = flask("reconcile", done, failed, going)

    assert (called.exit_code, called.output.splitlines()[-1]) == (0, "3 recovered")
    assert heard(app, done) == ["-> COMPLETED", "completed with 1 output, None"]
    assert heard(app, failed) == ["-> FAILED", "failed: content_policy_violation"]
    assert heard(app, going) in (["-> PENDING"], ["-> RUNNING"])


def test_what_nobody_knows_is_told_of_until_it_is_given_up(
    app: Flask, flask: Callable[..., Any], namespace: str
) -> None:
    lost = flask("reconcile", namespace)
    assert (lost.exit_code, "1 lost" in lost.output, heard(app, namespace)) == (1, True, [])
    assert store_of(app).get([namespace]) == [None], "expected nothing that may be paid for to be started"

    assert "1 ended" in flask("reconcile", "--fail-lost", "--dry-run", namespace).output
    assert heard(app, namespace) == []
    assert flask("reconcile", "--fail-lost", namespace).exit_code == 0
    assert heard(app, namespace) == ["-> FAILED", "failed: lost"]


def test_what_can_not_be_said_or_told_is_exit_status_1(
    app: Flask, flask: Callable[..., Any], flask_sandbox: SandboxServer, waiting: str
) -> None:
    flask_sandbox.fail("status", on="query", status=500)
    unknown = flask("reconcile", "--fail-lost", "never-heard-of")
    flask_sandbox.heal()
    assert (unknown.exit_code, "1 unknown" in unknown.output) == (1, True)

    fails(app, waiting, "QUEUED", "away")
    untold = flask("reconcile", waiting)
    assert (untold.exit_code, "untold: the database is away" in untold.output) == (1, True)


def test_a_mistake_in_the_call_is_found_before_anything_is_told(
    app: Flask, flask: Callable[..., Any], waiting: str
) -> None:
    bad_id = flask("reconcile", waiting, "no job's id")
    bad_key = flask("reconcile", "--key", "gone", waiting)

    assert (bad_id.exit_code, bad_key.exit_code) == (2, 1)
    assert "no ByteSpike API key 'gone'" in bad_key.output
    assert heard(app, waiting) == []


# -- check ------------------------------------------------------------------------------------------------------------


def told(environment: dict[str, str], celery: dict[str, Any] | None = None, **changes: Any) -> tuple[int, str]:
    """What the check says of an application with these settings."""
    settings = {"API_KEY": API_KEY, "REDIS_URL": environment["TESTS_REDIS"], **changes}
    app = Flask("checked")
    app.config.from_mapping(SECRET_KEY="x", TASKS_BRIDGE=settings, CELERY=celery or {})
    shop.bridge.init_app(app)
    info = ScriptInfo(create_app=lambda: app, set_debug_flag=False)
    called = app.test_cli_runner().invoke(bytespike, ["check"], obj=info)
    app.extensions["tasks-bridge"].bridge.store.client.close()
    return called.exit_code, called.output


LOCAL = {"BASE_URL": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    ("changes", "celery", "status", "said"),
    [
        ({}, {}, 0, "Jobs can run: Redis at "),
        ({"API_KEY": None}, {}, 1, "error: There is no ByteSpike API key"),
        ({"REDIS_URL": "redis://:hush@127.0.0.1:1/0"}, {}, 1, "error: Redis"),
        ({}, {"accept_content": ["pickle"]}, 1, "error: Celery's accept_content"),
        ({}, {"task_always_eager": True}, 0, "warning: task_always_eager"),
        ({}, {"task_time_limit": 5}, 0, "warning: task_time_limit is 5 s"),
        ({**LOCAL, "CALLBACK_BASE_URL": f"http://127.0.0.1:9{shop.PREFIX}/callback"}, {}, 0, "warning: The callbacks'"),
        ({**LOCAL, "CALLBACK_BASE_URL": "http://127.0.0.1:9/callback"}, {}, 1, f"which is at …{shop.PREFIX}/callback"),
    ],
)
def test_the_check_tells_what_is_wrong_and_fails_if_jobs_could_not_run(
    environment: dict[str, str], changes: dict[str, Any], celery: dict[str, Any], status: int, said: str
) -> None:
    code, output = told(environment, celery, **changes)

    assert (code, said in output) == (status, True), output
    assert ("Jobs can run" in output) == (code == 0)
    assert "hush" not in output


def test_a_redis_that_evicts_fails_the_check(app: Flask, environment: dict[str, str]) -> None:
    client = store_of(app).client
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        code, output = told(environment)
    finally:
        client.config_set("maxmemory-policy", "noeviction")

    assert (code, "error: " in output) == (1, True)


# -- as processes -----------------------------------------------------------------------------------------------------


def test_the_flask_command_has_the_commands_and_finds_the_application(run: Callable[..., LocalProcess]) -> None:
    listed, checked = run("flask", "bytespike", "--help"), run("flask", "bytespike", "check")

    assert (listed.wait(60), checked.wait(60)) == (0, 0), checked.tail()
    for name in ("cancel", "check", "reconcile", "status"):
        assert f"\n  {name} " in listed.logs()
    assert "Jobs can run" in checked.logs()


def test_a_setting_that_is_wrong_is_one_line_and_exit_status_1(run: Callable[..., LocalProcess]) -> None:
    wrong = run("flask", "bytespike", "check", TASKS_BRIDGE_POL_MIN_S="2")

    assert wrong.wait(60) == 1
    assert "did you mean TASKS_BRIDGE_POLL_MIN_S" in wrong.logs()
    assert "Traceback" not in wrong.logs()


def test_an_application_without_the_extension_is_told_so(run: Callable[..., LocalProcess], tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text("from flask import Flask\n\napp = Flask('plain')\n")

    plain = run("flask", "bytespike", "status", cwd=tmp_path, FLASK_APP="plain")

    assert plain.wait(60) == 1
    assert "call TasksBridge(app)" in plain.logs()
    assert "Traceback" not in plain.logs()


def test_every_command_is_on_the_page_and_no_other() -> None:
    page = (Path(__file__).parents[2] / "docs/flask.md").read_text()
    listed = {line.split("`")[1].split()[2] for line in page.splitlines() if line.startswith("| `flask bytespike ")}

    assert listed == set(bytespike.commands)


def test_a_job_s_handle_cancels_outside_of_a_request(app: Flask, waiting: str) -> None:
    with app.app_context():
        assert Job(waiting).cancel()
