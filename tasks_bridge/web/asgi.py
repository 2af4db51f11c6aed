"""The endpoints as an ASGI application, to be mounted by Starlette, FastAPI or any other ASGI framework."""

from __future__ import annotations

import asyncio
import re
from contextlib import aclosing, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from tasks_bridge.web.answers import Answer, Request, Stream, refusal
from tasks_bridge.web.endpoints import SCRIPT, Endpoints

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping

    from celery import Celery

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

_ROUTES: Final = {
    "status": re.compile(r"/jobs/([^/]+)"),
    "events": re.compile(r"/jobs/([^/]+)/events"),
    "cancel": re.compile(r"/jobs/([^/]+)/cancel"),
    "callback": re.compile(r"/callback/([^/]+)"),
    "script": re.compile(re.escape(f"/{SCRIPT}")),
    "metrics": re.compile(r"/metrics"),
}


class JobsApp:
    """An ASGI application with the URLs of `endpoints`, for ``app.mount("/bytespike", JobsApp(celery_app))``."""

    def __init__(self, app: Celery | None = None) -> None:
        """Serve the jobs of the Celery app *app*, by default the current one."""
        self._endpoints = Endpoints(app)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request; the rest of its body is not asked for."""
        if scope["type"] != "http":
            raise ValueError(f"JobsApp speaks HTTP, not {scope['type']}")
        # calls to Redis in a thread, for milliseconds; a stream needs none
        answer = await asyncio.to_thread(self._answer, scope)
        if isinstance(answer, Stream):
            await _stream(answer, receive, send)
            return
        length = [] if answer.status == HTTPStatus.NO_CONTENT else [("Content-Length", str(len(answer.body)))]
        await send(_start(answer.status, [*answer.headers.items(), *length]))
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})

    def _answer(self, scope: Mapping[str, Any]) -> Answer | Stream:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        request = Request.of(scope["method"], lambda name: headers.get(name.lower()), can_stream=True)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        for name, pattern in _ROUTES.items():
            if found := pattern.fullmatch(path):
                answer: Answer | Stream = getattr(self._endpoints, name)(*found.groups(), request)
                return answer
        return refusal(HTTPStatus.NOT_FOUND, "not_found", "There is nothing here.")


async def _stream(stream: Stream, receive: Receive, send: Send) -> None:
    """Send chunks until there are no more, or the client has gone."""
    sending = asyncio.create_task(_send_all(stream, send))
    leaving = asyncio.create_task(_left(receive))
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, leaving):
            task.cancel()
        with suppress(asyncio.CancelledError, OSError):  # a server may tell of a lost connection by OSError
            await sending


async def _send_all(stream: Stream, send: Send) -> None:
    await send(_start(HTTPStatus.OK, stream.headers.items()))
    async with aclosing(stream.chunks) as chunks:  # type: ignore[type-var]  # a generator
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _start(status: int, headers: Iterable[tuple[str, str]]) -> Message:
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return {"type": "http.response.start", "status": int(status), "headers": encoded}
