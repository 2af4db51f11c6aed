"""What happens when a poster is finished: Celery tasks, which run in the workers."""

from pathlib import PurePosixPath
from urllib.parse import urlsplit

import httpx
from celery import shared_task
from django.core.files.base import ContentFile

from tasks_bridge import RemoteTask

from .models import Poster


@shared_task(pydantic=True, acks_late=True, autoretry_for=(httpx.HTTPError,), retry_backoff=True, max_retries=10)
def hang(finished: RemoteTask) -> None:
    """Save the file, for ByteSpike's URL is said to end after a day. Running twice, as after a crash, does no harm."""
    poster = Poster.objects.get(job_id=finished.out_task_id)
    if poster.file:
        return
    url = finished.urls[0]
    answer = httpx.get(url, timeout=60, follow_redirects=True).raise_for_status()
    name = f"{poster.job_id}{PurePosixPath(urlsplit(url).path).suffix}"
    poster.file.save(name, ContentFile(answer.content), save=False)
    Poster.objects.filter(pk=poster.pk).update(file=poster.file.name)
