"""One small thing broken in one file, and what the tests made of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

_AROUND = 50
"""Characters of an unchanged line that are shown before and after the change."""


class Verdict(Enum):
    """What became of a mutant."""

    KILLED = "killed"  # a test failed, or the code could not even be imported
    TIMEOUT = "timeout"  # the tests did not end: an endless loop is noticed as well
    SURVIVED = "survived"  # no test noticed


@dataclass(frozen=True, slots=True)
class Mutant:
    """
    A file with one change.

    Attributes:
        source: The whole file.
        line: Number of the line that changed.
        label: The change for people, and for `docs/mutants.md`: ``function: `before` → `after```.
        is_in_function: Whether the change is in the body of a function, and so makes no difference to an import.
    """

    source: str
    line: int
    label: str
    is_in_function: bool


def label(function: str | None, before: str, after: str) -> str:
    """Name a change by what it did to a line, of which a long one is shown in part."""
    before, after = before.strip(), after.strip()
    same_start = next(
        (at for at, (one, other) in enumerate(zip(before, after, strict=False)) if one != other),
        min(len(before), len(after)),
    )
    same_end = next(
        (at for at, (one, other) in enumerate(zip(before[::-1], after[::-1], strict=False)) if one != other),
        min(len(before), len(after)),
    )
    shown = (_cut(line, max(0, same_start - _AROUND), max(0, same_end - _AROUND)) for line in (before, after))
    change = " → ".join(f"`{line}`" for line in shown)
    return f"`{function}`: {change}" if function else change


def _cut(line: str, start: int, end: int) -> str:
    return ("…" if start else "") + line[start : len(line) - end] + ("…" if end else "")
