"""
Whether a download may go on where an earlier one ended: only if the server says that the file is still the same. Pure.

Source: RFC 9110, sections 8.8 (validators), 13.1.5 (If-Range), 14 (ranges) and 15.5.17 (416).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)\Z")
_STRONG_TAG: Final = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"\Z')
_PARTIAL_CONTENT: Final = 206
_UNSATISFIABLE: Final = 416
_STRONG_AFTER: Final = timedelta(seconds=1)


class StartOver(Exception):
    """What is there is no beginning of what the server has now."""


@dataclass(frozen=True, slots=True)
class Held:
    """
    What is there of a file.

    Attributes:
        size: So many bytes, from its start.
        validator: What tells that version of the file from others, for ``If-Range``; None if nothing does.
        total: The length of the whole; None if it was not told.
    """

    size: int = 0
    validator: str | None = None
    total: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing, as far as the server told."""
        return self.total is not None and 0 < self.total == self.size


@dataclass(frozen=True, slots=True)
class Part:
    """What a server is about to send: from *start*, of a file of *total* bytes (None: not told)."""

    start: int
    total: int | None
    validator: str | None


def range_headers(held: Held) -> dict[str, str]:
    """Ask for what is missing; for everything, if nothing shows that it belongs to what is there."""
    if not held.size or held.validator is None:
        return {}
    return {"Range": f"bytes={held.size}-", "If-Range": held.validator}


def read_part(status: int, headers: Mapping[str, str], held: Held) -> Part:
    """
    Read the head of a good answer, or of a 416, to a request with `range_headers`.

    Raises:
        StartOver: It does not continue what is there.
    """
    validator = strong_validator(headers)
    if status == _UNSATISFIABLE:
        raise StartOver
    if status != _PARTIAL_CONTENT:
        return Part(0, _length(headers), validator)
    found = _CONTENT_RANGE.match(headers.get("content-range", ""))
    if found is None:
        raise StartOver  # several parts in one, or nothing that can be put anywhere
    start, last = int(found[1]), int(found[2])
    total = None if found[3] == "*" else int(found[3])
    if start != held.size or not held.size or validator != held.validator or last < start:
        raise StartOver
    if total is not None and (last != total - 1 or held.total not in (None, total)):
        raise StartOver
    return Part(start, held.total if total is None else total, validator)


def strong_validator(headers: Mapping[str, str]) -> str | None:
    """
    What tells this version of a file from any other, byte by byte: its ``ETag`` unless weak, else when it was changed.

    The latter only if the answer is younger by a second: of two changes in one second it would not tell.
    """
    tag = headers.get("etag")
    if tag is not None:
        return tag if _STRONG_TAG.match(tag) else None
    changed, now = (_time(headers.get(name)) for name in ("last-modified", "date"))
    if changed is None or now is None or now - changed < _STRONG_AFTER:
        return None
    return headers["last-modified"]


def _length(headers: Mapping[str, str]) -> int | None:
    if "transfer-encoding" in headers:
        return None
    text = headers.get("content-length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _time(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
