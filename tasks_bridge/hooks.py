"""
What an integration may have done in the workers when a job changes, such as to keep a row of the application's own.

The store is the truth, and a hook only hears of it, at least once of each end: `changed` is best effort, for a worker
may die before it comes to it. `ending` is called before the outcome is Celery's and so before any callback, and again
whenever the finish is repeated; so what a hook writes must bear repetition.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tasks_bridge.events import Change

log = logging.getLogger(__name__)

ENDING_TRIES: Final = 6
"""
How often a job's finish is put off because a hook isn't able yet. Each wait is longer, as for a lost message: about a
quarter of an hour in all with a ``lease_s`` of 15 s. After that the callbacks wait no longer.
"""


class NotYet(Exception):
    """Raised by a hook that can't do its part now and wants to be called again, because its database is away."""


class Hooks:
    """Derive from it, and put the instance into ``bridge.hooks``. Every method does nothing by itself."""

    def changed(self, changes: Sequence[Change]) -> None:
        """Jobs have come into another state and are still open. Called beside the event loop: it must be quick."""

    def ending(self, change: Change) -> None:
        """
        A job is over, and its callbacks are about to be published. Called in the task, under a lease that is renewed.

        Raises:
            NotYet: The end is to wait for it.
        """


def tell_changed(hooks: Iterable[Hooks], changes: Sequence[Change]) -> None:
    """Tell all *hooks* of *changes*. One that breaks is nobody else's trouble."""
    for hook in hooks if changes else ():
        try:
            hook.changed(changes)
        except Exception as error:  # noqa: BLE001 - the hook's trouble is not the jobs'
            log.warning("a hook did not hear of %d changes: %r", len(changes), error)


def tell_ending(hooks: Iterable[Hooks], change: Change, tries: int) -> bool:
    """
    Tell all *hooks* that a job is over.

    Args:
        hooks: Whom.
        change: The job as it ended.
        tries: How often that was put off already.

    Returns:
        Whether to go on; False if one of them isn't able yet.
    """
    for hook in hooks:
        try:
            hook.ending(change)
        except NotYet as error:
            if tries < ENDING_TRIES:
                log.warning("job %s: its end waits: %s", change.job_id, error)
                return False
            log.error("job %s: its end waits no longer: %s", change.job_id, error)  # noqa: TRY400 - expected, no bug
        except Exception:
            log.exception("job %s: a hook failed; the job ends all the same", change.job_id)
    return True
