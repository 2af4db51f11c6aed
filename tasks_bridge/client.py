"""
Talk to the ByteSpike tasks API: ``Client`` for threads, ``AsyncClient`` for asyncio.

The twins do the I/O and nothing else: ``wire.py`` builds every request and reads every answer. Neither
repeats a request, because whether that is right depends on the job, not on the connection.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Never, Self

import httpx
from pydantic import SecretStr

import tasks_bridge
from tasks_bridge import outbound, wire
from tasks_bridge.errors import (
    ApiConnectionError,
    ApiResponseError,
    ApiTimeout,
    InvalidRequest,
    SettingsError,
)
from tasks_bridge.models import RemoteTask
from tasks_bridge.sse import EventDecoder, EventTooLarge
from tasks_bridge.wire import StreamEvent

if TYPE_CHECKING:
    from tasks_bridge.direct import Direct

__all__ = ["DEFAULT_BASE_URL", "AsyncClient", "Client", "StreamEvent", "preload"]

DEFAULT_BASE_URL = "https://llm.bytespike.ai"
"""Source: contract, section 1."""

# Results may come inline as base64 (contract, section 14), four images of some megabytes each. More than that
# is no task object, and must not fill a worker's memory.
_MAX_RESPONSE_BYTES = 32 * 1024 * 1024
# Polls of one job are 2 to 30 s apart: kept that long, a connection serves the next poll too.
_KEEPALIVE_S = 30.0


class _Twin:
    """
    What both clients share: the checked configuration, and everything around a call that is not I/O.
    """

    _base_url = ""

    def __init__(
        self,
        api_key: SecretStr,
        base_url: str,
        *,
        connect_timeout_s: float,
        query_timeout_s: float,
        submit_timeout_s: float,
        max_connections: int,
        max_response_bytes: int,
    ) -> None:
        self._key = _checked_key(api_key)
        self._base_url = _checked_base_url(base_url)
        self._connect_timeout_s = _checked_timeout(connect_timeout_s, "connect_timeout_s")
        self._query_timeout_s = _checked_timeout(query_timeout_s, "query_timeout_s")
        self._submit_timeout_s = _checked_timeout(submit_timeout_s, "submit_timeout_s")
        self._max_response_bytes = max_response_bytes
        self._options: dict[str, Any] = {
            "headers": {
                "authorization": f"Bearer {self._key.get_secret_value()}",
                "user-agent": f"tasks-bridge/{tasks_bridge.__version__}",
                "accept": "application/json",
                # An answer is a few hundred bytes: compressing it costs more than it saves.
                "accept-encoding": "identity",
            },
            "limits": httpx.Limits(
                max_connections=max_connections,
                max_keepalive_connections=max_connections,
                keepalive_expiry=_KEEPALIVE_S,
            ),
            # A redirect would carry the key to another address.
            "follow_redirects": False,
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._base_url!r})"

    def _arguments(self, request: wire.Request, timeout_s: float) -> dict[str, Any]:
        return {
            "method": request.method,
            "url": f"{self._base_url}{request.path}",
            "content": request.body,
            "headers": None if request.body is None else {"content-type": "application/json"},
            "timeout": self._timeout(timeout_s),
        }

    def _timeout(self, timeout_s: float) -> httpx.Timeout:
        return httpx.Timeout(timeout_s, connect=min(self._connect_timeout_s, timeout_s))

    def _stream_arguments(self, task_id: str, silence_s: float) -> dict[str, Any]:
        arguments = self._arguments(wire.stream_request(task_id), silence_s)
        arguments["headers"] = {"accept": "text/event-stream", "cache-control": "no-store"}
        return arguments

    def _task(self, answer: _Answer, task_id: str | None = None, out_task_id: str | None = None) -> RemoteTask:
        task = wire.read_task(answer.status_code, answer.headers, answer.content, now_s=time.time(), secret=self._key)
        return wire.check_about(task, task_id=task_id, out_task_id=out_task_id)

    def _models(self, answer: _Answer) -> list[dict[str, Any]]:
        return wire.read_models(answer.status_code, answer.headers, answer.content, now_s=time.time(), secret=self._key)

    def _refuse_stream(self, answer: _Answer) -> Never:
        if 200 <= answer.status_code <= 299:  # noqa: PLR2004  HTTP's class of success
            raise ApiResponseError("ByteSpike opened no event stream. Poll with query instead.")
        wire.read_refusal(answer.status_code, answer.headers, answer.content, now_s=time.time(), secret=self._key)

    @contextmanager
    def _typed_errors(self) -> Iterator[None]:
        """
        Turn whatever the network layers raise into our own errors.

        From None: their frames hold the request's headers, and crash reporters show local variables.

        Raises:
            RequestRefused: In a test run, before anything is sent.
        """
        outbound.check(self._base_url)
        try:
            yield
        except (httpx.RequestError, OSError) as error:
            raise self._typed(error) from None
        except Exception as error:
            # What httpx-aiohttp does not translate, such as a malformed status line.
            if not _is_from_aiohttp(error):
                raise
            raise self._typed(error) from None

    def _typed(self, error: Exception) -> ApiConnectionError | ApiResponseError:
        cause = error.__cause__ if _is_from_aiohttp(error.__cause__) else error
        reason = wire.quoted(f"{type(cause).__name__} {cause}".strip(), self._key)
        if isinstance(error, httpx.DecodingError):
            return ApiResponseError(
                f"The answer of {self._base_url} cannot be decompressed ({reason}). Query the task."
            )
        if _is_timeout(error):
            return ApiTimeout(f"{self._base_url} did not answer in time ({reason}). Try again later.")
        return ApiConnectionError(
            f"{self._base_url} could not be reached, or broke off ({reason}). "
            "Check the network and the base URL, or try again later."
        )


class _Answer:
    """
    An answer whose body is being collected, up to a limit of size and of time.
    """

    def __init__(
        self, status_code: int, headers: Mapping[str, str], *, limit: int, deadline_s: float = math.inf
    ) -> None:
        self.status_code = status_code
        self.headers = headers
        self._limit = limit
        self._deadline_s = deadline_s
        self._content = bytearray()

    @property
    def content(self) -> bytes:
        return bytes(self._content)

    def add(self, chunk: bytes) -> None:
        self._content += chunk
        if len(self._content) > self._limit:
            raise ApiResponseError(f"The answer is larger than {self._limit} bytes, too large to be read.")
        if time.monotonic() > self._deadline_s:
            raise httpx.ReadTimeout("the answer trickles in too slowly")


class Client(_Twin):
    """
    The API for threads. One client may serve several threads; close it, or use it in a ``with`` block.

    Every method may raise ``ApiConnectionError`` (``ApiTimeout``), ``ApiResponseError`` or a subclass of
    ``ApiStatusError``. Wrong arguments raise ``InvalidRequest`` before anything is sent. A ``timeout_s`` given
    to a method limits that call from asking for a connection to the end of the answer; the clock is read
    whenever something arrives, so a call may take up to twice as long.

    Args:
        api_key: The secret key. It appears in no ``repr``, no message and no local variable that a traceback leads to.
        base_url: Where the API is. A path prefix is kept; a trailing slash or ``/v1`` is not needed.
        connect_timeout_s: For one connection to be made.
        query_timeout_s: For query, cancel and models.
        submit_timeout_s: For submit. A submit that times out may have arrived all the same.
        max_connections: Requests at the same time; more wait for a free connection.
        max_response_bytes: Largest answer that is read.
        transport: Replaces the network, for tests. Without it, the usual proxy variables are honoured.

    Raises:
        SettingsError: The key, the URL or a timeout cannot be right.
    """

    def __init__(
        self,
        api_key: str | SecretStr,
        base_url: str = DEFAULT_BASE_URL,
        *,
        connect_timeout_s: float = 5.0,
        query_timeout_s: float = 30.0,
        submit_timeout_s: float = 60.0,
        max_connections: int = 100,
        max_response_bytes: int = _MAX_RESPONSE_BYTES,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        api_key = _masked(api_key)
        super().__init__(
            api_key,
            base_url,
            connect_timeout_s=connect_timeout_s,
            query_timeout_s=query_timeout_s,
            submit_timeout_s=submit_timeout_s,
            max_connections=max_connections,
            max_response_bytes=max_response_bytes,
        )
        with _set_up():
            self._http = httpx.Client(**self._options, transport=transport)

    def submit(
        self,
        model: str,
        params: dict[str, Any],
        *,
        out_task_id: str | None = None,
        callback_url: str | None = None,
        timeout_s: float | None = None,
    ) -> RemoteTask:
        """
        Start a task. Without *out_task_id* a lost answer cannot be repaired: never send such a submit again.

        Source: contract, sections 3 and 7.
        """
        body = wire.submit_body(model, params, out_task_id=out_task_id, callback_url=callback_url)
        return self.submit_bytes(body, timeout_s=timeout_s)

    def submit_bytes(self, body: bytes, *, timeout_s: float | None = None) -> RemoteTask:
        """
        Start a task with a stored body of ``wire.submit_body``: a repetition sends identical bytes.
        """
        answer = self._send(wire.submit_request(body), timeout_s, self._submit_timeout_s)
        return self._task(answer, out_task_id=wire.out_task_id_of(body))

    def query(
        self, task_id: str | None = None, *, out_task_id: str | None = None, timeout_s: float | None = None
    ) -> RemoteTask:
        """
        Read the state of the task that exactly one of the identifiers names.

        Source: API, /tasks/query page.
        """
        request = wire.query_request(task_id, out_task_id)
        return self._task(self._send(request, timeout_s, self._query_timeout_s), task_id, out_task_id)

    def cancel(
        self, task_id: str | None = None, *, out_task_id: str | None = None, timeout_s: float | None = None
    ) -> RemoteTask:
        """
        Cancel the task that exactly one of the identifiers names, and return its state after that.

        Read the status: a task that completed first stays completed.

        Source: contract, section 5.
        """
        request = wire.cancel_request(task_id, out_task_id)
        return self._task(self._send(request, timeout_s, self._query_timeout_s), task_id, out_task_id)

    def models(self, *, timeout_s: float | None = None) -> list[dict[str, Any]]:
        """
        Return the catalogue of models, each with at least ``id``. Free, so also the check of a key.

        Source: contract, section 10.
        """
        return self._models(self._send(wire.models_request(), timeout_s, self._query_timeout_s))

    def stream(self, task_id: str, *, silence_s: float = 60.0) -> Generator[StreamEvent]:
        """
        Yield the events of a task as they come. Each only means "something changed": query to know what.

        The iteration ends when the server closes the stream, which says nothing about the task.

        Args:
            task_id: ByteSpike's id.
            silence_s: Give up with ``ApiTimeout`` when nothing arrives for so long, not even a heartbeat.

        Source: contract, sections 6 and 14.
        """
        decoder = EventDecoder(limit=self._max_response_bytes)
        with (
            self._typed_errors(),
            self._http.stream(**self._stream_arguments(task_id, silence_s)) as response,
        ):
            if not _is_event_stream(response):
                self._refuse_stream(self._read(response, time.monotonic() + silence_s))
            for chunk in response.iter_bytes():
                yield from _events(decoder, chunk)

    def close(self) -> None:
        """
        Close the connections.
        """
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, request: wire.Request, timeout_s: float | None, default_s: float) -> _Answer:
        limit_s = default_s if timeout_s is None else _checked_limit(timeout_s)
        deadline_s = time.monotonic() + limit_s
        with (
            self._typed_errors(),
            self._http.stream(**self._arguments(request, limit_s)) as response,
        ):
            return self._read(response, deadline_s)

    def _read(self, response: httpx.Response, deadline_s: float) -> _Answer:
        answer = _Answer(response.status_code, response.headers, limit=self._max_response_bytes, deadline_s=deadline_s)
        for chunk in response.iter_bytes():
            answer.add(chunk)
        return answer


class AsyncClient(_Twin):
    """
    The API for asyncio, method by method the same as ``Client``; here a ``timeout_s`` is exact.

    One client belongs to one event loop. Its connections are aiohttp's: with a hundred requests at the same
    time httpx's own pool spends its time searching itself.
    """

    def __init__(
        self,
        api_key: str | SecretStr,
        base_url: str = DEFAULT_BASE_URL,
        *,
        connect_timeout_s: float = 5.0,
        query_timeout_s: float = 30.0,
        submit_timeout_s: float = 60.0,
        max_connections: int = 100,
        max_response_bytes: int = _MAX_RESPONSE_BYTES,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        api_key = _masked(api_key)
        super().__init__(
            api_key,
            base_url,
            connect_timeout_s=connect_timeout_s,
            query_timeout_s=query_timeout_s,
            submit_timeout_s=submit_timeout_s,
            max_connections=max_connections,
            max_response_bytes=max_response_bytes,
        )
        with _set_up():
            if transport is None:
                self._http, self._direct = self._over_aiohttp(max_connections)
            else:
                self._http, self._direct = httpx.AsyncClient(**self._options, transport=transport), None

    async def submit(
        self,
        model: str,
        params: dict[str, Any],
        *,
        out_task_id: str | None = None,
        callback_url: str | None = None,
        timeout_s: float | None = None,
    ) -> RemoteTask:
        """
        As ``Client.submit``.
        """
        body = wire.submit_body(model, params, out_task_id=out_task_id, callback_url=callback_url)
        return await self.submit_bytes(body, timeout_s=timeout_s)

    async def submit_bytes(self, body: bytes, *, timeout_s: float | None = None) -> RemoteTask:
        """
        As ``Client.submit_bytes``.
        """
        answer = await self._send(wire.submit_request(body), timeout_s, self._submit_timeout_s)
        return self._task(answer, out_task_id=wire.out_task_id_of(body))

    async def query(
        self, task_id: str | None = None, *, out_task_id: str | None = None, timeout_s: float | None = None
    ) -> RemoteTask:
        """
        As ``Client.query``.
        """
        request = wire.query_request(task_id, out_task_id)
        return self._task(await self._send(request, timeout_s, self._query_timeout_s), task_id, out_task_id)

    async def cancel(
        self, task_id: str | None = None, *, out_task_id: str | None = None, timeout_s: float | None = None
    ) -> RemoteTask:
        """
        As ``Client.cancel``.
        """
        request = wire.cancel_request(task_id, out_task_id)
        return self._task(await self._send(request, timeout_s, self._query_timeout_s), task_id, out_task_id)

    async def models(self, *, timeout_s: float | None = None) -> list[dict[str, Any]]:
        """
        As ``Client.models``.
        """
        return self._models(await self._send(wire.models_request(), timeout_s, self._query_timeout_s))

    async def stream(self, task_id: str, *, silence_s: float = 60.0) -> AsyncGenerator[StreamEvent]:
        """
        As ``Client.stream``. Wrap it in ``contextlib.aclosing`` to leave the loop early.
        """
        decoder = EventDecoder(limit=self._max_response_bytes)
        with self._typed_errors():
            async with self._http.stream(**self._stream_arguments(task_id, silence_s)) as response:
                if not _is_event_stream(response):
                    async with asyncio.timeout(silence_s):
                        answer = await self._read(response)
                    self._refuse_stream(answer)
                async for chunk in response.aiter_bytes():
                    for event in _events(decoder, chunk):
                        yield event

    async def aclose(self) -> None:
        """
        Close the connections.
        """
        await self._http.aclose()
        if self._direct is not None:
            await self._direct.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _send(self, request: wire.Request, timeout_s: float | None, default_s: float) -> _Answer:
        limit_s = default_s if timeout_s is None else _checked_limit(timeout_s)
        with self._typed_errors():
            async with asyncio.timeout(limit_s):
                if self._direct is not None:
                    return await self._exchange(self._direct, request)
                async with self._http.stream(**self._arguments(request, limit_s)) as response:
                    return await self._read(response)

    async def _exchange(self, direct: Direct, request: wire.Request) -> _Answer:
        async with direct.exchange(request) as response:
            answer = _Answer(response.status, response.headers, limit=self._max_response_bytes)
            async for chunk in response.content.iter_any():
                answer.add(chunk)
        if answer.headers.get("content-encoding", "identity") == "identity":
            return answer
        # against our wish: a proxy's doing, which httpx knows how to undo
        stream = httpx.ByteStream(answer.content)
        return await self._read(httpx.Response(answer.status_code, headers=dict(answer.headers), stream=stream))

    async def _read(self, response: httpx.Response) -> _Answer:
        answer = _Answer(response.status_code, response.headers, limit=self._max_response_bytes)
        async for chunk in response.aiter_bytes():
            answer.add(chunk)
        return answer

    def _over_aiohttp(self, max_connections: int) -> tuple[httpx.AsyncClient, Direct | None]:
        # Imported here: aiohttp would double the import time of a web application that only calls apply_async.
        from httpx_aiohttp import HttpxAiohttpClient  # noqa: PLC0415

        from tasks_bridge import direct  # noqa: PLC0415

        ssl_context = httpx.create_ssl_context()
        http = HttpxAiohttpClient(**self._options, verify=ssl_context)
        if not direct.is_possible():
            return http, None
        return http, direct.Direct(
            self._base_url,
            self._options["headers"],
            connect_timeout_s=self._connect_timeout_s,
            max_connections=max_connections,
            keepalive_s=_KEEPALIVE_S,
            ssl_context=ssl_context,
        )


def preload() -> None:
    """
    Import what ``AsyncClient`` needs, which otherwise its first use does.

    For a worker before it forks: its processes share the 9 MB then, and no first request holds up an event loop.
    """
    import httpx_aiohttp  # noqa: F401, PLC0415 - see `AsyncClient._over_aiohttp`

    import tasks_bridge.direct  # noqa: F401, PLC0415


@contextmanager
def _set_up() -> Iterator[None]:
    # httpx reads the environment when a client is made. The text of its error may hold a proxy's password.
    try:
        yield
    except (httpx.InvalidURL, ValueError, ImportError, OSError) as error:
        raise SettingsError(
            f"The HTTP client cannot be set up ({type(error).__name__}). Check HTTP_PROXY, HTTPS_PROXY, "
            "ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR."
        ) from None


def _masked(api_key: object) -> SecretStr:
    if isinstance(api_key, SecretStr):
        return api_key
    return SecretStr(api_key if isinstance(api_key, str) else "")


def _checked_key(api_key: SecretStr) -> SecretStr:
    if not api_key.get_secret_value():
        raise SettingsError("The API key is missing. Set BYTESPIKE_API_KEY to your ByteSpike key.")
    # Anything else would break the header, or smuggle another one in.
    if not re.fullmatch(r"[!-~]+", api_key.get_secret_value()):
        raise SettingsError(
            "The API key holds spaces or characters that no key has. Check BYTESPIKE_API_KEY for quotes, "
            "line ends or pieces of other settings."
        )
    return api_key


def _checked_base_url(base_url: object) -> str:
    wanted = "The base URL must look like https://llm.bytespike.ai, without user, query and fragment"
    try:
        url = httpx.URL(base_url) if isinstance(base_url, str) else None
    except httpx.InvalidURL:
        # Not its own text: it quotes a part, which may be one of a password.
        url = None
    if url is None or url.scheme not in ("http", "https") or not url.host:
        raise SettingsError(f"{wanted}.")
    if url.userinfo or url.query or url.fragment:
        raise SettingsError(f"{wanted}. The key belongs in BYTESPIKE_API_KEY.")
    # Base URLs written for other SDKs end in /v1, which is part of every path here.
    return str(url).rstrip("/").removesuffix("/v1").rstrip("/")


def _checked_timeout(seconds: object, name: str) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise SettingsError(f"{name} must be a number of seconds greater than 0.")
    return float(seconds)


def _checked_limit(timeout_s: float) -> float:
    if not 0 < timeout_s < math.inf:
        raise InvalidRequest("timeout_s must be a number of seconds greater than 0.")
    return timeout_s


def _is_from_aiohttp(error: BaseException | None) -> bool:
    # By name, so that nothing here imports aiohttp.
    return type(error).__module__.partition(".")[0] == "aiohttp"


def _is_timeout(error: Exception) -> bool:
    # httpx-aiohttp calls every lost connection a ConnectTimeout, even a refused one; its cause knows better.
    if _is_from_aiohttp(error.__cause__):
        return isinstance(error.__cause__, TimeoutError)
    return isinstance(error, httpx.TimeoutException | TimeoutError)


def _is_event_stream(response: httpx.Response) -> bool:
    return response.is_success and response.headers.get("content-type", "").lower().startswith("text/event-stream")


def _events(decoder: EventDecoder, chunk: bytes) -> Iterator[StreamEvent]:
    try:
        for event in decoder.feed(chunk):
            yield wire.read_event(event)
    except EventTooLarge as error:
        raise ApiResponseError(f"{error} Query the task instead of streaming it.") from None
