"""
The URLs of jobs, whatever the framework: a request's plain values in, an answer or a stream out.

===============================  =========  ==================================================================
path, under any prefix           method     answer
===============================  =========  ==================================================================
``jobs/<token>``                 GET, HEAD  the job's document, with an ETag
``jobs/<token>/events``          GET        the documents as server-sent events
``jobs/<token>/cancel``          POST       202 and the document; 403 if the token may only see
``callback/<token>``             POST       204: ByteSpike says that a job has ended; its body is never read
``bytespike-job.js``             GET, HEAD  the element for web pages
``metrics``                      GET, HEAD  the gauges of all jobs, for Prometheus; 401 without the token in
                                            ``TASKS_BRIDGE_METRICS_TOKEN``, 404 if that is not set
===============================  =========  ==================================================================

What is wrong with a request is 4xx and ``{"error": {"code", "message"}}``, and changes nothing. 404 is a token that is
none, has ended, or stands for a job that is forgotten; 503 has Retry-After.
"""

from __future__ import annotations

import gzip
import logging
import re
from functools import cache, wraps
from hmac import compare_digest
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

from tasks_bridge import callbacks
from tasks_bridge.bridge import bridge_of
from tasks_bridge.errors import InvalidToken, JobNotFound, StoreError
from tasks_bridge.web import events
from tasks_bridge.web.answers import (
    Answer,
    Request,
    Stream,
    document_answer,
    empty,
    encode,
    json_answer,
    matches,
    refusal,
    version_of,
    wrong_method,
)
from tasks_bridge.web.document import document
from tasks_bridge.web.follow import follow
from tasks_bridge.web.hub import hub_of
from tasks_bridge.web.links import check_token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celery import Celery

    from tasks_bridge.bridge import Bridge
    from tasks_bridge.store import Entry

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)

CALLBACK_MAX_BYTES: Final = 1024 * 1024
"""
What a callback's body may be said to have. It is not read in any case; what is longer is none of ByteSpike's, whose own
requests end there (contract, section 3).
"""

RETRY_AFTER_S: Final = 5
"""How long who is told 503 should wait."""

SCRIPT: Final = "bytespike-job.js"
SCRIPT_MAX_AGE_S: Final = 3600

_GET: Final = ("GET", "HEAD")
_NEVER: Final = re.compile(r"q=0(\.0*)?")


def _answering(
    endpoint: Callable[Concatenate[Endpoints, P], R],
) -> Callable[Concatenate[Endpoints, P], R | Answer]:
    """Turn what was raised for the caller's or for Redis' sake into an answer; the rest is the framework's."""

    @wraps(endpoint)
    def answer(self: Endpoints, *args: P.args, **kwargs: P.kwargs) -> R | Answer:
        try:
            return endpoint(self, *args, **kwargs)
        except (InvalidToken, JobNotFound):
            return refusal(HTTPStatus.NOT_FOUND, "not_found", "There is no such job, or its link has ended.")
        except StoreError as error:
            log.warning("answered 503: %s", error)
            return _unavailable("Nothing can be said of any job right now.")

    return answer  # type: ignore[return-value]  # how mypy sees `wraps`


class Endpoints:
    """
    The endpoints of one Celery app.

    Raises:
        SettingsError: From every method, if there is no secret key, or `install` was not called.
    """

    def __init__(self, app: Celery | None = None, recall: Callable[[str], Entry | None] | None = None) -> None:
        """
        Serve the jobs of *app*, by default the current one.

        Args:
            app: The Celery app.
            recall: What the application itself still knows of a job that the store has forgotten, or doesn't have yet.
        """
        self._app = app
        self._recall = recall

    # -- by token: whoever has the link -------------------------------------------------------------------------------

    @_answering
    def status(self, token: str, request: Request) -> Answer:
        """The job's document."""
        access = check_token(token, app=self._app)
        return self._show(access.job_id, request, self._links(token, request, may_cancel=access.may_cancel))

    @_answering
    def events(self, token: str, request: Request) -> Answer | Stream:
        """The job's documents as they change."""
        access = check_token(token, app=self._app)
        return self._stream(access.job_id, request, self._links(token, request, may_cancel=access.may_cancel))

    @_answering
    def cancel(self, token: str, request: Request) -> Answer:
        """Cancel the job, at ByteSpike too. The token is all that it takes: no cookie, so nothing to forge."""
        access = check_token(token, app=self._app)
        if refused := wrong_method(request, "POST"):
            return refused
        if not access.may_cancel:
            return refusal(HTTPStatus.FORBIDDEN, "read_only", "This link may follow the job, and not cancel it.")
        state = self._bridge.store.request_cancel(access.job_id, "cancelled on a web page")
        entry = self._entry(access.job_id)
        is_late = state is not None and state.is_terminal
        content = {**self._document(entry), **self._links(token, request, may_cancel=True)}
        return json_answer(HTTPStatus.OK if is_late else HTTPStatus.ACCEPTED, content)

    @_answering
    def callback(self, token: str, request: Request) -> Answer:
        """ByteSpike's word that a job has ended: it is looked at soon. See `callbacks`."""
        if refused := wrong_method(request, "POST"):
            return refused
        if request.content_length.isdecimal() and int(request.content_length) > CALLBACK_MAX_BYTES:
            return refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"At most {CALLBACK_MAX_BYTES} bytes.")
        callbacks.receive(token, app=self._app)
        return empty()

    # -- by job id: the application has decided who may ---------------------------------------------------------------

    @_answering
    def show(self, job_id: str, request: Request, links: Mapping[str, str] | None = None) -> Answer:
        """The document of *job_id*, for a view that has made sure who asks; *links* goes into it."""
        return self._show(job_id, request, links or {})

    @_answering
    def stream(self, job_id: str, request: Request, links: Mapping[str, str] | None = None) -> Answer | Stream:
        """The documents of *job_id* as they change, likewise."""
        return self._stream(job_id, request, links or {})

    # -- the rest -----------------------------------------------------------------------------------------------------

    def script(self, request: Request) -> Answer:
        """The element for web pages: one file of JavaScript."""
        if refused := wrong_method(request, *_GET):
            return refused
        is_packed = _takes_gzip(request.accept_encoding)
        body = _script(is_packed=is_packed)
        headers = {
            "ETag": f'"{version_of(body)}"',
            "Cache-Control": f"public, max-age={SCRIPT_MAX_AGE_S}",
            "Vary": "Accept-Encoding",
            "X-Content-Type-Options": "nosniff",
            **({"Content-Encoding": "gzip"} if is_packed else {}),
        }
        if matches(request.if_none_match, headers["ETag"]):
            return Answer(HTTPStatus.NOT_MODIFIED, headers)
        return Answer(HTTPStatus.OK, {"Content-Type": "text/javascript; charset=utf-8", **headers}, body)

    def metrics(self, request: Request) -> Answer:
        """
        The gauges of all jobs, for whoever has the token.

        Raises:
            SettingsError: A token is set, and prometheus-client is missing.
        """
        token = self._bridge.settings.metrics_token
        if token is None:
            return refusal(HTTPStatus.NOT_FOUND, "not_found", "There is nothing here.")
        if refused := wrong_method(request, *_GET):
            return refused
        if not compare_digest(request.authorization.encode(), f"Bearer {token.get_secret_value()}".encode()):
            return refusal(HTTPStatus.UNAUTHORIZED, "unauthorized", "Send the token.", WWW_Authenticate="Bearer")
        from tasks_bridge import metrics  # noqa: PLC0415 - optional

        headers = {"Content-Type": metrics.CONTENT_TYPE_LATEST, "Cache-Control": "no-store"}
        return Answer(HTTPStatus.OK, headers, metrics.exposition(metrics.SharedCollector(self._bridge)))

    @property
    def _bridge(self) -> Bridge:
        return bridge_of(self._app)

    def _entry(self, job_id: str) -> Entry:
        entry = self._bridge.store.get([job_id])[0]
        if entry is None and self._recall is not None:
            entry = self._recall(job_id)
        if entry is None:
            raise JobNotFound(job_id)
        return entry

    def _document(self, entry: Entry) -> dict[str, Any]:
        return document(entry, show_credits=self._bridge.settings.show_credits)

    def _can_stream(self, request: Request) -> bool:
        return request.can_stream and self._bridge.settings.stream_limit > 0

    def _links(self, token: str, request: Request, *, may_cancel: bool) -> dict[str, str]:
        """Relative to the document's own URL, which a proxy may have changed on its way here."""
        found = {"events_url": f"{token}/events"} if self._can_stream(request) else {}
        return {**found, "cancel_url": f"{token}/cancel"} if may_cancel else found

    def _show(self, job_id: str, request: Request, links: Mapping[str, str]) -> Answer:
        if refused := wrong_method(request, *_GET):
            return refused
        return document_answer({**self._document(self._entry(job_id)), **links}, request)

    def _stream(self, job_id: str, request: Request, links: Mapping[str, str]) -> Answer | Stream:
        if refused := wrong_method(request, "GET"):
            return refused
        entry = self._entry(job_id)
        content = {**self._document(entry), **links}
        body = encode(content)
        version = version_of(body)
        if entry.state.is_terminal and request.last_event_id == version:
            return empty()  # which tells an EventSource to come back no more
        if not self._can_stream(request):
            return _one_event(content, version, body, request)
        hub = hub_of(self._bridge)
        if hub.is_full:
            return _unavailable("Too many pages are following jobs. Ask for the document from time to time instead.")
        chunks = follow(
            hub, entry, lambda found: {**self._document(found), **links}, last_event_id=request.last_event_id
        )
        return Stream(events.HEADERS, chunks)


def _one_event(content: Mapping[str, Any], version: str, body: bytes, request: Request) -> Answer:
    """
    The present document as the only event, and when to come back.

    What a server gets whose every open answer keeps a thread or a process: polling, in words that an EventSource
    understands. Nobody waits on the server's side.
    """
    pause = events.retry((content["poll_s"] or 0) * 1000 or events.RECONNECT_MS)
    news = b"" if request.last_event_id == version else events.event(version, body)
    return Answer(HTTPStatus.OK, events.HEADERS, pause + news)


def _unavailable(message: str) -> Answer:
    return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", message, Retry_After=str(RETRY_AFTER_S))


def _takes_gzip(accept_encoding: str) -> bool:
    """
    Whether *accept_encoding* names gzip and does not forbid it.

    Source: RFC 9110, section 12.5.3.
    """
    for one in accept_encoding.lower().split(","):
        name, *parameters = (part.strip() for part in one.split(";"))
        if name in ("gzip", "x-gzip"):
            return not any(_NEVER.fullmatch(parameter) for parameter in parameters)
    return False


@cache
def _script(*, is_packed: bool) -> bytes:
    body = (files("tasks_bridge.web") / SCRIPT).read_bytes()
    return gzip.compress(body, mtime=0) if is_packed else body
