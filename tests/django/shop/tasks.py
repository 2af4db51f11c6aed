from typing import Any

from celery import shared_task

from tasks_bridge import RemoteTask
from tests.django.shop.models import Note, Render


@shared_task
def publish(video: dict[str, Any]) -> None:
    """A completion callback that reads the row."""
    row = Render.objects.get(job_id=video["out_task_id"])
    Note.objects.create(job_id=row.job_id, text=f"callback finds {row.job_state}")


@shared_task(pydantic=True)
def keep(picture: RemoteTask) -> None:
    """The step behind `save_output`."""
    Render.objects.filter(job_id=picture.out_task_id).update(picture=picture.saved[0].path)
