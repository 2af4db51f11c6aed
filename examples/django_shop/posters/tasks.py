"""What happens when a poster is finished and its file saved: a Celery task, which runs in the workers."""

from celery import shared_task
from django.db import OperationalError

from tasks_bridge import RemoteTask

from .models import Poster


@shared_task(pydantic=True, acks_late=True, autoretry_for=(OperationalError,), retry_backoff=True, max_retries=10)
def hang(finished: RemoteTask) -> None:
    """Write into the row where `save_output` has put the file. Running twice, as after a crash, does no harm."""
    Poster.objects.filter(job_id=finished.out_task_id).update(file=finished.saved[0].path)
