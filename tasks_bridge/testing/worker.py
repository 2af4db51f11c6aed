"""What an app's workers do, in the thread of a test and at the test's time: claim what is due, and run messages."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from celery import states
from celery.app.trace import build_tracer
from kombu.serialization import prepare_accept_content

from tasks_bridge.events import GENERATE, POLL
from tasks_bridge.publish import publish_generate, publish_poll
from tasks_bridge.testing import post
from tasks_bridge.testing.apps import current

if TYPE_CHECKING:
    from kombu.message import Message

    from tasks_bridge.testing.rehearsal import Rehearsal

OURS: Final = frozenset({GENERATE, POLL})
"""Messages about jobs, which wait for the test."""

CLAIMED_AT_ONCE: Final = 1000


@dataclass(frozen=True)
class Letter:
    """A message that was published, and when it is to run on the test's clock."""

    task: str
    id: str
    args: Any
    kwargs: Any
    request: dict[str, Any]
    due_at: float
    expires_at: float | None


class Worker:
    """One for each app."""

    def __init__(self, bridge: Rehearsal, errors: list[BaseException]) -> None:
        """Work for *bridge*'s app; what its tasks raise is added to *errors*."""
        self.bridge = bridge
        self._app: Any = bridge.app
        self._errors = errors
        self._letters: list[Letter] = []
        self._done: list[Letter] = []
        self._mailbox: post.Mailbox | None = None

    def turn(self, *, with_jobs: bool) -> bool:
        """
        Do one thing that is due, and say whether there was one.

        Args:
            with_jobs: Whether to do what is due of jobs as well as run the application's own tasks.
        """
        woken = self._wake() if with_jobs else 0
        self._fetch()
        now = self.bridge.clock.now()
        due = [one for one in self._letters if one.due_at <= now and (with_jobs or one.task not in OURS)]
        if due:
            self._letters.remove(due[0])
            self._done.append(due[0])
            self._run(due[0])
        return bool(due) or woken > 0

    def next_at(self) -> float | None:
        """When something is due next."""
        self._fetch()
        times = [one.due_at for one in self._letters]
        next_due_s = self.bridge.memory.next_due_s()
        if next_due_s is not None:
            times.append(self.bridge.clock.now() + next_due_s)
        return min(times, default=None)

    def repeat(self, job_id: str) -> int:
        """Have the callbacks of a job delivered once more; returns how many there are."""
        again = [one for one in self._done if one.request.get("parent_id") == job_id and one.task not in OURS]
        self._letters += again
        return len(again)

    def _wake(self) -> int:
        """What the alarm does."""
        app, settings = self._app, self.bridge.settings
        claims = self.bridge.memory.claim(CLAIMED_AT_ONCE, settings.lease_s)
        for claim in claims:
            if claim.record is not None:
                publish_generate(app, claim.job_id, claim.record)
        polled = [claim.job_id for claim in claims if claim.record is None]
        if polled:
            publish_poll(app, settings.poll_queue, polled)
        return len(claims)

    def close(self) -> None:
        """Take no more messages."""
        if self._mailbox is not None:
            self._mailbox.close()

    def _fetch(self) -> None:
        if self._mailbox is None:
            self._mailbox = post.Mailbox(self._app)  # now that somebody needs it: the app is configured by then
        now = self.bridge.clock.now()
        self._letters += [_read(message, now, self._app) for message in self._mailbox.take()]

    def _run(self, letter: Letter) -> None:
        """What a pool process does, as a part of which no error gets lost."""
        app = self._app
        if letter.task not in app.tasks:
            known = f"{app!r} has no task {letter.task!r}: is its module imported by the test?"
            self._errors.append(LookupError(known))
            return
        task = app.tasks[letter.task]
        if letter.expires_at is not None and letter.expires_at <= self.bridge.clock.now():
            task.backend.mark_as_revoked(letter.id, "expired")
            return
        with current(app):
            # its own results and errbacks, callbacks and chords: all of it is Celery's
            done = build_tracer(letter.task, task, app=app)(letter.id, letter.args, letter.kwargs, letter.request)
            self.bridge.loop_of.finish()
        error = done.info.retval if done.info is not None and done.info.state == states.FAILURE else None
        if error is not None and letter.task not in OURS and not isinstance(error, task.throws):
            error.add_note(f"raised by the task {letter.task}")
            self._errors.append(error)


class Ear(logging.Handler):
    """
    Hears of errors that a worker logs and survives: of errbacks, receivers of signals and hooks.

    In a test each of them is a bug of somebody, and should not pass for a success.
    """

    LOGGERS: Final = ("celery", "tasks_bridge")

    def __init__(self, errors: list[BaseException]) -> None:
        super().__init__(logging.ERROR)
        self._errors = errors

    def emit(self, record: logging.LogRecord) -> None:
        """The hook of logging."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not _is_known(record) and error not in self._errors:
            error.add_note(f"logged: {record.getMessage()}")
            self._errors.append(error)

    def listen(self) -> None:
        """Begin to."""
        for name in self.LOGGERS:
            logging.getLogger(name).addHandler(self)

    def stop(self) -> None:
        """End it."""
        for name in self.LOGGERS:
            logging.getLogger(name).removeHandler(self)


def _is_known(record: logging.LogRecord) -> bool:
    """Whether it tells of what a task raised, which is known without the log: by itself, or as a part of a chord."""
    return record.name == "celery.app.trace" or str(record.msg).startswith("Chord ")


def _read(message: Message, now: float, app: Any) -> Letter:
    """*message* as a worker takes it."""
    raw: Any = message
    raw.accept = prepare_accept_content(app.conf.accept_content)
    args, kwargs, embedded = raw.decode()
    headers = raw.headers
    delivery: Any = raw.delivery_info
    request = {
        **headers,
        **embedded,
        "hostname": "test",
        "delivery_info": {
            "exchange": delivery.get("exchange"),
            "routing_key": delivery.get("routing_key"),
            "priority": raw.properties.get("priority"),
            "redelivered": False,
        },
        "reply_to": raw.properties.get("reply_to"),
        "correlation_id": headers["id"],
        "args": args,
        "kwargs": kwargs,
    }
    due_at, expires_at = (_on_our_clock(headers.get(name), now) for name in ("eta", "expires"))
    return Letter(headers["task"], headers["id"], args, kwargs, request, due_at or now, expires_at)


def _on_our_clock(moment: str | None, now: float) -> float | None:
    """*moment*, which is on the machine's clock, as far from now on the test's."""
    if moment is None:
        return None
    at = datetime.fromisoformat(moment)
    return now + ((at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds()
