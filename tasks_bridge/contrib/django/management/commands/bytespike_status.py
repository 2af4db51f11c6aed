"""``manage.py bytespike_status``: how things are, or how single jobs are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import Count

from tasks_bridge.bridge import bridge_of
from tasks_bridge.contrib.django.transitions import job_models
from tasks_bridge.errors import BridgeError
from tasks_bridge.web.report import line_of, report_of

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from tasks_bridge.bridge import Bridge


class Command(BaseCommand):
    """Reads, and changes nothing."""

    help = "Without ids: the jobs in Redis, and the rows of the database by state. With ids: those jobs, one per line."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Django's hook."""
        parser.add_argument("ids", nargs="*", metavar="ID", help="ids of jobs")
        parser.add_argument("--json", action="store_true", help="JSON, for programs")

    def handle(self, *args: Any, ids: list[str], json: bool, **options: Any) -> None:
        """Django's hook."""
        try:
            bridge = bridge_of()
            if ids:
                self._jobs(bridge, ids, as_json=json)
            else:
                self._overview(bridge, as_json=json)
        except BridgeError as error:
            raise CommandError(str(error)) from error

    def _jobs(self, bridge: Bridge, ids: list[str], *, as_json: bool) -> None:
        reports = [report_of(job_id, entry) for job_id, entry in zip(ids, bridge.store.get(ids), strict=True)]
        for report in reports:
            self.stdout.write(json.dumps(report) if as_json else line_of(report))
        if any(report["state"] is None for report in reports):
            raise CommandError("Some of these jobs are unknown: their ids are wrong, or they have been forgotten.")

    def _overview(self, bridge: Bridge, *, as_json: bool) -> None:
        rows = {
            model._meta.label: {
                found["job_state"] or "without a job": found["count"]
                for found in model._base_manager.values("job_state").annotate(count=Count("pk")).order_by("job_state")
            }
            for model in job_models()
        }
        found = {
            "redis": bridge.store.address,
            "open": bridge.store.open_count(),
            "due": bridge.store.due_count(),
            "rows": rows,
        }
        if as_json:
            self.stdout.write(json.dumps(found))
            return
        self.stdout.write(f"Redis  {found['redis']}  {found['open']} open, {found['due']} due")
        for label, states in rows.items():
            counted = ", ".join(f"{count} {state}" for state, count in states.items()) or "no rows"
            self.stdout.write(f"Rows   {label}  {counted}")
