"""Where an output's bytes are: behind a URL, or in the answer itself. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from tasks_bridge.media import Unfit

_INLINE: Final = "b64_json"
"""Source: contract, section 2 (the synchronous image endpoint), and section 14 (output schema)."""

_DATA_URL: Final = "data:"


@dataclass(frozen=True, slots=True)
class Source:
    """
    Where the bytes of one output are.

    Attributes:
        url: Where to fetch it; None if it is *inline*.
        inline: The value that holds it: base64, or a ``data:`` URL.
        kind: What ByteSpike calls it, such as ``"video"``; None if it says nothing.
    """

    url: str | None
    inline: str | None
    kind: str | None

    @classmethod
    def of(cls, element: Mapping[str, Any]) -> Source | None:
        """The source of an element of ``output``; None if there is nothing to fetch."""
        url, inline, kind = (element.get(name) for name in ("url", _INLINE, "type"))
        kind = kind.lower() if isinstance(kind, str) else None
        if isinstance(url, str) and url:
            is_data = url[: len(_DATA_URL)].lower() == _DATA_URL
            return cls(None, url, kind) if is_data else cls(url, None, kind)
        return cls(None, inline, kind) if isinstance(inline, str) and inline else None

    @property
    def encoded_size(self) -> int:
        """About how many bytes are inline, at least."""
        return len(self.inline or "") * 3 // 4

    def decode(self) -> tuple[bytes, str | None]:
        """
        What is inline, and its label.

        Raises:
            Unfit: It can't be read.

        Source: RFC 2397 (the data URL scheme).
        """
        text, label = self.inline or "", None
        try:
            if text[: len(_DATA_URL)].lower() == _DATA_URL:
                head, comma, text = text[len(_DATA_URL) :].partition(",")
                if not comma:
                    raise Unfit("its data URL can't be read")
                label = head.partition(";")[0] or None
                if not head.lower().endswith(";base64"):
                    return unquote_to_bytes(text), label
            return base64.b64decode(text, validate=True), label
        except (binascii.Error, ValueError):
            raise Unfit("it is no valid base64") from None


def without_media(element: Mapping[str, Any]) -> dict[str, Any]:
    """The element without the bytes that are in it: results are no place for them."""
    kept = {name: value for name, value in element.items() if name != _INLINE}
    url = kept.get("url")
    if isinstance(url, str) and url[: len(_DATA_URL)].lower() == _DATA_URL:
        del kept["url"]
    return kept
