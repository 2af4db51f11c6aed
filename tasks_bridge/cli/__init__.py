"""
The command line: ``tasks-bridge --help``.

One module for each command, which imports what it needs when it runs, so that none waits for the others.
"""

from __future__ import annotations

from tasks_bridge.cli import (  # noqa: F401 - they register
    cadence,
    cancel,
    demo,
    doctor,
    explain,
    health,
    reconcile,
    sandbox,
    spending,
    status,
    submit,
    top,
    watch,
)
from tasks_bridge.cli.base import Commands, cli, main

__all__ = ["Commands", "cli", "main"]
