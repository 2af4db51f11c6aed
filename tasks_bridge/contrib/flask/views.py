"""
The endpoints as a blueprint, and as responses for views of your own.

Flask is WSGI, where an open answer keeps a thread or a process: so `events` answers with one event, and pages poll.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, Response, current_app, request, url_for

from tasks_bridge.contrib.flask.state import state_of
from tasks_bridge.web.answers import Answer, Request, Stream
from tasks_bridge.web.endpoints import SCRIPT
from tasks_bridge.web.links import status_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks_bridge.web.endpoints import Endpoints

NAME: Final = "tasks_bridge"

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""All of them, for which it is the endpoint that answers 405, as everywhere else."""

blueprint = Blueprint(NAME, __name__)
"""The URLs: registered by the extension, and here for whoever wants to exempt them from something."""


def _route(rule: str, view: Callable[..., Response]) -> None:
    blueprint.add_url_rule(rule, view_func=view, methods=_METHODS, provide_automatic_options=False)


def job(token: str) -> Response:
    """The document of the job that *token* stands for."""
    return _response(_endpoints().status(token, _asked()))


def events(token: str) -> Response:
    """The same as the only event, and when to come back."""
    return _response(_endpoints().events(token, _asked()))


def cancel(token: str) -> Response:
    """Cancel it."""
    return _response(_endpoints().cancel(token, _asked()))


def callback(token: str) -> Response:
    """ByteSpike's word that it has ended."""
    return _response(_endpoints().callback(token, _asked()))


def script() -> Response:
    """The element for web pages."""
    return _response(_endpoints().script(_asked()))


def metrics() -> Response:
    """The gauges of all jobs, for whoever has the token."""
    return _response(_endpoints().metrics(_asked()))


_route("/jobs/<token>", job)
_route("/jobs/<token>/events", events)
_route("/jobs/<token>/cancel", cancel)
_route("/callback/<token>", callback)
_route(f"/{SCRIPT}", script)
_route("/metrics", metrics)


def job_url(job_id: str, *, may_cancel: bool = False, ttl_s: float | None = None, **values: Any) -> str:
    """
    Where whoever has the URL can follow *job_id*, and cancel it if *may_cancel*. See `status_token`.

    Args:
        job_id: The job.
        may_cancel: Whether it may also be cancelled.
        ttl_s: For how many seconds at least; default: as long as a finished job is remembered.
        values: As for Flask's `url_for`: ``_external=True``, ``_scheme="https"``.

    Raises:
        SettingsError: There is no ``SECRET_KEY``.
        InvalidRequest: *job_id* can't be a job's id, or *ttl_s* is no time.
    """
    celery = state_of(current_app).celery
    token = status_token(job_id, may_cancel=may_cancel, ttl_s=ttl_s, app=celery)
    return url_for(f"{NAME}.job", token=token, **values)


def job_response(job_id: str, **links: str) -> Response:
    """
    The document of *job_id*, for a view that has made sure that whoever asks may see it.

    Args:
        job_id: Of a row that the view has found for this user, say.
        links: ``events_url`` and ``cancel_url``, if the page should have them.
    """
    return _response(_endpoints().show(job_id, _asked(), links))


def job_events_response(job_id: str, **links: str) -> Response:
    """The same as an event, likewise."""
    return _response(_endpoints().stream(job_id, _asked(), links))


def _endpoints() -> Endpoints:
    return state_of(current_app).endpoints


def _asked() -> Request:
    return Request.of(request.method, request.headers.get, can_stream=False)


def _response(answer: Answer | Stream) -> Response:
    if isinstance(answer, Stream):
        raise TypeError("a WSGI server can't stream without keeping a thread")
    response = Response(answer.body, status=answer.status, headers=dict(answer.headers))
    if "Content-Type" not in answer.headers:
        del response.headers["Content-Type"]  # Werkzeug's guess, of nothing
    return response
