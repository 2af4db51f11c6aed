"""
A file of any size, made as it is read: a real picture or clip, and behind it filling that players pass over.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

_BLOCK: Final = 64 * 1024
_LARGEST_SHORT_BOX: Final = 2**32 - 1


class File:
    """
    What is behind one URL.

    Args:
        name: Tells it from others.
        media: The picture or clip.
        content_type: What it is.
        size: How long it is to be; None, or less than the media: as long as the media.

    A part that is put together at the wrong place is not the same: each block of the filling tells its number.
    """

    def __init__(self, name: str, media: bytes, content_type: str, size: int | None = None) -> None:
        self.content_type = content_type
        self.size = max(len(media), size or 0)
        self._start = media + self._filler_head(self.size - len(media), content_type)
        digest = hashlib.sha256(f"{name}:{self.size}".encode()).hexdigest()
        self.etag = f'"{digest[:32]}"'
        self._block = hashlib.sha256(digest.encode()).digest() * (_BLOCK // 32)

    def read(self, start: int, stop: int) -> bytes:
        """
        The half-open part, cut off at the end of the file.
        """
        stop = min(stop, self.size)
        parts = [self._start[start:stop]]
        at = start + len(parts[0])
        while at < stop:
            number, skip = divmod(at - len(self._start), _BLOCK)
            block = struct.pack(">Q", number) + self._block[8:]
            parts.append(block[skip : skip + stop - at])
            at += len(parts[-1])
        return b"".join(parts)

    @staticmethod
    def _filler_head(length: int, content_type: str) -> bytes:
        """
        What makes the filling a part of an MP4. Behind the end of a PNG anything may stand.

        Source: ISO/IEC 14496-12, sections 4.2 (boxes) and 8.1.2 (free space).
        """
        if content_type != "video/mp4":
            return b""
        if length > _LARGEST_SHORT_BOX:
            return struct.pack(">I4sQ", 1, b"free", length)
        return struct.pack(">I4s", length, b"free")[:length]
