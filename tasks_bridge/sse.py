"""
Decode server-sent events, without a socket.

Source: WHATWG HTML standard, section 9.2.6 (interpreting an event stream).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["EventDecoder", "EventTooLarge", "ServerSentEvent"]

_BOM = b"\xef\xbb\xbf"


class EventTooLarge(ValueError):
    """
    An event grew past the decoder's limit without coming to its end.
    """


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """
    One dispatched event.

    Attributes:
        event: The event's type; ``message`` if the stream named none.
        data: Its data lines, joined by line feeds.
        id: The last event id the stream has set so far. Empty if none.
        retry: The reconnection time in milliseconds that this event set. None if it set none.
    """

    event: str
    data: str
    id: str = ""
    retry: int | None = None


class EventDecoder:
    """
    Turn the chunks of a stream into events. An event without its closing blank line is never dispatched.

    Args:
        limit: Most bytes that one event may have, so that an endless one cannot fill the memory.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._buffer = b""
        self._at_start = True
        self._skip_line_feed = False
        self._last_id = ""
        self._event = ""
        self._data: list[str] = []
        self._retry: int | None = None

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """
        Take the next bytes, cut anywhere, and yield the events they complete.

        Raises:
            EventTooLarge: An event is larger than ``limit``.
        """
        for line in self._lines(chunk):
            event = self._take(line)
            if event is not None:
                yield event
        if self._size + len(self._buffer) > self._limit:
            raise EventTooLarge(f"An event is larger than {self._limit} bytes.")

    def _lines(self, chunk: bytes) -> Iterator[bytes]:
        # A line ends in CRLF, LF or CR. A CR at the end of a chunk ends its line at once, and the LF that may
        # follow in the next chunk is skipped: no event waits for a byte that may come much later.
        if self._skip_line_feed and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._skip_line_feed = False
        self._buffer += chunk
        if self._at_start:
            if len(self._buffer) < len(_BOM) and _BOM.startswith(self._buffer):
                return
            self._buffer = self._buffer.removeprefix(_BOM)
            self._at_start = False
        if chunk.endswith(b"\r"):
            self._skip_line_feed = True
        # bytes.splitlines cuts at exactly these three ends; str.splitlines would cut at many more.
        *lines, self._buffer = (self._buffer + b"\0").splitlines()
        self._buffer = self._buffer[:-1]
        yield from lines

    def _take(self, line: bytes) -> ServerSentEvent | None:
        if not line:
            return self._dispatch()
        self._size += len(line) + 1
        if self._size > self._limit:
            raise EventTooLarge(f"An event is larger than {self._limit} bytes.")
        field, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._event = value
        elif field == "id" and "\0" not in value:
            self._last_id = value
        elif field == "retry" and value.isascii() and value.isdigit():
            self._retry = int(value[:18])
        # An empty field is a comment, often a heartbeat; any other field is to be ignored.
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        event = None
        if self._data:
            event = ServerSentEvent(self._event or "message", "\n".join(self._data), self._last_id, self._retry)
        self._size, self._event, self._data, self._retry = 0, "", [], None
        return event
