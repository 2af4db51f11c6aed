"""Views that look at who asks, and then show a job."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404

from tasks_bridge.contrib.django.views import (
    ajob_events_response,
    ajob_response,
    job_events_response,
    job_response,
)
from tests.django.shop.models import Render


def show(request: Any, pk: int) -> Any:
    return job_response(request, get_object_or_404(Render, pk=pk).job_id, events_url="events")


async def ashow(request: Any, pk: int) -> Any:
    row = await Render.objects.aget(pk=pk)
    return await ajob_response(request, row.job_id)


def follow(request: Any, pk: int) -> Any:
    return job_events_response(request, get_object_or_404(Render, pk=pk).job_id)


async def afollow(request: Any, pk: int) -> Any:
    row = await Render.objects.aget(pk=pk)
    return await ajob_events_response(request, row.job_id)
