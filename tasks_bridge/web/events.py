"""
A job's events as text: server-sent events. Pure.

The events of a job are its documents, and the id of an event is the version (ETag) of its document. So there is no
history to keep: whoever comes back with ``Last-Event-ID`` gets the present document if it is another one, and has
missed nothing that still matters.

Source: WHATWG HTML, section 9.2 (server-sent events).
"""

from __future__ import annotations

from typing import Final

RECONNECT_MS: Final = 3000
"""How soon a browser comes back after a stream that broke off; most have 3 s themselves, some more."""

HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would hold events back until it has 4 KB
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

HEARTBEAT: Final = b":\n\n"
"""A comment: proxies and browsers see that the stream lives, and nothing happens."""


def event(version: str, document: bytes) -> bytes:
    """The event that carries *document*, which is JSON and so has no line break."""
    return b"id: " + version.encode() + b"\ndata: " + document + b"\n\n"


def retry(milliseconds: int) -> bytes:
    """How soon the browser is to come back if the stream ends."""
    return f"retry: {milliseconds}\n\n".encode()
