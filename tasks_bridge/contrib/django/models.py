"""A job as a part of the application's own rows."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from django.db import models, router, transaction
from django.urls import reverse
from django.utils import timezone

from tasks_bridge.errors import JobNotFinished
from tasks_bridge.jobs import Job
from tasks_bridge.order import parse_order
from tasks_bridge.record import OPEN_STATES, JobState
from tasks_bridge.tasks import generate
from tasks_bridge.web.links import status_token

_ARGUMENTS: Final = ("deadline_s", "key", "label", "max_credits")
"""What of the options of `start_job` are arguments of `generate`; the others are Celery's."""


class RemoteJobModel(models.Model):
    """
    Derive a model from it, and each of its rows can have a job, whose state, outputs and cost are kept in the row.

    ```python
    class Render(RemoteJobModel):
        prompt = models.TextField()

    render = Render(prompt="a fox")
    render.start_job("seedream-v4", {"prompt": render.prompt})
    ```

    The ``job_`` fields are the workers' to write: an ordinary `save` of a row leaves them as they are in the database,
    for what the view had loaded may be older.
    """

    job_id = models.CharField(
        "job",
        max_length=64,
        unique=True,
        null=True,
        blank=True,
        default=None,
        editable=False,
    )
    """The job's id: Celery's task id, ByteSpike's ``out_task_id``. None: no job was started for this row."""
    job_key = models.CharField("API key", max_length=64, blank=True, default="", editable=False)
    """Alias of the API key, which alone can see the job at ByteSpike."""
    job_state = models.CharField(
        "state",
        max_length=16,
        blank=True,
        default="",
        editable=False,
        db_index=True,
        choices=[(state.value, state.value.capitalize()) for state in JobState],
    )
    """A `JobState`, or ``""`` without a job."""
    job_outputs = models.JSONField("outputs", blank=True, default=list, editable=False)
    """The outputs as ByteSpike told them: a list of objects, most with a ``url`` that is said to last for 24 hours."""
    job_credits = models.FloatField("credits", null=True, blank=True, default=None, editable=False)
    """What it cost; None while nobody knows."""
    job_error_code = models.CharField("error code", max_length=64, blank=True, default="", editable=False)
    """ByteSpike's code, or the name of one of our errors; ``""`` unless it ended without outputs."""
    job_error = models.TextField("error", blank=True, default="", editable=False)
    """The same for people, for the application's operators rather than its users."""
    job_changed_at = models.DateTimeField("changed", null=True, blank=True, default=None, editable=False)
    """When the row came into its state."""

    class Meta:
        """Nothing of it is a table by itself."""

        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """As Django's, but that the ``job_`` fields of a known row are left alone unless `update_fields` names them."""
        is_known = not self._state.adding and kwargs.get("using") in (None, self._state.db)
        if is_known and not args and kwargs.get("update_fields") is None and not kwargs.get("force_insert"):
            kept = {*JOB_FIELDS, *self.get_deferred_fields()}
            fields = [field for field in self._meta.concrete_fields if not field.primary_key and not field.generated]
            kwargs["update_fields"] = [field.name for field in fields if kept.isdisjoint((field.name, field.attname))]
        super().save(*args, **kwargs)

    # -- what an application may say ----------------------------------------------------------------------------------

    def job_request(self) -> tuple[str, dict[str, Any]] | None:
        """
        The model and the parameters of this row's job; None if only the caller of `start_job` knows them.

        Override it, and `start_job` needs neither; and ``bytespike_reconcile`` can start jobs whose process died
        between the commit and the start.
        """
        return None

    def job_options(self) -> dict[str, Any]:
        """
        Options for this row's job, such as ``label`` and ``link``: those of `start_job`, which has the last word.

        Override it rather than pass them each time, and ``bytespike_reconcile`` starts jobs with them as well.
        """
        return {}

    def start_job(
        self,
        model: str | None = None,
        params: dict[str, Any] | None = None,
        *,
        job_id: str | None = None,
        **options: Any,
    ) -> str:
        """
        Start a job for this row once the transaction is committed, and save the row's ``job_`` fields (a new row: all).

        Of two calls at the same time, for two clicks, one starts a job.

        Args:
            model: As for `generate`; default: what `job_request` says.
            params: Likewise.
            job_id: Its id, by default a new one.
            options: All that `generate` and its ``apply_async`` take: ``deadline_s``, ``label``, ``link``, …; they come
                before those of `job_options`.

        Returns:
            The job's id.

        Raises:
            InvalidRequest: The arguments are wrong. Nothing is saved.
            JobNotFinished: The row has a job that is under way. Nothing is saved.
            StoreError, JobConflict: From the commit. The row is saved, and ``bytespike_reconcile`` starts its job if
                `job_request` says which.
        """
        request = (model, params) if model is not None else self.job_request()
        arguments, options = sorted_options({**self.job_options(), **options})
        job_id = str(uuid.uuid4()) if job_id is None else job_id
        order = parse_order(request, arguments)
        order.body(job_id)
        fields = {
            **_BLANK,
            "job_id": job_id,
            "job_key": order.key,
            "job_state": JobState.QUEUED.value,
            "job_changed_at": timezone.now(),
        }
        using = self._state.db or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            self._claim(fields, using)
            start = partial(generate.apply_async, request, arguments, task_id=job_id, **options)
            transaction.on_commit(start, using=using)
        return job_id

    # -- what it is asked ---------------------------------------------------------------------------------------------

    @property
    def job(self) -> Job | None:
        """The handle on the job, which reads Redis; None without a job."""
        return None if self.job_id is None else Job(self.job_id)

    @property
    def job_is_over(self) -> bool:
        """Whether the row's job has ended, as far as the row knows."""
        return bool(self.job_state) and JobState(self.job_state).is_terminal

    def job_status_url(self, *, may_cancel: bool = False, ttl_s: float | None = None) -> str:
        """
        Where whoever has the URL can follow the job, and cancel it if *may_cancel*; ``""`` without a job.

        See `status_token`.
        """
        return "" if self.job_id is None else status_url(self.job_id, may_cancel=may_cancel, ttl_s=ttl_s)

    def _claim(self, fields: dict[str, Any], using: str) -> None:
        """Write *fields* unless a job is under way: by one statement, so that one of several callers succeeds."""
        if self._state.adding:
            self._set(fields)
            self.save(using=using)
            return
        rows = type(self)._base_manager.using(using).filter(pk=self.pk)
        if not rows.exclude(job_state__in=[state.value for state in OPEN_STATES]).update(**fields):
            found = rows.values_list("job_id", "job_state").first()
            if found is None:
                raise type(self).DoesNotExist(f"There is no such row any more: {self.pk}")
            raise JobNotFinished(*found)
        self._set(fields)

    def _set(self, fields: dict[str, Any]) -> None:
        for name, value in fields.items():
            setattr(self, name, value)


JOB_FIELDS: Final = tuple(field.name for field in RemoteJobModel._meta.local_fields)

_BLANK: Final[dict[str, Any]] = {"job_outputs": [], "job_credits": None, "job_error_code": "", "job_error": ""}


def sorted_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of `generate` among *options*, and the rest, which is ``apply_async``'s."""
    arguments = {name: value for name, value in options.items() if name in _ARGUMENTS}
    return arguments, {name: value for name, value in options.items() if name not in _ARGUMENTS}


def status_url(job_id: str, *, may_cancel: bool = False, ttl_s: float | None = None) -> str:
    """
    The path under which whoever has it can follow *job_id*, and cancel it if *may_cancel*.

    Raises:
        NoReverseMatch: ``tasks_bridge.contrib.django.urls`` is not among the project's URLs.
    """
    return reverse("tasks_bridge:job", args=[status_token(job_id, may_cancel=may_cancel, ttl_s=ttl_s)])
