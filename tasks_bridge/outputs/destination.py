"""What the places where outputs are kept have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Whole:
    """
    A file that has been downloaded and checked.

    Attributes:
        path: Where it is on this machine.
        size: In bytes.
        sha256: In hexadecimal digits.
        content_type: Its media type.
    """

    path: Path
    size: int
    sha256: str
    content_type: str


class Destination(Protocol):
    """
    A place for files, which may be anywhere.

    Two workers may publish the same file at the same time, and a worker may die while it does. Errors may be of any
    kind: they are taken for passing ones, and the whole is tried again.
    """

    @property
    def working_folder(self) -> Path | None:
        """Where what is on its way here is best kept meanwhile, because it is on the same disk; None: anywhere."""

    def size(self, path: str) -> int | None:
        """How many bytes are at *path*, as `publish` returned it; None if nothing is there."""

    def publish(self, whole: Whole, name: str) -> str:
        """
        Put the file under *name*; once that returns it is there, whole, and stays if the machine fails.

        Under *name* there never is a part of it, as far as the place allows. What was there before is replaced. The
        file at ``whole.path`` may be gone afterwards.

        Args:
            whole: The file.
            name: Relative, with slashes, below the place's root.

        Returns:
            Its path: how an application finds it there.
        """
