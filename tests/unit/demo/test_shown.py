"""What the demo puts on the screen fits it, and what it lets in from outside is little."""

from __future__ import annotations

import io
import os

from rich.console import Console

from tasks_bridge.demo.report import LEGEND, table
from tasks_bridge.demo.story import Story
from tasks_bridge.demo.surroundings import bare, environment
from tasks_bridge.demo.verdict import Outcome
from tasks_bridge.record import JobState


def shown(*things, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for thing in things:
        console.print(thing)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def outcome(**members) -> Outcome:
    known = {
        "name": "changed-mind",
        "expected": JobState.CANCELLED,
        "state": JobState.CANCELLED,
        "expected_callback": "failure",
        "callbacks": ["failure"],
        "remote_tasks": 1,
        "polls": 12,
        "took_s": 113.04,
        "credits": 10.5,
        "lag_s": 10.31,
    }
    return Outcome(**{**known, **members})


def test_the_table_fits_80_columns_with_nothing_cut_off():
    text = shown(table([outcome()] * 11))

    assert "…" not in text
    assert max(len(line) for line in [*text.splitlines(), LEGEND]) <= 80
    assert text.count("changed-mind  CANCELLED     12    113.0    10.50    10.3      1          1") == 11
    assert "132" in text.splitlines()[-2], "expected the sum of the polls at the foot"


def test_what_is_not_known_leaves_its_place_empty():
    text = shown(table([outcome(state=None, took_s=None, credits=None, lag_s=None, callbacks=[], remote_tasks=0)]))

    assert "changed-mind  lost" in text
    assert "None" not in text


def test_a_story_is_wrapped_under_its_time():
    console = Console(file=io.StringIO(), width=200, color_system=None)
    Story(console).tell("word " * 30)
    assert isinstance(console.file, io.StringIO)
    first, second, *_ = console.file.getvalue().splitlines()

    assert first.startswith("  0.0 s  word")
    assert second.startswith("         word")
    assert max(len(first), len(second)) <= 80


def test_no_setting_of_the_user_reaches_the_demo(monkeypatch):
    for name in (
        "BYTESPIKE_API_KEY",
        "TASKS_BRIDGE_POLL_MIN_S",
        "CELERY_BROKER_URL",
        "BROKER_URL",
        "APP",
        "REDIS_URL",
        "DJANGO_SETTINGS_MODULE",
        "HTTPS_PROXY",
        "PYTHONWARNINGS",
    ):
        monkeypatch.setenv(name, "the user's")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")

    assert "the user's" not in bare(os.environ).values()
    assert {"PATH", "LC_ALL"} <= bare(os.environ).keys()


def test_the_environment_is_put_back(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "the user's")
    before = dict(os.environ)
    with environment({"BYTESPIKE_API_KEY": "the demo's"}):
        assert os.environ["BYTESPIKE_API_KEY"] == "the demo's"
        assert "REDIS_URL" not in os.environ

    assert dict(os.environ) == before
