"""What the pages say is so: links lead somewhere, snippets work, and every table is the code's."""

from __future__ import annotations

import ast
import dataclasses
import fnmatch
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import typer
from pydantic import SecretStr

import tasks_bridge
import tasks_bridge.testing
from tasks_bridge import errors, steps
from tasks_bridge.cli import cli
from tasks_bridge.errors import BridgeError
from tasks_bridge.models import RemoteStatus, RemoteTask
from tasks_bridge.record import OPEN_STATES, JobRecord, JobState, RecordedError
from tasks_bridge.sandbox import script
from tasks_bridge.settings import Settings
from tasks_bridge.steps import Action, View
from tests.faults import crash

ROOT = Path(__file__).parents[2]
EXAMPLES = [*ROOT.glob("examples/*.md"), *ROOT.glob("examples/*/*.md")]
PAGES = sorted([*ROOT.glob("*.md"), *EXAMPLES, *(ROOT / "docs").rglob("*.md")])

KNOWN_HOSTS = {
    "llm.bytespike.ai",
    "127.0.0.1",
    "localhost",
    "sandbox",
    "cdn.example",
    "keepachangelog.com",
    "semver.org",
}

_FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
_PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


def name_of(path: Any) -> str:
    return str(path.relative_to(ROOT)) if isinstance(path, Path) else ""


def prose(path: Path) -> str:
    """The page without its code blocks."""
    return _FENCE.sub("", path.read_text())


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(prose(path)))
    return {heading.replace(" ", "-") for heading in plain}


def snippets(language: str) -> list[Any]:
    """The code blocks in a language, each with the words behind its name."""
    found = []
    for path in PAGES:
        for number, match in enumerate(_FENCE.finditer(path.read_text()), start=1):
            words = match["info"].split()
            if words[:1] == [language]:
                found.append(pytest.param(match["code"], words[1:], id=f"{name_of(path)}:{number}"))
    return found


def tables(path: Path) -> Iterator[list[list[str]]]:
    """The tables of a page: rows of cells, the header first."""
    for block in re.findall(r"(?:^\|.*\|\n)+", prose(path), re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        yield [rows[0], *rows[2:]]


def table(path: Path, first_header: str) -> list[list[str]]:
    """The rows of all tables on the page whose first column has this header."""
    found = [row for rows in tables(path) if rows[0][0] == first_header for row in rows[1:]]
    assert found, f"expected a table {first_header!r} in {name_of(path)}"
    return found


def coded(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def column(path: Path, first_header: str) -> list[str]:
    """The names in the first column of a table."""
    return [name for row in table(path, first_header) for name in coded(row[0])]


# -- every page -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    lost = []
    for link in _LINK.findall(prose(path)):
        target, _, anchor = link.partition("#")
        if ":" in target:
            continue
        file = (path.parent / target).resolve() if target else path
        if not file.exists() or (anchor and anchor not in anchors(file)):
            lost.append(link)

    assert not lost, f"expected the links in {name_of(path)} to lead somewhere: {lost}"


def test_every_page_is_in_a_table_of_contents_of_the_site() -> None:
    index = ROOT / "docs/index.md"
    contents = [match["code"] for match in _FENCE.finditer(index.read_text()) if match["info"] == "{toctree}"]
    entries = [
        os.path.normpath(index.parent / re.sub(r".*<(.+)>$", r"\1", line))
        for text in contents
        for line in text.splitlines()
        if line and not line.startswith(":")
    ]
    pages = [str(path.with_suffix("")) for path in PAGES if path != index]

    lost = [page for page in pages if not any(fnmatch.fnmatchcase(page, entry) for entry in entries)]
    assert not lost, f"add these pages to one of the tables of contents in docs/index.md: {lost}"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_picture_is_there_and_says_what_it_shows(path: Path) -> None:
    for words, target in _PICTURE.findall(prose(path)):
        assert (path.parent / target).is_file(), f"expected the picture {target} of {name_of(path)}"
        assert len(words) > 10, f"expected {name_of(path)} to say what is on {target}"


def test_every_picture_of_the_pages_is_shown_on_one() -> None:
    shown = {(path.parent / target).resolve() for path in PAGES for _, target in _PICTURE.findall(prose(path))}

    assert {path.name for path in (ROOT / "docs/img").iterdir()} == {path.name for path in shown}


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_no_page_sends_its_readers_to_unknown_hosts(path: Path) -> None:
    hosts = set(re.findall(r"https?://([a-z0-9.-]+)", path.read_text()))

    assert hosts <= KNOWN_HOSTS


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_test_command_and_target_that_is_named_exists(path: Path) -> None:
    text = path.read_text()
    tests = "\n".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = set(getattr(typer.main.get_command(cli), "commands", {}))
    code = "\n".join([*coded(prose(path)), *(match["code"] for match in _FENCE.finditer(text))])

    named_targets = {
        word for words in re.findall(r"^make((?: [a-z-]+)+)", code, re.MULTILINE) for word in words.split()
    }
    assert {name for name in coded(prose(path)) if name.startswith("test_") and f"def {name}(" not in tests} == set()
    assert named_targets - targets == set()
    assert set(re.findall(r"^tasks-bridge ([a-z]+)", code, re.MULTILINE)) - commands == set()


@pytest.mark.parametrize(("code", "words"), snippets("python"))
def test_every_python_snippet_compiles_and_imports_what_there_is(code: str, words: list[str]) -> None:
    tree = ast.parse(code)
    for module in (tasks_bridge, tasks_bridge.testing):
        imported = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == module.__name__
            for alias in node.names
        }
        assert imported - set(module.__all__) == set()


@pytest.mark.parametrize(("code", "words"), [case for case in snippets("python") if "run" in case.values[1]])
def test_snippets_that_say_so_run(
    code: str, words: list[str], tmp_path: Path, request: pytest.FixtureRequest, namespace: str
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BYTESPIKE_API_KEY": "sk-byts-docs"}
    environment["TASKS_BRIDGE_NAMESPACE"] = namespace
    if "redis" in words:
        # a database of its own: the messages are for a worker that never comes
        url = request.getfixturevalue("redis_url").rpartition("/")[0] + "/15"
        request.addfinalizer(lambda: redis.Redis.from_url(url).flushdb())
        code = code.replace("redis://localhost:6379/0", url)
    file = tmp_path / "snippet.py"
    file.write_text(code)

    ran = subprocess.run(
        [sys.executable, file], env=environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert ran.returncode == 0, f"expected the snippet to run:\n{ran.stdout}{ran.stderr}"


# -- settings ---------------------------------------------------------------------------------------------------------


def shown(value: object) -> str:
    """A default as the page shows it."""
    if value is None:
        return "none"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def test_every_setting_is_on_its_page_with_its_default_and_no_other_is() -> None:
    rows = table(ROOT / "docs/settings.md", "Name")
    documented = {coded(row[0])[0]: row[1] for row in rows}
    actual = {}
    for name, field in Settings.model_fields.items():
        prefix = "BYTESPIKE_" if name in ("api_key", "api_keys", "base_url") else "TASKS_BRIDGE_"
        actual[f"{prefix}{name}".upper()] = shown(field.default)

    assert documented == actual


def test_every_setting_has_its_unit_and_a_reason() -> None:
    for name, _, unit, reason in table(ROOT / "docs/settings.md", "Name"):
        assert (unit == "s") == coded(name)[0].endswith("_S"), f"expected the unit of {name} to fit its name"
        assert len(reason) > 20, f"expected a reason for {name}"


# -- states -----------------------------------------------------------------------------------------------------------

STATES = ROOT / "docs/states.md"

_RECORD = JobRecord(version=1, model="m", key="default", digest="d", created_at=0.0)
_ACCEPTED = {"remote": {"task_id": "t", "status": "pending"}, "submitted_at": 1.0}
_AFTER = {
    Action.SUBMIT: steps.after_submit,
    Action.LOOKUP: steps.after_lookup,
    Action.QUERY: steps.after_query,
    Action.CANCEL: steps.after_cancel,
}


def answers() -> Iterable[RemoteTask | BridgeError]:
    """One of each that ByteSpike may give."""
    for status in (*RemoteStatus, "queued", "unheard-of"):
        yield RemoteTask(task_id="t", status=status)
    for code, refusal in {
        "internal_error": errors.ServerError,
        "invalid_api_key": errors.AuthenticationError,
        "permission_denied": errors.PermissionDenied,
        "task_not_found": errors.NotFound,
        "not_found": errors.NotFound,
        "invalid_param": errors.BadRequest,
        "duplicate_out_task_id": errors.Conflict,
        "insufficient_balance": errors.InsufficientBalance,
        "rate_limit_exceeded": errors.RateLimited,
    }.items():
        yield refusal("", 400, code)
    yield errors.BadRequest("", 400)
    yield errors.ApiConnectionError("refused")
    yield errors.ApiTimeout("late")
    yield errors.ApiResponseError("garbage")
    yield errors.SettingsError("no key")


def decisions(view: View) -> Iterator[tuple[str, JobState]]:
    """The decisions about a job in this situation, and the state each leads to."""
    action = steps.next_action(view)
    if action is Action.DROP:
        yield steps.dropped.__name__, steps.dropped(view).state
        return
    if action is Action.SUBMIT:
        refusal = errors.SpendLimitReached(view.job_id, "all", 1.0, 1.0, 1.0)
        yield steps.over_limit.__name__, steps.over_limit(view, refusal).state
    if action in steps.REQUESTS:
        yield steps.held_back.__name__, steps.held_back(view, action, 1.0).state
    for answer, elapsed_s in itertools.product(answers(), (0.0, 60.0)):
        decide = _AFTER[action]
        yield decide.__name__, decide(view.at(view.now + elapsed_s), answer).state


def arrows() -> dict[tuple[JobState, JobState], set[str]]:
    """Every change of state that the decisions make, with the decisions that make it."""
    found: dict[tuple[JobState, JobState], set[str]] = {}
    refusals = (None, RecordedError(name="BadRequest", args=["", 400, "invalid_param", None]))
    for state, is_sent, cancel, now, on_insufficient_balance, refusal, submit_by in itertools.product(
        sorted(OPEN_STATES),
        (False, True),
        (None, "asked for"),
        (2.0, 350.0, 901.0, 1300.0),
        ("fail", "wait"),
        refusals,
        (None, 100.0),
    ):
        settings = Settings(api_key=SecretStr("k"), on_insufficient_balance=on_insufficient_balance)
        is_queued = state is JobState.QUEUED
        known = {"refusal": refusal, "submit_by": submit_by} if is_queued else _ACCEPTED
        record = _RECORD.but(**known, ending_at=2.0)
        view = View("job", state, record, cancel, is_sent or not is_queued, now, settings, 0.5)
        for name, target in decisions(view):
            if target is not state:
                found.setdefault((state, target), set()).add(name)
    return found


def test_every_arrow_is_on_the_page_and_no_other() -> None:
    documented = {
        (JobState(coded(row[0])[0]), JobState(coded(row[1])[0])): set(coded(row[2])) for row in table(STATES, "From")
    }

    assert documented == arrows()


def test_the_diagram_has_the_arrows_of_the_table() -> None:
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)$", STATES.read_text(), re.MULTILINE))

    assert drawn == {(coded(row[0])[0], coded(row[1])[0]) for row in table(STATES, "From")}


def test_every_state_is_on_the_page_with_its_name_in_celery() -> None:
    assert {coded(row[0])[0]: coded(row[2])[0] for row in table(STATES, "State")} == {
        state.value: state.celery_state for state in JobState
    }


# -- names, errors, parts ---------------------------------------------------------------------------------------------


def test_every_public_name_has_its_line_in_the_reference() -> None:
    names = column(ROOT / "docs/reference.md", "Name")

    assert sorted(names) == sorted(tasks_bridge.__all__)


def test_every_name_for_tests_has_its_row() -> None:
    rows = table(ROOT / "docs/testing.md", "In `tasks_bridge.testing`")
    documented = {coded(row[0])[0].partition("(")[0] for row in rows}

    assert documented == set(tasks_bridge.testing.__all__) - {"FastClock", "Submit"}


def test_every_part_of_the_fixture_has_its_row() -> None:
    from tasks_bridge.testing.bytespike import ByteSpike

    rows = table(ROOT / "docs/testing.md", "Of `bytespike`")
    documented = {coded(row[0])[0].partition("(")[0] for row in rows}
    public = {name for name in {**vars(ByteSpike), **ByteSpike.__annotations__} if not name.startswith("_")}

    assert documented == public - {"find", "entry", "next_at"}


def test_the_tree_of_errors_on_the_page_is_that_of_the_classes() -> None:
    page = (ROOT / "docs/errors.md").read_text()
    tree = next(match["code"] for match in _FENCE.finditer(page) if match["info"] == "text")
    assert errors.__doc__
    in_code = errors.__doc__.partition("```text\n")[2].partition("```")[0]
    # of each line, the branch and the name; the classes are compared with the docstring's tree elsewhere
    branches = [re.match(r"[│├└─ ]*\w+", line) for line in in_code.splitlines()]

    assert tree.splitlines() == [branch[0] for branch in branches if branch]


def test_every_error_that_is_raised_has_its_row() -> None:
    parents = {"BridgeError", "ApiError", "ApiStatusError", "JobError", "OutputError"}

    assert set(column(ROOT / "docs/errors.md", "Error")) == set(errors.__all__) - parents


def test_every_module_is_in_the_list_of_parts() -> None:
    package = ROOT / "tasks_bridge"
    modules = {path.stem for path in package.glob("*.py")} | {
        path.parent.name for path in package.glob("*/__init__.py")
    }

    named = {name.rstrip("/") for row in table(ROOT / "docs/design.md", "Module") for name in coded(row[0] + row[1])}

    assert modules - {"__init__"} - named == set()


# -- sandbox ----------------------------------------------------------------------------------------------------------

SANDBOX = ROOT / "docs/sandbox.md"


def test_every_member_of_a_script_is_on_the_page() -> None:
    script_members, fault_members = [
        [coded(row[0])[0] for row in rows[1:]] for rows in tables(SANDBOX) if rows[0][0] == "Member"
    ]
    implied = {"has_estimate", "has_estimated_credits"}  # null in the script

    assert sorted(script_members) == sorted({f.name for f in dataclasses.fields(script.Script)} - implied)
    assert sorted(fault_members) == sorted(f.name for f in dataclasses.fields(script.Fault))


def test_every_kind_of_fault_is_on_the_page() -> None:
    assert column(SANDBOX, "`kind`") == list(script.KINDS)


def test_every_option_of_the_sandbox_is_on_the_page_with_its_default() -> None:
    command = getattr(typer.main.get_command(cli), "commands", {})["sandbox"]
    actual = {option.opts[0]: option.default for option in command.params}
    documented = {coded(row[0])[0]: row[1] for row in table(SANDBOX, "Option")}

    assert documented.keys() == actual.keys()
    assert {name: text for name, text in documented.items() if actual[name] is not None} == {
        name: f"`{default}`" for name, default in actual.items() if default is not None
    }


# -- crashes ----------------------------------------------------------------------------------------------------------


def test_every_step_at_which_a_crash_is_tested_is_on_the_page_and_no_other() -> None:
    documented = {(row[0].partition(",")[0], row[1]) for row in table(ROOT / "docs/reliability.md", "Step")}

    assert documented == {(step.name, step.where) for step in crash.ALL_STEPS}


# -- benchmarks --------------------------------------------------------------------------------------------------------


def test_the_comparison_has_the_figures_of_the_benchmarks() -> None:
    measured = {cell for rows in tables(ROOT / "docs/benchmarks.md") for row in rows for cell in row}
    compared = next(rows for rows in tables(ROOT / "docs/comparison.md") if rows[0][1] == "plain Celery")
    figures = [cell.partition(", which")[0] for row in compared[1:] for cell in row[1:]]

    assert len(figures) > 10
    assert [figure for figure in figures if figure not in measured] == []


# -- decisions and guarantees -----------------------------------------------------------------------------------------


def test_every_decision_is_listed_and_says_what_a_record_must() -> None:
    folder = ROOT / "docs/decisions"
    records = sorted(folder.glob("[0-9]*.md"))
    listed = _LINK.findall((folder / "README.md").read_text())

    assert listed == [path.name for path in records]
    assert [path.name[:4] for path in records] == [f"{number:04}" for number in range(1, len(records) + 1)]
    for path in records:
        said = re.findall(r"^\*\*(\w+)[:.]\*\*", path.read_text(), re.MULTILINE)
        assert said == ["Status", "Context", "Decision", "Consequences"], f"expected these parts in {name_of(path)}"


def test_every_guarantee_names_what_it_rests_on_and_its_tests() -> None:
    parts = re.split(r"^### (G\d): ", (ROOT / "docs/guarantees.md").read_text(), flags=re.MULTILINE)[1:]
    guarantees = dict(zip(parts[::2], parts[1::2], strict=True))

    assert list(guarantees) == [f"G{number}" for number in range(1, 9)]
    for name, text in guarantees.items():
        assert "*Rests on:*" in text, f"expected {name} to say what it rests on"
        assert re.search(r"\*Tests:\* `test_", text), f"expected {name} to name its tests"
