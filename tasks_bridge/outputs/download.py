"""
Fetch one file over HTTP into a `Partial`, in pieces: memory stays flat, and a broken connection is taken up again.

The client that is made here knows no API key, so it can send none, whatever host a redirect leads to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import httpx

import tasks_bridge
from tasks_bridge import outbound
from tasks_bridge.media import HEAD_BYTES, Content, Unfit, check_content
from tasks_bridge.outputs.addresses import check_url
from tasks_bridge.outputs.resume import Held, StartOver, range_headers, read_part
from tasks_bridge.quiet import hushed_httpx
from tasks_bridge.wire import retry_after_s

if TYPE_CHECKING:
    from tasks_bridge.outputs.partial import Partial
    from tasks_bridge.settings import Settings

CONNECTIONS: Final = 6
"""In one try: each but the first takes up again one that broke after it had brought something."""

REDIRECTS: Final = 5

GONE: Final = frozenset({400, 401, 403, 404, 410})
"""What storage services say of a URL that has expired or of a file that isn't there; which of them is no help."""

_LATER: Final = frozenset({408, 425, 429})
_SUCCESS: Final = frozenset({200, 203, 206, 416})
_SERVER_ERROR: Final = 500


class Gone(Exception):
    """The URL is served no more."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class TooLarge(Exception):
    """There is more than is allowed; *size* bytes, if the server told, else None."""

    def __init__(self, size: int | None) -> None:
        super().__init__(size)
        self.size = size


class Unreachable(Exception):
    """Not for now. The text says why, without a full stop; *retry_after_s*: what the server asks for."""

    def __init__(self, why: str, retry_after_s: float | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.retry_after_s = retry_after_s


class _Broken(Exception):
    """The connection ended too early."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a download may be and take."""

    max_bytes: int
    content_types: Sequence[str]
    timeout_s: float


def open_client(settings: Settings) -> httpx.Client:
    """A client for files: it has no key, and goes only where `check_url` lets it, redirects included."""
    api_host = urlsplit(settings.base_url).hostname or ""

    def check(request: httpx.Request) -> None:
        outbound.check(str(request.url))
        check_url(str(request.url), api_host=api_host)

    return httpx.Client(
        headers={"user-agent": f"tasks-bridge/{tasks_bridge.__version__}", "accept-encoding": "identity"},
        timeout=httpx.Timeout(settings.save_silence_s, connect=settings.connect_timeout_s),
        follow_redirects=True,
        max_redirects=REDIRECTS,
        event_hooks={"request": [check]},
    )


def download(
    client: httpx.Client,
    url: str,
    partial: Partial,
    limits: Limits,
    *,
    kind: str | None,
    clock: Callable[[], float] = time.monotonic,
) -> Content:
    """
    Fill *partial*, going on where it ends if the server has still the same file.

    Args:
        client: From `open_client`.
        url: Where it is.
        partial: What is there, under lock. It is kept if the download can go on, and thrown away if not.
        limits: What it may be and take.
        kind: ByteSpike's ``type`` of it.
        clock: Seconds.

    Returns:
        What it is.

    Raises:
        Gone: The URL is served no more.
        Unfit: It is not what it should be, or at an address that is not fetched from.
        TooLarge: It has more than ``max_bytes``.
        Unreachable: Later, perhaps.
        OSError: The disk.
    """
    trying = _Try(client, url, partial, limits, kind, clock, clock() + limits.timeout_s)
    trouble = "the connection broke again and again"
    try:
        for _ in range(CONNECTIONS):
            before = partial.size
            try:
                return trying.fetch()
            except StartOver:
                partial.begin(None, None)
                trouble = "the server's parts of it don't fit together"
            except _Broken as error:
                trouble = str(error)
                if partial.size <= before:
                    break
    except (Unfit, TooLarge):
        partial.discard()
        raise
    raise Unreachable(trouble)


@dataclass(frozen=True, slots=True)
class _Try:
    """One try, over several connections."""

    client: httpx.Client
    url: str
    partial: Partial
    limits: Limits
    kind: str | None
    clock: Callable[[], float]
    give_up_at: float

    def fetch(self) -> Content:
        """Fetch what is missing over one connection."""
        held = self.partial.held
        if held.is_whole:  # its last holder died before it could publish it
            if held.size > self.limits.max_bytes:
                raise TooLarge(held.size)
            return self._checked(None)
        headers = range_headers(held)
        with _typed_errors(), hushed_httpx(), self.client.stream("GET", self.url, headers=headers) as answer:
            total = self._begin(answer, held)
            label = answer.headers.get("content-type")
            content = self._receive(answer, label)
        if total is not None and self.partial.size != total:
            raise _Broken(f"{self.partial.size} of {total} bytes came")
        return content or self._checked(label)

    def _begin(self, answer: httpx.Response, held: Held) -> int | None:
        """Read the head of the answer; returns the length of the whole file, None if that is not told."""
        _check_status(answer.status_code, answer.headers)
        part = read_part(answer.status_code, answer.headers, held)
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise Unfit("it came compressed, although that was not asked for")
        if part.total is not None and part.total > self.limits.max_bytes:
            raise TooLarge(part.total)
        if part.start == 0:
            self.partial.begin(part.validator, part.total)
        return part.total

    def _receive(self, answer: httpx.Response, label: str | None) -> Content | None:
        """Store what comes; returns what it is, None if too little came to tell."""
        content: Content | None = None
        for chunk in answer.iter_raw():
            if self.clock() > self.give_up_at:
                raise Unreachable(f"it had not all come after {self.limits.timeout_s:g} s")
            if self.partial.size + len(chunk) > self.limits.max_bytes:
                raise TooLarge(None)
            self.partial.append(chunk)
            if content is None and self.partial.size >= HEAD_BYTES:
                content = self._checked(label)
        return content

    def _checked(self, label: str | None) -> Content:
        head = self.partial.head(HEAD_BYTES)
        return check_content(head, label=label, kind=self.kind, allowed=self.limits.content_types)


@contextmanager
def _typed_errors() -> Iterator[None]:
    """Without httpx' own words, which may have the URL in them."""
    try:
        yield
    except httpx.TooManyRedirects:
        raise Unfit(f"its URL leads through more than {REDIRECTS} redirects") from None
    except (httpx.UnsupportedProtocol, httpx.InvalidURL):
        raise Unfit("its URL, or where that leads, can't be read") from None
    except httpx.TimeoutException:
        raise _Broken("its server was silent for too long") from None
    except httpx.HTTPError as error:
        raise _Broken(f"the connection to its server failed ({type(error).__name__})") from None


def _check_status(status: int, headers: Mapping[str, str]) -> None:
    if status in GONE:
        raise Gone(status)
    if status in _LATER or status >= _SERVER_ERROR:
        # of the API's other header for that, a server of files may say anything
        told = {name: headers[name] for name in ("retry-after", "date") if name in headers}
        raise Unreachable(f"its server answered HTTP {status}", retry_after_s(told, time.time()))
    if status not in _SUCCESS:
        raise Unfit(f"its server answered HTTP {status}")
