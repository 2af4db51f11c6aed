from __future__ import annotations

from typing import Any

from celery import signature
from django.db import models

from tasks_bridge.contrib.django.models import RemoteJobModel

MODEL = "seedream-v4"


class Render(RemoteJobModel):
    prompt = models.TextField()
    script = models.JSONField(default=dict)
    """How its remote task goes."""
    label = models.CharField(max_length=40, blank=True)
    picture = models.FileField(blank=True)

    def __str__(self) -> str:
        return self.prompt

    def job_request(self) -> tuple[str, dict[str, Any]]:
        return MODEL, {"prompt": self.prompt, "sandbox": {"duration_s": 0.3, "estimate_s": 1, **self.script}}

    def job_options(self) -> dict[str, Any]:
        """A labelled one has a callback, too."""
        return {"label": self.label, "link": signature("tests.django.shop.tasks.publish")} if self.label else {}


class Clip(RemoteJobModel):
    """One whose request its row doesn't tell."""

    title = models.CharField(max_length=20)

    def __str__(self) -> str:
        return self.title


class LargeClip(Clip):
    """With a table of its own, but not for the job."""


class SameClip(Clip):
    class Meta:
        proxy = True


class Note(models.Model):
    """What a receiver or a callback wrote."""

    job_id = models.CharField(max_length=64)
    text = models.CharField(max_length=200)

    def __str__(self) -> str:
        return self.text


class Fault(models.Model):
    """What goes wrong the next time a receiver hears of a job; once."""

    job_id = models.CharField(max_length=64)
    kind = models.CharField(max_length=20)

    def __str__(self) -> str:
        return self.kind
