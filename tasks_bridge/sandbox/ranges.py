"""
HTTP byte ranges: which part of a file a request wants.
"""

from __future__ import annotations

import re

_ONE_RANGE = re.compile(r"bytes=(\d*)-(\d*)\s*\Z")


class UnsatisfiableRange(Exception):
    """
    The range lies outside the file: 416.
    """


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """
    Return the half-open part of a file of *size* bytes that a ``Range`` header asks for.

    None means all of it: no header, or one a server may ignore (another unit, several ranges, malformed).

    Raises:
        UnsatisfiableRange: It starts behind the end, or is an empty suffix.

    Source: RFC 9110, section 14.
    """
    match = _ONE_RANGE.match(header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), size if not last else min(size, int(last) + 1)
        if last and int(last) < int(first):
            return None
    if start >= size or start >= stop:
        raise UnsatisfiableRange
    return start, stop
