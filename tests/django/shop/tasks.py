from __future__ import annotations

from typing import Any

from celery import shared_task

from tests.django.shop.models import Note, Render


@shared_task
def publish(video: dict[str, Any]) -> None:
    """A completion callback that reads the row."""
    row = Render.objects.get(job_id=video["out_task_id"])
    Note.objects.create(job_id=row.job_id, text=f"callback finds {row.job_state}")
