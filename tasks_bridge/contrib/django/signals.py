"""
What the application may be told of the rows that stand for jobs.

Each is sent once per transition of a row, with ``sender`` the row's class, ``instance`` the row as it is now, and
``before`` the state that it came from (a `JobState`, or ``""``). They are sent in a worker, within the transaction
that updates the row: what a receiver writes to the same database is there together with the new state, or not at all.
For everything else, such as a mail, use ``transaction.on_commit``, for until the commit all of it may come again.

A receiver that raises is logged; what the receivers wrote is undone, the row's new state is not.
"""

from __future__ import annotations

from django.dispatch import Signal

job_changed = Signal()
"""Into any other state."""

job_completed = Signal()
"""The outputs are there."""

job_failed = Signal()
"""It failed, or its deadline passed: ``instance.job_state`` is ``"FAILED"`` or ``"EXPIRED"``."""

job_cancelled = Signal()
"""It was cancelled."""
