"""Outputs in the project's own storages: the destination ``django://<alias>/<name>``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from django.core.files import File
from django.core.files.storage import InvalidStorageError, storages

from tasks_bridge.errors import SettingsError
from tasks_bridge.outputs.partial import HIDDEN
from tasks_bridge.outputs.registry import DJANGO, register_destination

if TYPE_CHECKING:
    from tasks_bridge.naming import Target
    from tasks_bridge.outputs.destination import Whole
    from tasks_bridge.settings import Settings

DEFAULT_TARGET: Final = f"{DJANGO}://default/bytespike/{{id}}.{{ext}}"
"""Where the outputs of a project go that names no place."""


class DjangoStorage:
    """
    A file is handed to the storage once it is whole.

    A storage in a folder gets it by a rename. For others, it is theirs whether a part can be seen under the name while
    it is stored; those of cloud services publish an upload once it is complete. A storage never overwrites: what has
    the name already stays if it is the same, byte by byte, and is deleted first if it isn't. Of two workers that
    publish at the same time, the one that is given another name takes its file away again.

    Raises:
        SettingsError: There is no such storage.
    """

    def __init__(self, target: Target, settings: Settings) -> None:
        try:
            self._storage: Any = storages[target.root or "default"]
        except InvalidStorageError as error:
            raise SettingsError(f"Outputs can't be saved to {DJANGO}://{target.root}: {error}") from None

    @property
    def working_folder(self) -> Path | None:
        """See `Destination`."""
        try:
            return Path(self._storage.path("")) / HIDDEN
        except NotImplementedError:  # Django's word for a storage that is not in a folder
            return None

    def size(self, path: str) -> int | None:
        """See `Destination`."""
        return int(self._storage.size(path)) if self._storage.exists(path) else None

    def publish(self, whole: Whole, name: str) -> str:
        """See `Destination`; the path is the name in the storage, as a `FileField` keeps it."""
        if self._storage.exists(name):
            if self._is_same(name, whole):
                return name
            self._storage.delete(name)
        with whole.path.open("rb") as file:
            saved = str(self._storage.save(name, _Movable(file, whole)))
        # or the storage has names of its own
        if saved != name and self._storage.exists(name) and self._is_same(name, whole):
            self._storage.delete(saved)
            return name
        return saved

    def _is_same(self, name: str, whole: Whole) -> bool:
        if self._storage.size(name) != whole.size:
            return False
        digest = hashlib.sha256()
        with self._storage.open(name, "rb") as file:
            for chunk in file.chunks():
                digest.update(chunk)
        return digest.hexdigest() == whole.sha256


class _Movable(File):
    """A file on this machine that a storage may move instead of reading it, as it may an upload."""

    def __init__(self, file: Any, whole: Whole) -> None:
        super().__init__(file, name=whole.path.name)
        self.content_type = whole.content_type
        self._path = whole.path

    def temporary_file_path(self) -> str:
        """Django's hook: where it is."""
        return str(self._path)


register_destination(DJANGO, DjangoStorage)
