"""``{% load bytespike %}``: the element that shows a job on a page."""

from __future__ import annotations

from typing import Any

from django import template
from django.urls import reverse
from django.utils.safestring import mark_safe

from tasks_bridge.contrib.django.models import RemoteJobModel, status_url
from tasks_bridge.web.markup import job_element, script_element

register = template.Library()


@register.simple_tag
def bytespike_job(job: RemoteJobModel | str | None, *, may_cancel: bool = False, **attributes: Any) -> str:
    """
    The element for *job*, a row or a job's id: ``{% bytespike_job render may_cancel=True class="wide" %}``.

    Nothing for a row without a job.
    """
    job_id = job.job_id if isinstance(job, RemoteJobModel) else job
    if not job_id:
        return ""
    source = status_url(str(job_id), may_cancel=may_cancel)
    return mark_safe(job_element(source, attributes))  # noqa: S308 - escaped there


@register.simple_tag
def bytespike_script(**attributes: Any) -> str:
    """
    What teaches the browser the element: once on each page that has one.

    ``{% bytespike_script nonce=csp_nonce %}`` where a Content-Security-Policy asks for it.
    """
    return mark_safe(script_element(reverse("tasks_bridge:script"), attributes))  # noqa: S308 - escaped there
