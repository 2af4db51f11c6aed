"""Outputs in a folder, of this machine or mounted."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tasks_bridge.outputs.partial import HIDDEN

if TYPE_CHECKING:
    from tasks_bridge.naming import Target
    from tasks_bridge.outputs.destination import Whole
    from tasks_bridge.settings import Settings


class Folder:
    """
    A file is downloaded next to where it belongs, and renamed once it is whole: there or not there, never half.

    A process that dies before the rename leaves the partial file, which the next one goes on with; after it, nothing is
    missing. Two that rename one after the other leave the second's, which has the same content.
    """

    def __init__(self, target: Target, settings: Settings) -> None:
        self._root = Path(target.root)

    @property
    def working_folder(self) -> Path | None:
        """See `Destination`."""
        return self._root / HIDDEN

    def size(self, path: str) -> int | None:
        """See `Destination`."""
        try:
            return Path(path).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def publish(self, whole: Whole, name: str) -> str:
        """See `Destination`; the path is the absolute one."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        whole.path.replace(path)
        with suppress(OSError):  # some file systems can't; the rename is theirs to keep then
            _sync(path.parent)
        return str(path)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
