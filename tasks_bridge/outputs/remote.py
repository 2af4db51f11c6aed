"""Outputs in whatever fsspec reaches: S3, Google Cloud Storage, Azure, SFTP and others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tasks_bridge.errors import SettingsError

if TYPE_CHECKING:
    from tasks_bridge.naming import Target
    from tasks_bridge.outputs.destination import Whole
    from tasks_bridge.settings import Settings

BLOCK: Final = 8 * 1024 * 1024
"""So much of a file is in memory while it is uploaded. S3 takes parts of 5 MiB and more, 10,000 of them."""

_WITHOUT_FOLDERS: Final = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss"})
"""Here fsspec would make a bucket of a misspelt name, where elsewhere it makes a folder."""

_LABELS: Final = {"s3": "ContentType", "s3a": "ContentType", "gs": "content_type", "gcs": "content_type"}
"""How the file systems that ask for it are told what a file is."""


class Remote:
    """
    A file is uploaded within one of fsspec's transactions, which publishes it once it is whole.

    How, is the file system's own: S3 and its like complete an upload in parts, SFTP renames. A process that dies before
    that leaves what the service cleans up by itself (unfinished uploads) or a temporary file; under the name, nothing.

    Raises:
        SettingsError: fsspec, or its part for this kind of URL, is not installed, or it can't publish in one step.
    """

    def __init__(self, target: Target, settings: Settings) -> None:
        try:
            import fsspec  # noqa: PLC0415 - an extra
        except ImportError:
            raise SettingsError(
                f"To save outputs to {target.scheme}://, install fsspec: pip install 'tasks-bridge[storage]'"
            ) from None
        self._scheme = target.scheme
        self._base = f"{target.scheme}://{target.root}"
        try:
            # of our own: a transaction belongs to the whole instance, and threads would share it
            self._files: Any = fsspec.filesystem(target.scheme, skip_instance_cache=True, use_listings_cache=False)
        except (ImportError, ValueError) as error:  # in its words, which name what to install
            raise SettingsError(f"fsspec can't open {target.scheme}://: {error}") from None

    @property
    def working_folder(self) -> Path | None:
        """See `Destination`."""
        return None

    def size(self, path: str) -> int | None:
        """See `Destination`."""
        try:
            found = self._files.info(self._files._strip_protocol(path))  # noqa: SLF001 - fsspec's own users do
        except FileNotFoundError:
            return None
        size = found.get("size")
        return int(size) if size is not None else None

    def publish(self, whole: Whole, name: str) -> str:
        """See `Destination`; the path is the whole URL."""
        url = f"{self._base}/{name}"
        path = self._files._strip_protocol(url)  # noqa: SLF001 - as above
        label = {_LABELS[self._scheme]: whole.content_type} if self._scheme in _LABELS else {}
        if self._scheme not in _WITHOUT_FOLDERS:
            self._files.makedirs(self._files._parent(path), exist_ok=True)  # noqa: SLF001 - as above
        with (
            self._files.transaction,
            whole.path.open("rb") as source,
            self._files.open(path, "wb", block_size=BLOCK, **label) as file,
        ):
            if not hasattr(file, "commit"):
                raise SettingsError(f"fsspec's {self._scheme}:// can't publish a file in one step")
            shutil.copyfileobj(source, file, BLOCK)
        size = self.size(url)
        if size != whole.size:
            raise OSError(f"{size} bytes are there, not {whole.size}")
        return url
