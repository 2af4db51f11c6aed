"""
Tests of code that starts jobs: fixtures for pytest, and what they are made of.

The plugin is there as soon as the library is installed beside pytest; see docs/testing.md. Names are imported when they
are first used, so that a test run which uses none of them pays nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks_bridge.testing.bytespike import ByteSpike, Submit
    from tasks_bridge.testing.checks import (
        assert_job_cancelled,
        assert_job_completed,
        assert_job_expired,
        assert_job_failed,
        assert_job_submitted,
        assert_no_jobs,
    )
    from tasks_bridge.testing.clock import FastClock

__all__ = [
    "ByteSpike",
    "FastClock",
    "Submit",
    "assert_job_cancelled",
    "assert_job_completed",
    "assert_job_expired",
    "assert_job_failed",
    "assert_job_submitted",
    "assert_no_jobs",
]

_HOMES = {"ByteSpike": "bytespike", "Submit": "bytespike", "FastClock": "clock"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'checks')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
