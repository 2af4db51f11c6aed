"""What the shop does when its rows change: it writes down what it heard, and then perhaps fails as it was told to."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import OperationalError
from django.dispatch import receiver

from tasks_bridge.contrib.django.signals import job_cancelled, job_changed, job_completed, job_failed
from tests.django.shop.models import Fault, Note


@receiver(job_changed)
def note_change(instance: Any, before: str, **_: Any) -> None:
    Note.objects.create(job_id=instance.job_id, text=f"{before} -> {instance.job_state}")
    fault = Fault.objects.filter(job_id=instance.job_id).first()
    if fault is None:
        return
    if fault.kind == "bug":
        raise ValueError("a bug in the application")
    # in a file, for the database forgets what happens now
    marker = Path(f"{settings.DATABASES['default']['NAME']}-{instance.job_id}-{instance.job_state}")
    if not marker.exists():
        marker.touch()
        if fault.kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OperationalError("the database went away")


@receiver([job_completed, job_failed, job_cancelled])
def note_end(instance: Any, signal: Any, **_: Any) -> None:
    name = {id(job_completed): "completed", id(job_failed): "failed", id(job_cancelled): "cancelled"}[id(signal)]
    Note.objects.create(job_id=instance.job_id, text=name)
