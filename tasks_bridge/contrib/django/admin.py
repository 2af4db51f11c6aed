"""Rows with jobs in Django's admin: ``class RenderAdmin(RemoteJobAdmin): ...``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.utils.html import format_html, format_html_join

from tasks_bridge.bridge import bridge_of
from tasks_bridge.contrib.django.models import JOB_FIELDS, RemoteJobModel
from tasks_bridge.contrib.django.transitions import record_entry
from tasks_bridge.errors import BridgeError
from tasks_bridge.record import JobState

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest

_MOST = 1000
"""Rows of one action: more would take longer than a browser waits."""


class RemoteJobAdmin(admin.ModelAdmin):
    """The job of each row: its state as a badge, filters, and actions that cancel it or have it looked at again."""

    list_display = ("__str__", "job_badge", "job_credits", "job_changed_at")
    list_filter = ("job_state", "job_changed_at")
    search_fields = ("job_id",)
    readonly_fields = (*JOB_FIELDS, "job_links")
    actions = ("cancel_jobs", "recheck_jobs")

    class Media:
        """Badges without inline styles, which a content security policy may forbid."""

        css = {"all": ("tasks_bridge/admin.css",)}  # noqa: RUF012 - Django's form

    @admin.display(description="job", ordering="job_state")
    def job_badge(self, row: RemoteJobModel) -> str:
        """The row's state, coloured."""
        if not row.job_state:
            return "-"
        return format_html(
            '<span class="bytespike-badge bytespike-{}" title="{}">{}</span>',
            row.job_state.lower(),
            row.job_error,
            JobState(row.job_state).value.capitalize(),
        )

    @admin.display(description="results")
    def job_links(self, row: RemoteJobModel) -> str:
        """Links to the outputs."""
        urls = [output.get("url") for output in row.job_outputs if isinstance(output, dict)]
        web = [url for url in urls if isinstance(url, str) and url.startswith(("https://", "http://"))]
        return format_html_join(" ", '<a href="{0}" rel="noreferrer">{0}</a>', ((url,) for url in web)) or "-"

    @admin.action(description="Cancel the jobs of the selected %(verbose_name_plural)s", permissions=["change"])
    def cancel_jobs(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Ask for the cancellation of what is still open, at ByteSpike too."""
        try:
            store = bridge_of().store
            states = [store.request_cancel(job_id, "cancelled in the admin") for job_id in _ids(queryset)]
        except BridgeError as error:
            self.message_user(request, str(error), messages.ERROR)
            return
        asked = sum(state is not None and not state.is_terminal for state in states)
        self.message_user(request, f"Jobs being cancelled: {asked}. ByteSpike has the last word.", messages.SUCCESS)
        if asked < len(states):
            self.message_user(request, f"Jobs that were over already, or unknown: {len(states) - asked}.")

    @admin.action(description="Look again at the jobs of the selected %(verbose_name_plural)s", permissions=["change"])
    def recheck_jobs(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Bring the rows to what is known, and have the workers ask ByteSpike now."""
        ids = _ids(queryset)
        try:
            store = bridge_of().store
            found = [entry for entry in store.get(ids) if entry is not None]
            updated = sum(map(record_entry, found))
            asked = store.touch([entry.job_id for entry in found])
        except BridgeError as error:
            self.message_user(request, str(error), messages.ERROR)
            return
        told = f"Rows updated: {updated}. Jobs that ByteSpike is being asked about: {asked}."
        self.message_user(request, told, messages.SUCCESS)
        if len(found) < len(ids):
            told = f"Jobs known no longer: {len(ids) - len(found)}. manage.py bytespike_reconcile asks for them."
            self.message_user(request, told, messages.WARNING)


def _ids(queryset: QuerySet[Any]) -> list[str]:
    return list(queryset.exclude(job_id=None).values_list("job_id", flat=True)[:_MOST])
