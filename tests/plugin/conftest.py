"""Projects of users, whose tests run in sessions of pytest of their own, with the plugin as it is installed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/testing.md"

_FILES = re.compile(r"^```python file=(?P<path>\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)

NO_SLEEP = """
import time

import pytest


@pytest.fixture(autouse=True)
def nobody_sleeps(monkeypatch):
    def refuse(seconds):
        raise AssertionError(f"somebody sleeps for {seconds} s")

    monkeypatch.setattr(time, "sleep", refuse)
"""


def of_page() -> dict[str, str]:
    """The files of the page on testing, by their path."""
    return {match["path"]: match["text"] for match in _FILES.finditer(PAGE.read_text())}


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """
    Write files, by their path, and run their tests; every warning is an error.

    Other plugins that are installed here cost two seconds: they are left out, unless all are to be as *installed*.
    """

    def run(files: dict[str, str], *options: str, installed: bool = False) -> pytest.RunResult:
        if not installed:
            monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
            options = ("-p", "tasks_bridge.testing.plugin", *options)
        for path, text in files.items():
            file = pytester.path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider", *options, timeout=60)

    return run


def number_of_tests(text: str) -> int:
    """How many tests there are in a file."""
    return len(re.findall(r"^ *def test_", text, re.MULTILINE))
