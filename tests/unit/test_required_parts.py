"""
A skipped test passes on a laptop and fails where all parts are required.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

LACKING = {
    "test_in_a_test.py": "def test_it(): pytest.skip('no such server')",
    "test_by_a_mark.py": "@pytest.mark.skipif(True, reason='no such server')\ndef test_it(): pass",
    "test_in_a_fixture.py": ("@pytest.fixture\ndef server(): pytest.skip('no such server')\ndef test_it(server): pass"),
    "test_of_a_module.py": "pytest.skip('no such server', allow_module_level=True)",
}
FINE = {
    "test_not_applicable.py": "def test_it(): pytest.skip('not applicable: Linux only')",
    "test_expected_failure.py": "@pytest.mark.xfail\ndef test_it(): assert False",
}


def outcomes(folder: Path, *, require: str) -> dict[str, str]:
    """
    Run each of the modules above and return what pytest says became of it.
    """
    for name, source in (LACKING | FINE).items():
        (folder / name).write_text(f"import pytest\n{source}\n")
    options = ["-q", "-rA", "-p", "tests.conftest", "-p", "no:celery", "--continue-on-collection-errors"]
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"--rootdir={folder}", str(folder)],
        cwd=folder,
        env=os.environ | {"TESTS_REQUIRE": require, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(r"^(SKIPPED|FAILED|ERROR|XFAIL|PASSED) .*?(test_\w+\.py)", answer.stdout, re.MULTILINE)
    return {name: outcome for outcome, name in found}


def test_a_skip_passes_where_parts_may_lack(tmp_path):
    assert outcomes(tmp_path, require="") == {
        **dict.fromkeys(LACKING, "SKIPPED"),
        "test_not_applicable.py": "SKIPPED",
        "test_expected_failure.py": "XFAIL",
    }


def test_a_skip_fails_where_all_parts_are_required(tmp_path):
    assert outcomes(tmp_path, require="all") == {
        "test_in_a_test.py": "FAILED",
        "test_by_a_mark.py": "ERROR",
        "test_in_a_fixture.py": "ERROR",
        "test_of_a_module.py": "ERROR",
        "test_not_applicable.py": "SKIPPED",
        "test_expected_failure.py": "XFAIL",
    }
