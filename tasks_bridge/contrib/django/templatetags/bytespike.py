"""``{% load bytespike %}``: the element that shows a job on a page."""

from __future__ import annotations

from typing import Any

from django import template
from django.forms.utils import flatatt
from django.urls import reverse
from django.utils.html import format_html

from tasks_bridge.contrib.django.models import RemoteJobModel, status_url

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
    # data_x in a template is data-x in the page
    named = {name.replace("_", "-"): value for name, value in attributes.items()}
    source = status_url(str(job_id), may_cancel=may_cancel)
    return format_html("<bytespike-job{}></bytespike-job>", flatatt({"src": source, **named}))


@register.simple_tag
def bytespike_script() -> str:
    """What teaches the browser the element: once on each page that has one."""
    return format_html('<script type="module" src="{}"></script>', reverse("tasks_bridge:script"))
