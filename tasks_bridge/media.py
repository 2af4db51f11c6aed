"""Whether an output is what it should be: its first bytes against its label, its kind and what is allowed. Pure."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

HEAD_BYTES: Final = 64
"""So many bytes tell what a file is."""

_MEDIA: Final = frozenset({"image", "video", "audio"})
_ANYTHING: Final = "*/*"
_UNLABELLED: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})
"""What storage services say of files of which they were told nothing."""


class Unfit(Exception):
    """The output is not what it should be; the text says how, without a full stop."""


@dataclass(frozen=True, slots=True)
class Content:
    """
    What a file is.

    Attributes:
        content_type: Its media type.
        ext: How its name ends, without the dot.
        families: What such a file may hold: a container for video may hold sound alone.
    """

    content_type: str
    ext: str
    families: frozenset[str]


def _content(content_type: str, ext: str, *more: str) -> Content:
    return Content(content_type, ext, frozenset({content_type.partition("/")[0], *more}))


_MP4: Final = _content("video/mp4", "mp4", "audio")
_QUICKTIME: Final = _content("video/quicktime", "mov", "audio")
_WEBM: Final = _content("video/webm", "webm", "audio")
_MATROSKA: Final = _content("video/x-matroska", "mkv", "audio")

_MAGIC: Final = (
    (0, b"\x89PNG\r\n\x1a\n", _content("image/png", "png")),
    (0, b"\xff\xd8\xff", _content("image/jpeg", "jpg")),
    (0, b"GIF87a", _content("image/gif", "gif")),
    (0, b"GIF89a", _content("image/gif", "gif")),
    (8, b"WEBP", _content("image/webp", "webp")),
    (0, b"II*\x00", _content("image/tiff", "tif")),
    (0, b"MM\x00*", _content("image/tiff", "tif")),
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", _content("image/jxl", "jxl")),
    (8, b"WAVE", _content("audio/wav", "wav")),
    (8, b"AVI ", _content("video/x-msvideo", "avi")),
    (0, b"fLaC", _content("audio/flac", "flac")),
    (0, b"OggS", _content("audio/ogg", "ogg", "video")),
    (0, b"ID3", _content("audio/mpeg", "mp3")),
    (0, b"\xff\xfb", _content("audio/mpeg", "mp3")),
    (0, b"\xff\xf3", _content("audio/mpeg", "mp3")),
    (0, b"\xff\xf2", _content("audio/mpeg", "mp3")),
    (0, b"\xff\xf1", _content("audio/aac", "aac")),
    (0, b"\xff\xf9", _content("audio/aac", "aac")),
    (4, b"moov", _QUICKTIME),
    (4, b"mdat", _QUICKTIME),
    (4, b"wide", _QUICKTIME),
)
_BRANDS: Final = {
    **dict.fromkeys((b"avif", b"avis"), _content("image/avif", "avif")),
    **dict.fromkeys(
        (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), _content("image/heic", "heic")
    ),
    **dict.fromkeys((b"M4A ", b"M4B "), _content("audio/mp4", "m4a")),
    b"qt  ": _QUICKTIME,
}


def recognise(head: bytes) -> Content | None:
    """
    Tell what a file is by its first `HEAD_BYTES`; None if that is nothing known here.

    Source: the WHATWG's MIME Sniffing standard, section 6; ISO/IEC 14496-12, section 4.3 (brands); RFC 9559 (Matroska).
    """
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], _MP4)
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return _WEBM if b"webm" in head else _MATROSKA
    if head[8:12] in (b"WEBP", b"WAVE", b"AVI ") and not head.startswith(b"RIFF"):
        return None
    return next((content for at, magic, content in _MAGIC if head[at : at + len(magic)] == magic), None)


def check_content(head: bytes, *, label: str | None, kind: str | None, allowed: Sequence[str]) -> Content:
    """
    Tell what a file is, and that it may be that.

    Args:
        head: Its first `HEAD_BYTES`, or all of it.
        label: The server's ``Content-Type``.
        kind: ByteSpike's ``type`` of the output, such as ``"video"``.
        allowed: Media types, also such as ``video/*``. ``*/*`` lets pass what is not recognised, as it is labelled.

    Raises:
        Unfit: It is something else, or nothing known here.
    """
    labelled = (label or "").partition(";")[0].strip().lower()
    content = recognise(head)
    if content is None:
        if _ANYTHING in allowed:
            return _as_labelled(labelled)
        what = f"labelled {labelled}" if labelled else "without a label"
        raise Unfit(f"it begins like no picture, video or sound that is known here, {what}")
    if labelled not in _UNLABELLED and not _fits(content, labelled.partition("/")[0]):
        raise Unfit(f"it is labelled {labelled}, and is {content.content_type}")
    if kind in _MEDIA and not _fits(content, kind):
        raise Unfit(f"ByteSpike calls it {kind}, and it is {content.content_type}")
    if not is_allowed(content.content_type, allowed):
        raise Unfit(f"it is {content.content_type}; allowed are {', '.join(allowed)}")
    return content


def is_allowed(content_type: str, allowed: Iterable[str]) -> bool:
    """Whether a media type is among *allowed*, in which a part may be ``*``."""
    family = content_type.partition("/")[0]
    return any(one in (content_type, f"{family}/*", _ANYTHING) for one in allowed)


def is_media_type(text: object) -> bool:
    """Whether *text* can stand in a list of what is allowed."""
    return isinstance(text, str) and re.fullmatch(r"\*/\*|[a-z]+/(\*|[a-z0-9][a-z0-9.+-]*)", text) is not None


def _fits(content: Content, family: object) -> bool:
    return family in content.families


def _as_labelled(labelled: str) -> Content:
    content_type = labelled or "application/octet-stream"
    ext = (mimetypes.guess_extension(content_type) or ".bin").removeprefix(".")
    return _content(content_type, ext)
