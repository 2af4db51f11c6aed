"""What an application checks before it starts can be checked in its tests as well."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.plugin.test_page import DJANGO

Project = Callable[..., pytest.RunResult]

DJANGO_TEST = """
import io

from django.core.management import call_command


def test_the_project_is_in_order(bytespike):
    said = io.StringIO()
    call_command("check", fail_level="WARNING", stdout=said, stderr=said)
    assert "no issues" in said.getvalue()


def test_what_redis_holds_can_be_asked(bytespike, db):
    said = io.StringIO()
    call_command("bytespike_status", stdout=said)
    assert "this process's memory" in said.getvalue()
"""

OVERRULED = {
    "shop/__init__.py": """
from celery import Celery
from pydantic import SecretStr
from tasks_bridge import Settings, install

app = Celery("shop", broker="redis://localhost:1/0", backend="redis://localhost:1/0")
install(app, Settings(api_key=SecretStr("sk-byts-other")))
""",
    "test_project.py": """
import io

from django.core.management import call_command


def test_two_settings_are_one_too_many(bytespike):
    said = io.StringIO()
    call_command("check", stdout=said, stderr=said)
    assert "tasks_bridge.W002" in said.getvalue()
""",
}

FLASK_TEST = """
import pytest
from flask import Flask

from tasks_bridge.contrib.flask import TasksBridge
from tasks_bridge.contrib.flask.commands import bytespike as commands

bridge = TasksBridge()


@pytest.fixture
def app(bytespike):
    app = Flask("shop")
    app.config.update(SECRET_KEY="test", TASKS_BRIDGE={"REDIS_URL": "redis://localhost:1/0"})
    bridge.init_app(app)
    return app


@pytest.mark.parametrize("command", ["check", "status"])
def test_the_app_is_in_order(app, command):
    ran = app.test_cli_runner().invoke(commands, [command])
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert "this process's memory" in ran.output
"""


def test_a_django_project_is_checked_in_its_tests(project: Project) -> None:
    files = {"renders/receivers.py": "", "test_project.py": DJANGO_TEST}

    ran = project({**DJANGO, **files}, "-p", "pytest_django.plugin")

    ran.assert_outcomes(passed=2)


def test_a_project_that_calls_install_itself_is_told_that_its_settings_have_no_effect(project: Project) -> None:
    files = {"renders/receivers.py": "", **OVERRULED}

    project({**DJANGO, **files}, "-p", "pytest_django.plugin").assert_outcomes(passed=1)


def test_a_flask_app_is_checked_in_its_tests(project: Project) -> None:
    ran = project({"test_app.py": FLASK_TEST})

    ran.assert_outcomes(passed=2)
