"""What the demo lets in from outside: a few variables of the environment, and the signals that ask it to stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

_SYSTEM: Final = frozenset(
    {"HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONHOME"}
    | {"PYTHONPATH", "PYTHONUTF8", "SYSTEMROOT", "TERM", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV"}
)
"""What a program needs to run at all. A list of what to leave out would never be complete: Celery alone reads
``BROKER_URL``, ``APP``, ``LOADER`` and any ``CELERY_…``, Django's settings change what it does, and a proxy would be
asked for the sandbox."""

_STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asked the demo to stop; its number is the argument. No `Exception`: nothing on the way may catch it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def bare(environment: Mapping[str, str]) -> dict[str, str]:
    """What of *environment* reaches the demo and its workers."""
    return {name: value for name, value in environment.items() if name in _SYSTEM or name.startswith("LC_")}


@contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Replace the environment by what is bare of it, and *settings*; put it back in the end."""
    before = dict(os.environ)
    try:
        _replace({**bare(before), **settings})
        yield
    finally:
        _replace(before)


def _replace(values: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(values)


@contextmanager
def interruptible() -> Iterator[None]:
    """
    Raise `Interrupted` in the main thread, which must be the caller, when a signal asks to stop.

    Once it is raised, or the block is left, further signals wait until all is cleaned up.
    """
    before = {number: signal.getsignal(number) for number in _STOPPING}

    def interrupt(signum: int, _frame: FrameType | None) -> NoReturn:
        ignore_signals()
        raise Interrupted(signum)

    try:
        for number in _STOPPING:
            # one that is ignored from the start, as by nohup, stays so
            if before[number] is not signal.SIG_IGN:
                signal.signal(number, interrupt)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """From now on nothing interrupts: what was started is being stopped."""
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)
