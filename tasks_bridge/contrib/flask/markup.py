"""``{{ bytespike_job(job) }}`` and ``{{ bytespike_script() }}``: the element that shows a job on a page."""

from __future__ import annotations

from typing import Any

from celery.result import AsyncResult
from flask import url_for
from markupsafe import Markup

from tasks_bridge.contrib.flask.views import NAME, job_url
from tasks_bridge.errors import InvalidRequest
from tasks_bridge.jobs import Job
from tasks_bridge.web.markup import job_element, script_element


def bytespike_job(job: Any, *, may_cancel: bool = False, **attributes: Any) -> Markup:
    """
    The element that shows *job* on a page.

    ``{{ bytespike_job(render, may_cancel=True, class="wide") }}``

    Args:
        job: A job's id, what `generate` returned, a `Job`, or a row of yours with the id in ``job_id``. Nothing is
            shown for None, or for a row without a job.
        may_cancel: Whether whoever sees the page may cancel it.
        attributes: Attributes of the element; ``data_row`` is ``data-row`` on the page.

    Raises:
        InvalidRequest: *job* is nothing of that.
    """
    job_id = _id_of(job)
    if job_id is None:
        return Markup()
    return Markup(job_element(job_url(job_id, may_cancel=may_cancel), attributes))  # noqa: S704 - escaped there


def bytespike_script(**attributes: Any) -> Markup:
    """
    What teaches the browser the element: once on each page that has one.

    ``{{ bytespike_script(nonce=csp_nonce()) }}`` where a Content-Security-Policy asks for it.
    """
    return Markup(script_element(url_for(f"{NAME}.script"), attributes))  # noqa: S704 - escaped there


def _id_of(job: Any) -> str | None:
    if job is None or isinstance(job, str):
        return job
    if isinstance(job, Job | AsyncResult):
        return str(job.id)
    if not hasattr(job, "job_id"):
        raise InvalidRequest(
            f"bytespike_job takes a job's id, a result, a Job or an object with a job_id, not {type(job).__name__}"
        )
    return None if job.job_id is None else str(job.job_id)
