"""One open stream: a job's documents as events, from the first to the last."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from tasks_bridge.web import events
from tasks_bridge.web.answers import encode, version_of
from tasks_bridge.web.hub import Full

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from typing import Any

    from tasks_bridge.store import Entry
    from tasks_bridge.web.hub import Hub

HEARTBEAT_S: Final = 15.0
"""Below the 30 to 60 s after which proxies give up on a silent connection."""

LIFETIME_S: Final = 300.0
"""
How long a stream lasts. The browser comes back by itself: so its token is looked at again, streams spread over new
processes, and none holds the end of an old one up for longer.
"""


async def follow(
    hub: Hub,
    first: Entry,
    render: Callable[[Entry], Mapping[str, Any]],
    *,
    last_event_id: str = "",
    heartbeat_s: float = HEARTBEAT_S,
    lifetime_s: float = LIFETIME_S,
) -> AsyncIterator[bytes]:
    """
    The stream of the job in *first*, until it is over.

    Nothing is held before the first chunk is asked for, and nothing after the iterator is closed.

    Args:
        hub: Where the later entries come from.
        first: What was read when the stream was asked for.
        render: Makes the document of an entry.
        last_event_id: The latest document that the browser has, as it says: that one is not sent again.
        heartbeat_s: The longest silence.
        lifetime_s: When it ends in any case.
    """
    yield events.retry(events.RECONNECT_MS)
    ends_at = time.monotonic() + lifetime_s
    known = last_event_id
    newest = _Newest(first)
    try:
        with hub.following(first.job_id, newest.put):
            silent_at = time.monotonic() + heartbeat_s
            while newest.entry is not None:
                is_over, body = newest.entry.state.is_terminal, encode(render(newest.entry))
                version, now = version_of(body), time.monotonic()
                if version != known:
                    known, silent_at = version, now + heartbeat_s
                    yield events.event(version, body)
                elif now >= silent_at:
                    silent_at = now + heartbeat_s
                    yield events.HEARTBEAT
                if is_over or now >= ends_at:
                    return
                await newest.wait(min(silent_at, ends_at) - now)
    except Full:
        return  # others were quicker: the browser comes back, and is told then


class _Newest:
    """The newest entry that the hub had; None once the job is no longer known."""

    def __init__(self, entry: Entry) -> None:
        self.entry: Entry | None = entry
        self._loop = asyncio.get_running_loop()
        self._came = asyncio.Event()

    def put(self, entry: Entry | None) -> None:
        """Take *entry*; called in the hub's thread."""
        with suppress(RuntimeError):  # the loop has ended, and its streams with it
            self._loop.call_soon_threadsafe(self._take, entry)

    def _take(self, entry: Entry | None) -> None:
        self.entry = entry
        self._came.set()

    async def wait(self, wait_s: float) -> None:
        """Return at the next entry, or after *wait_s*."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._came.wait()
        self._came.clear()
