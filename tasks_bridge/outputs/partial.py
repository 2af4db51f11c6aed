"""
A file that is being downloaded: on disk, under a lock, and still there after the process has died.

Two files in a folder of their own: ``<name>.part`` holds what has come, and is the lock, which the system releases
when its holder dies; ``<name>.json`` what the server said of the whole. The second is written while the first is empty
and read only if it isn't, so a process that dies between them leaves nothing that could be continued wrongly.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tasks_bridge.errors import SettingsError
from tasks_bridge.outputs.resume import Held

HIDDEN: Final = ".tasks-bridge"
"""Folder of partial files below the one that outputs are saved to: on the same disk, so a rename publishes them."""

ABANDONED_S: Final = 48 * 3600.0
"""Older than any URL: nobody can go on with it."""


class Busy(Exception):
    """Somebody else is at this file."""


class Partial:
    """
    One download, while it is held in a ``with`` block.

    Raises:
        Busy: At ``with``: another process or thread holds it.
        OSError: From everything, as the disk has it.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.part"
        self._said = folder / f"{name}.json"

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
            self._file = os.fdopen(descriptor, "r+b")
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._file.close()
                raise Busy from None
            except BaseException:
                self._file.close()
                raise
            if self._is_current():
                break
            self._file.close()  # its last holder has moved it to where it belongs, or thrown it away
        self.size = self._file.seek(0, os.SEEK_END)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.size and self._is_current():
            self.discard()
        with suppress(OSError):  # a full disk: what could not be written is not there, and the next try sees it
            self._file.close()

    @property
    def held(self) -> Held:
        """What is there, and what the server said of it."""
        try:
            said = json.loads(self._said.read_text()) if self.size else {}
            return Held(self.size, said.get("validator"), said.get("total"))
        except (OSError, ValueError, AttributeError):
            return Held(self.size)

    def begin(self, validator: str | None, total: int | None) -> None:
        """Start with an empty file."""
        self._file.seek(0)
        self._file.truncate()
        self.size = 0
        self._said.write_text(json.dumps({"validator": validator, "total": total}))

    def append(self, data: bytes) -> None:
        """Add what has come."""
        self._file.write(data)
        self.size += len(data)

    def head(self, size: int) -> bytes:
        """The first bytes."""
        self._file.flush()
        return os.pread(self._file.fileno(), size, 0)

    def finish(self) -> str:
        """Have all of it on the disk; returns the SHA-256 of what is there, in hexadecimal digits."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.seek(0)
        return hashlib.file_digest(self._file, "sha256").hexdigest()

    def discard(self) -> None:
        """Throw it away; once the file itself has been moved, what is left of it."""
        self._said.unlink(missing_ok=True)
        if self._is_current():  # else the file of that name is somebody else's, who has just begun
            self.path.unlink()
        self.size = 0

    def _is_current(self) -> bool:
        """Whether the file that is held is still the one of that name."""
        mine = os.fstat(self._file.fileno())
        try:
            named = self.path.stat()
        except FileNotFoundError:
            return False
        return (mine.st_dev, mine.st_ino) == (named.st_dev, named.st_ino)


def working_folder(configured: str | None) -> Path:
    """
    Where what is on its way to elsewhere is kept meanwhile: *configured*, or a folder of this user among the temporary.

    Raises:
        SettingsError: Somebody else has made the latter.
    """
    if configured is not None:
        return Path(configured)
    folder = Path(tempfile.gettempdir()) / f"tasks-bridge-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if found.st_uid != os.getuid() or not folder.is_dir() or folder.is_symlink():
        raise SettingsError(f"{folder} is not ours: remove it, or set TASKS_BRIDGE_SAVE_FOLDER to a folder that is")
    return folder


def sweep(folder: Path, *, now: float | None = None) -> None:
    """Remove what was given up long ago, such as what a worker on a machine that is gone was at."""
    oldest = (time.time() if now is None else now) - ABANDONED_S
    with suppress(OSError):
        for path in [*folder.glob("*.part"), *folder.glob("*.json")]:
            with suppress(OSError, Busy):
                if path.stat().st_mtime < oldest:
                    with Partial(folder, path.stem) as partial:
                        partial.discard()
