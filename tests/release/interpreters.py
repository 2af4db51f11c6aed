"""The interpreters of this machine that can make environments."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

OLDEST, NEWEST = 11, 14


def _works(python: Path) -> bool:
    tried = subprocess.run([str(python), "-c", "import ensurepip, venv"], capture_output=True, check=False)
    return tried.returncode == 0


def _candidates(minor: int) -> list[Path]:
    found = [Path(path) for path in [shutil.which(f"python3.{minor}")] if path]
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    return found + sorted(versions.glob(f"3.{minor}.*/bin/python3.{minor}"))


def interpreters() -> dict[str, Path]:
    """
    Of each version that we support, by its name, the first that works; oldest first.
    """
    found = {}
    for minor in range(OLDEST, NEWEST + 1):
        if python := next(filter(_works, _candidates(minor)), None):
            found[f"3.{minor}"] = python
    return found
