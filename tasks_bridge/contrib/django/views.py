"""
The endpoints as Django views, and as responses for views of your own.

The views are synchronous, under ASGI too: each makes one or two short calls to Redis. The stream that `events` answers
with under ASGI is not: it runs in the server's event loop and takes no thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from tasks_bridge.contrib.django.recall import entry_of_row
from tasks_bridge.contrib.django.unpinned import unpinned
from tasks_bridge.web.answers import Answer, Request, Stream
from tasks_bridge.web.endpoints import Endpoints

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

_endpoints = Endpoints(recall=entry_of_row)


def _open(view: Callable[[HttpRequest, str], HttpResponseBase]) -> Callable[[HttpRequest, str], HttpResponseBase]:
    """A view that asks for a token and nothing else: no login (`LoginRequiredMiddleware`), no cookie to be forged."""
    view.login_required = False  # type: ignore[attr-defined]  # what Django's `login_not_required` does
    exempt: Callable[[HttpRequest, str], HttpResponseBase] = csrf_exempt(view)
    return exempt


@_open
def job(request: HttpRequest, token: str) -> HttpResponseBase:
    """The document of the job that *token* stands for."""
    return _response(_endpoints.status(token, _asked(request)))


@_open
def events(request: HttpRequest, token: str) -> HttpResponseBase:
    """Its documents as they change: a stream under ASGI, one event under WSGI."""
    return _response(_endpoints.events(token, _asked(request)))


@_open
def cancel(request: HttpRequest, token: str) -> HttpResponseBase:
    """Cancel it."""
    return _response(_endpoints.cancel(token, _asked(request)))


@_open
def callback(request: HttpRequest, token: str) -> HttpResponseBase:
    """ByteSpike's word that it has ended."""
    return _response(_endpoints.callback(token, _asked(request)))


def script(request: HttpRequest) -> HttpResponseBase:
    """The element for web pages."""
    return _response(_endpoints.script(_asked(request)))


def metrics(request: HttpRequest) -> HttpResponseBase:
    """The gauges of all jobs, for whoever has the token."""
    return _response(_endpoints.metrics(_asked(request)))


for _view in (script, metrics):
    _view.login_required = False  # type: ignore[attr-defined]


def job_response(request: HttpRequest, job_id: str, **links: str) -> HttpResponseBase:
    """
    The document of *job_id*, for a view that has made sure that whoever asks may see it.

    Args:
        request: The view's.
        job_id: Of a row that the view has found for this user, say.
        links: ``events_url`` and ``cancel_url``, if the page should have them.
    """
    return _response(_endpoints.show(job_id, _asked(request), links))


async def ajob_response(request: HttpRequest, job_id: str, **links: str) -> HttpResponseBase:
    """`job_response` for an asynchronous view."""
    response: HttpResponseBase = await sync_to_async(job_response, thread_sensitive=False)(request, job_id, **links)
    return response


def job_events_response(request: HttpRequest, job_id: str, **links: str) -> HttpResponseBase:
    """The documents of *job_id* as they change, likewise."""
    return _response(_endpoints.stream(job_id, _asked(request), links))


async def ajob_events_response(request: HttpRequest, job_id: str, **links: str) -> HttpResponseBase:
    """`job_events_response` for an asynchronous view."""
    asked = sync_to_async(job_events_response, thread_sensitive=False)
    response: HttpResponseBase = await asked(request, job_id, **links)
    return response


def _asked(request: HttpRequest) -> Request:
    return Request.of(request.method, request.headers.get, can_stream=isinstance(request, ASGIRequest))


def _response(answer: Answer | Stream) -> HttpResponseBase:
    headers: dict[str, Any] = dict(answer.headers)
    if isinstance(answer, Stream):
        # Django's GZipMiddleware would make each event a gzip file of its own, of which browsers read the first
        return StreamingHttpResponse(unpinned(answer.chunks), headers={**headers, "Content-Encoding": "identity"})
    response = HttpResponse(answer.body, status=answer.status, headers=headers)
    if "Content-Type" not in headers:
        del response["Content-Type"]  # Django's guess, of nothing
    return response
