"""``manage.py bytespike_reconcile``: rows whose job nobody follows any more are brought back to the truth."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from tasks_bridge.contrib.django.reconcile import Verdict, reconcile
from tasks_bridge.errors import BridgeError

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Safe to run at any time, from cron or by hand."""

    help = (
        "Bring rows with an open job to the state that Redis or ByteSpike has for it, and start jobs that were never "
        "submitted although their row was saved, where the model's job_request() says which they are."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Django's hook."""
        parser.add_argument(
            "--older-than",
            type=float,
            default=600.0,
            metavar="SECONDS",
            help="look at rows that have not changed for so long (default: 600)",
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
        parser.add_argument("--fail-lost", action="store_true", help="fail the rows of jobs that nobody knows")

    def handle(self, *args: Any, older_than: float, dry_run: bool, fail_lost: bool, **options: Any) -> None:
        """Django's hook: one line for each row that is not just under way, and a sum."""
        if not 0 <= older_than < float("inf"):
            raise CommandError("--older-than must be a number of seconds, 0 or more")
        found: Counter[Verdict] = Counter()
        try:
            for finding in reconcile(older_than, is_dry=dry_run, fail_lost=fail_lost):
                found[finding.verdict] += 1
                if finding.verdict is not Verdict.UNDER_WAY or options["verbosity"] > 1:
                    label = finding.row._meta.label
                    self.stdout.write(f"{label} {finding.row.pk}: {finding.verdict}: {finding.detail}")
        except BridgeError as error:
            raise CommandError(str(error)) from error
        counted = ", ".join(f"{count} {verdict}" for verdict, count in sorted(found.items())) or "no open jobs"
        self.stdout.write(f"{'Would be: ' if dry_run else ''}{counted}")
        if found[Verdict.LOST] or found[Verdict.UNKNOWN]:
            raise CommandError("Not all rows could be brought back; see above.", returncode=1)
