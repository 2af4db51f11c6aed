"""The command line where it needs no server: help, usage, and how errors are told."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

import tasks_bridge
from tasks_bridge import InvalidRequest, SettingsError
from tasks_bridge.cli import Commands, cli
from tasks_bridge.cli.follow import described
from tasks_bridge.cli.submit import _parse_params
from tasks_bridge.record import JobRecord, JobState, RecordedError
from tasks_bridge.store import Entry

COMMANDS = sorted(command.callback.__name__ for command in cli.registered_commands if command.callback)


def run(*arguments: str, **options):
    return CliRunner().invoke(cli, list(arguments), prog_name="tasks-bridge", **options)


def entry(state: JobState = JobState.RUNNING, **record) -> Entry:
    known = {
        "version": 1,
        "model": "sora-2",
        "key": "default",
        "digest": "d",
        "created_at": 1000.0,
        "starts_at": 1000.0,
    }
    return Entry("job-1", state, JobRecord(**{**known, **record}), None, 1012.0, 1010.0)


def test_the_version_is_printed():
    result = run("--version")

    assert (result.exit_code, result.output) == (0, f"tasks-bridge {tasks_bridge.__version__}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_examples(command):
    result = run(command, "--help", env={"COLUMNS": "100"})

    assert result.exit_code == 0
    assert f"tasks-bridge {command}" in result.output.partition("Examples")[2], "expected an example of the command"


def test_no_command_is_wrong_usage_with_the_list_of_commands():
    result = run()

    assert result.exit_code == 2
    assert all(command in result.output for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["status"], "ID"),
        (["nonsense"], "nonsense"),
        (["submit", "sora-2", "-p", "{"], "--params"),
        (["submit", "sora-2", "-p", "[1]"], "must be a JSON object"),
        (["submit", "sora-2", "-p", "@/no/such/file"], "No such file"),
        (["status", "a", "-A", "no_such_module:app"], "no_such_module"),
        (["sandbox", "--speed", "0"], "above 0"),
        (["sandbox", "--port", "70000"], "65535"),
    ],
)
def test_wrong_usage_is_told_and_ends_with_2(arguments, said):
    result = run(*arguments, env={"COLUMNS": "200"})

    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(("error", "status"), [(SettingsError("No."), 1), (InvalidRequest("Wrong."), 2)])
def test_an_error_of_ours_is_one_line_on_stderr(error, status):
    broken = typer.Typer(cls=Commands)

    @broken.callback()
    def options() -> None: ...

    @broken.command()
    def fail() -> None:
        raise error

    result = CliRunner().invoke(broken, ["fail"])

    assert (result.exit_code, result.stdout, result.stderr) == (status, "", f"tasks-bridge: {error}\n")


def test_a_wrong_setting_is_told_without_traceback_and_without_secrets():
    environment = {"TASKS_BRIDGE_POLL_MIN_S": "soon", "BYTESPIKE_API_KEY": "sk-byts-hush"}
    result = run("status", "job-1", env=environment)

    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "POLL_MIN_S" in result.stderr.upper()
    assert "hush" not in result.output


@pytest.mark.parametrize("form", ["text", "file", "stdin"])
def test_params_come_as_text_from_a_file_or_from_standard_input(form, tmp_path, monkeypatch):
    text = json.dumps({"prompt": "a fox ü"})
    file = tmp_path / "params.json"
    file.write_text(text, encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO(text))

    assert _parse_params({"text": text, "file": f"@{file}", "stdin": "-"}[form]) == {"prompt": "a fox ü"}


def test_a_running_job_for_programs():
    remote = {"task_id": "t-1", "status": "running", "estimated_seconds": 20}
    found = described(entry(remote=remote, submitted_at=1000.0, estimated_s=20.0, polls=3))

    assert found == {
        "id": "job-1",
        "status": "RUNNING",
        "state": "RUNNING",
        "model": "sora-2",
        "key": "default",
        "progress": 0.45,
        "polls": 3,
        "eta_s": 10.0,
        "next_poll_s": 2.0,
        "remote": remote,
    }


def test_a_failed_job_for_programs_says_why():
    failed = entry(JobState.FAILED, error=RecordedError(name="AuthenticationError", args=["no such key", 401]))

    assert described(failed)["error"] == {
        "type": "AuthenticationError",
        "message": "ByteSpike answered HTTP 401: no such key. Check the API key.",
    }


def test_it_runs_as_a_module_and_leaves_the_heavy_parts_to_the_commands():
    program = (
        "import sys; sys.argv = ['tasks-bridge', '--version']\n"
        "from tasks_bridge import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'aiohttp.web', *(f'tasks_bridge.{name}' for name in ('demo', 'embedded', 'live', 'sandbox'))}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == f"tasks-bridge {tasks_bridge.__version__}\n[]\n"
