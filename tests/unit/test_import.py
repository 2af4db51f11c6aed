"""What `import tasks_bridge` does, each time in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tasks_bridge

ROOT = Path(__file__).parents[2]


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_imports_nothing_else_of_ours_or_others() -> None:
    loaded = run(
        "import sys; before = set(sys.modules); import tasks_bridge; print(*set(sys.modules) - before)"
    ).split()

    assert [name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names] == ["tasks_bridge"]


def test_every_exported_name_is_there_and_is_what_its_module_defines() -> None:
    for name in tasks_bridge.__all__:
        value = getattr(tasks_bridge, name)
        assert getattr(value, "__name__", name).rpartition(".")[2] == name
    assert set(tasks_bridge.__all__) <= set(dir(tasks_bridge))
    with pytest.raises(AttributeError, match="unheard_of"):
        _ = tasks_bridge.unheard_of


def test_install_and_once_are_functions_although_modules_have_their_names() -> None:
    run(
        "import tasks_bridge.once, tasks_bridge.install\n"
        "from tasks_bridge import install, once\n"
        "assert install.__name__ == 'install' and once.__name__ == 'once'"
    )
    run(
        "from tasks_bridge import once\n"
        "import tasks_bridge.once\n"
        "import tasks_bridge\n"
        "assert tasks_bridge.once is once and once.__name__ == 'once'"
    )
