"""The tool that breaks our code to test our tests: it notices what they notice, and what they don't."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.mutants.__main__ import part_of
from tools.mutants.of_lua import mutants_of_lua
from tools.mutants.of_python import mutants_of_python

ROOT = Path(__file__).parents[2]

CODE = '''
"""Left alone, as are annotations and messages: 1 + 1."""


def _limit() -> int:
    return 3


LIMIT = _limit()


def clamp(value: int) -> int:
    while value > LIMIT:
        value -= 1
    return value


def is_small(value: int) -> bool:
    return value < 10
'''
TESTS = """
from code_under_test import clamp, is_small


def test_both():
    assert [clamp(value) for value in (2, 3, 4)] == [2, 3, 3]
    assert is_small(9)
    assert not is_small(11)
"""
PAGE = """
## `code_under_test.py`

- `is_small`: `return value < 10` → `return value <= 10`. Nobody asks for 10.
- `is_small`: `return value < 10` → `return value > 10`. Explained, but no mutant.

## `other.py`

- `is_small`: `return value < 10` → `return value < 11`. Explained, but for another file.
"""


FILES = {
    # as in this project, where several processes share the tests unless told otherwise
    "pytest.ini": "[pytest]\npythonpath = .\naddopts = --numprocesses=2\n",
    "code_under_test.py": CODE,
    "test_it.py": TESTS,
    "docs/mutants.md": PAGE,
}


def run(tree: Path, files: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """Run the tool in *tree* on one of *files*."""
    (tree / "docs").mkdir()
    for name, text in files.items():
        (tree / name).write_text(text)
    command = [sys.executable, "-m", "tools.mutants", "code_under_test.py", "--tests", "test_it.py", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, check=False, cwd=tree, env=environment, capture_output=True, text=True, timeout=100)


def test_survivors_are_found_shown_and_compared_with_what_is_explained_and_only_a_copy_is_changed(
    tmp_path: Path,
) -> None:
    answer = run(tmp_path, FILES, "--slack", "3")

    shown = answer.stdout + answer.stderr
    assert answer.returncode == 1, shown
    assert "  explained: line 19: `is_small`: `return value < 10` → `return value <= 10`\n" in shown
    assert "  SURVIVED: line 19: `is_small`: `return value < 10` → `return value < 11`\n" in shown
    assert "  EXPLAINED, BUT NO SURVIVOR: `is_small`: `return value < 10` → `return value > 10`\n" in shown
    assert "  timeout: line 14: `clamp`: `value -= 1` → `value += 1`\n" in shown
    # the loop that doesn't end is a timeout; `clamp` is noticed in place, and `_limit` only by a fresh import
    assert "| `code_under_test.py` | 9 | 7 | 1 | 1 | 2 |\n" in shown
    assert {name: (tmp_path / name).read_text() for name in FILES} == FILES


def test_a_part_of_the_mutants_can_be_tried_and_says_nothing_of_what_others_explain(tmp_path: Path) -> None:
    answer = run(tmp_path, {**FILES, "code_under_test.py": CODE.replace("while", "if")}, "--part", "3/3")

    shown = answer.stdout + answer.stderr
    assert answer.returncode == 0, shown
    assert "code_under_test.py: 3 mutants\n" in shown
    assert "NO SURVIVOR" not in shown


@pytest.mark.parametrize("arguments", ["cadence nonsense", "nonsense --tests test_it.py", "tasks_bridge --tests x"])
def test_a_file_that_there_is_not_is_an_error_that_says_which_there_are(arguments: str) -> None:
    command = [sys.executable, "-m", "tools.mutants", *arguments.split()]
    answer = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert (answer.returncode, answer.stdout) == (2, "")
    assert re.search(r"error: no such file: (nonsense|tasks_bridge); ", answer.stderr)
    assert "tasks_bridge/store/lua/claim.lua" in answer.stderr


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "/2", "1/", "1/0", "-1/2", "a/b", "1/2/3"])
def test_a_part_is_one_of_as_many_as_there_are(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"not K/N with K from 1 to N, such as 2/5"):
        part_of(text)


def test_python_is_changed_where_it_decides_and_not_in_its_words() -> None:
    source = '''
class A:
    """Docstring."""

    async def act(self, text: Literal["a"]) -> None:
        try:
            names = [name for name in text if name not in ("x", "for people")]
        except (ValueError, KeyError):
            raise Error(f"{text}-1") from None
        self.names = names and not text
'''
    names = "names = [name for name in text if name not in ('x', 'for people')]"

    assert [(mutant.line, mutant.label) for mutant in mutants_of_python(source)] == [
        (7, f"`A.act`: `{names}` → `names = [name for name in text]`"),
        (7, f"`A.act`: `{names}` → `names = [name for name in text if name in ('x', 'for people')]`"),
        (7, f"`A.act`: `{names}` → `names = [name for name in text if name not in ('xx', 'for people')]`"),
        (8, "`A.act`: `except (ValueError, KeyError):` → `except (KeyError,):`"),
        (8, "`A.act`: `except (ValueError, KeyError):` → `except (ValueError,):`"),
        (9, "`A.act`: `raise Error(f'{text}-1') from None` → `pass`"),
        (10, "`A.act`: `self.names = names and (not text)` → `pass`"),
        (10, "`A.act`: `self.names = names and (not text)` → `self.names = names or not text`"),
        (10, "`A.act`: `self.names = names and (not text)` → `self.names = names and bool(text)`"),
    ]


def test_lua_is_changed_line_by_line_and_comments_are_not() -> None:
    source = """
-- a == b
local due = now + 1
if due <= now and phase == LEASED then
  schedule('x')
  job.claims, left = 0, left
end
"""

    condition = "if due <= now and phase == LEASED then"
    assert [mutant.label for mutant in mutants_of_lua(source)] == [
        "`local due = now + 1` → `local due = now - 1`",
        "`local due = now + 1` → `local due = now + 7`",
        f"`{condition}` → `if due <= now and phase ~= LEASED then`",
        f"`{condition}` → `if due < now and phase == LEASED then`",
        f"`{condition}` → `if due <= now or phase == LEASED then`",
        f"`{condition}` → `if due <= now and phase == 'x' then`",
        f"`{condition}` → `if true then`",
        f"`{condition}` → `if false then`",
        "`schedule('x')` → `schedule('xx')`",
        "`schedule('x')` → `local _ = 0`",
        "`job.claims, left = 0, left` → `job.claims, left = 7, left`",
        "`job.claims, left = 0, left` → `local _ = 0`",
    ]
