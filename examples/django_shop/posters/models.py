"""A poster: what a visitor ordered, and what became of it."""

import json

from django.db import models
from django.urls import reverse

from tasks_bridge import JobState, save_output
from tasks_bridge.contrib.django.models import RemoteJobModel

TEXTS = {
    "queued": "In the queue",
    "pending": "In the queue",
    "running": "Printing",
    "almost": "any moment now",
    "cancelled": "Cancelled. You pay nothing for it.",
    "content_policy_violation": "We are sorry: our rules forbid us to print this one. You pay nothing for it.",
    "limit": "That was a lot for one day. Please come back tomorrow.",
}
"""What an order's element says in the shop's own words; docs/live.md has all there is to say."""


class PosterQuerySet(models.QuerySet):
    """Posters, by how far they are."""

    def in_the_making(self):
        return self.filter(job_state__in=[state for state in JobState if not state.is_terminal])

    def finished(self):
        return self.filter(job_state=JobState.COMPLETED)


class Poster(RemoteJobModel):
    """One order. Its job is started by `start_job`, and the workers keep the ``job_`` fields up to date."""

    class Kind(models.TextChoices):
        STILL = "still", "Print"
        MOVING = "moving", "Moving poster"

    visitor = models.CharField(max_length=32, db_index=True, editable=False)
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.STILL)
    prompt = models.CharField(max_length=300)
    ordered_at = models.DateTimeField(auto_now_add=True)
    file = models.FileField("saved file", blank=True, editable=False)

    objects = PosterQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]

    def __str__(self):
        return self.prompt

    def get_absolute_url(self):
        return reverse("posters:poster", args=[self.pk])

    def job_request(self):
        """What `start_job` asks ByteSpike for."""
        if self.kind == self.Kind.MOVING:
            return "seedance-fast", {"prompt": self.prompt, "duration_seconds": 4, "aspect_ratio": "9:16"}
        return "seedream-v4", {"prompt": self.prompt, "size": "768x1024"}

    def job_options(self):
        """Each visitor has a budget: the label. ByteSpike's files are said to be there for a day: they are saved."""
        from .tasks import hang  # which imports this module

        return {"label": self.visitor, "link": save_output.s("django://default/posters/{id}.{ext}") | hang.s()}

    @property
    def texts(self):
        """What the element on the page says."""
        return json.dumps({**TEXTS, "running": "Filming"} if self.kind == self.Kind.MOVING else TEXTS)
