"""A job's life for people: what happened, why, what happens next and when. What `tasks-bridge explain` says. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from tasks_bridge import steps
from tasks_bridge.record import JobState
from tasks_bridge.steps import Action, View
from tasks_bridge.store import Phase

if TYPE_CHECKING:
    from tasks_bridge.gate import Circuit
    from tasks_bridge.journal import Line, Past
    from tasks_bridge.settings import Settings
    from tasks_bridge.store import Entry

LATE_S: Final = 10.0
"""A job that has been due for longer should have been taken by some worker."""

MOST_ALIKE: Final = 3
"""Looks in a row that saw the same and are shown one by one."""

_ACTIONS: Final = {
    Action.SUBMIT: "submits it",
    Action.LOOKUP: "asks ByteSpike whether it has it, because a submit may have been lost",
    Action.QUERY: "asks ByteSpike how it is",
    Action.CANCEL: "cancels it at ByteSpike",
    Action.DROP: "ends it: ByteSpike never heard of it",
    Action.FINISH: "hands its outcome to Celery, which runs its callbacks",
}


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a job."""

    at: float
    kind: str
    """``registered``, ``state`` (it changed), ``look`` (nothing did), ``trouble`` (a request failed), ``silence``."""
    text: str
    before: JobState | None = None
    after: JobState | None = None
    wait_s: float | None = None
    """Until the next look, as it was then planned."""

    def described(self, begun_at: float) -> dict[str, Any]:
        """
        For programs.

        ``{"at", "after_s", "kind", "text"}``, and where there are such ``"from"``, ``"to"`` and ``"wait_s"``.
        """
        found = {
            "at": round(self.at, 3),
            "after_s": round(self.at - begun_at, 3),
            "kind": self.kind,
            "text": self.text,
            "from": self.before,
            "to": self.after,
            "wait_s": self.wait_s,
        }
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Next:
    """What happens to a job next."""

    text: str
    at: float | None
    """When; None if nothing does, or it is unknown."""
    is_worrying: bool = False
    """Whether an operator should do something about it."""


@dataclass(frozen=True)
class History:
    """All that is known of a job that the store has."""

    entry: Entry
    past: Past
    circuit: Circuit
    settings: Settings

    @property
    def events(self) -> list[Event]:
        """In order of time: its transitions always, all else as far as the journal reaches."""
        record, lines = self.entry.record, self.past.lines
        told = {line.after for line in lines if line.after is not line.before}
        found = [Event(record.created_at, "registered", self._registered(), after=JobState.QUEUED)]
        found += [
            Event(at, "state", f"{before} -> {state}: {why}", before, state)
            for at, before, state, why in self._recorded()
            if at is not None and state not in told
        ]
        found += self._told()
        # a stable sort: a silence comes before the line that shows it
        return sorted(found, key=lambda event: event.at)

    @property
    def since(self) -> float | None:
        """From when on it has all; None: all of the job's life."""
        begins = max(self.past.changes_since or 0.0, self.past.looks_since or 0.0)
        return begins if begins > self.entry.record.created_at else None

    @property
    def view(self) -> View:
        """The job as the next worker finds it."""
        entry = self.entry
        return View(
            job_id=entry.job_id,
            state=entry.state,
            record=entry.record,
            cancel=entry.cancel,
            may_be_submitted=entry.state is not JobState.QUEUED or entry.token > entry.record.unsent,
            now=max(entry.due_at or entry.now, entry.now),
            settings=self.settings,
            random=0.5,
        )

    @property
    def next(self) -> Next:
        """What happens next, and when."""
        entry = self.entry
        if entry.due_at is None:
            return Next("nothing: it is over, and its outcome is with Celery", None)
        if entry.left_to is not None:
            text = f"it waits for a worker of a newer version of tasks-bridge, which wrote its record ({entry.left_to})"
            return Next(text, None, is_worrying=True)
        action = _ACTIONS[steps.next_action(self.view)]
        late_s = entry.now - entry.due_at
        if entry.phase is Phase.CLAIMED and late_s <= 0:
            text = f"its message is in the queue: the worker that takes it {action}"
            if entry.claims > 1:
                text += f". It was published {entry.claims} times, and nobody took it"
            return Next(f"{text}. If nobody does, it is published again", entry.due_at, is_worrying=entry.claims > 1)
        if entry.phase is Phase.LEASED and late_s <= 0:
            return Next(
                f"a worker is at it (lease {entry.token}). If nothing more is heard of it, another one {action}",
                entry.due_at,
            )
        if late_s > LATE_S:
            text = (
                f"a worker {action}; that has been due for {duration(late_s)}, and no worker came: tasks-bridge doctor"
            )
            return Next(text, entry.due_at, is_worrying=True)
        return Next(f"a worker {action}", entry.due_at)

    def described(self) -> dict[str, Any]:
        """
        For programs.

        ``{"history": [{"at", "after_s", "kind", "text", …}], "next": {"text", "at"?, "in_s"?, "is_worrying"},
        "deadline_at"?, "journal_since"}``; moments in seconds since the epoch; ``journal_since`` is null where the
        journal has all of the job's life.
        """
        begun_at, coming, now = self.entry.record.created_at, self.next, self.entry.now
        told: dict[str, Any] = {"text": coming.text, "is_worrying": coming.is_worrying}
        if coming.at is not None:
            told |= {"at": round(coming.at, 3), "in_s": round(coming.at - now, 1)}
        found: dict[str, Any] = {
            "history": [event.described(begun_at) for event in self.events],
            "next": told,
            "journal_since": self.since,
        }
        return found if self.entry.state.is_terminal else {**found, "deadline_at": round(self.view.deadline_at, 3)}

    def lines(self) -> Iterator[str]:
        """For people."""
        entry, now = self.entry, self.entry.now
        record = entry.record
        yield self._headline()
        if entry.state.is_terminal and entry.state is not JobState.COMPLETED:
            yield str(steps.failure(entry.job_id, entry.state, record))
        remote = record.remote_task
        yield from remote.urls if remote else ()
        if record.polls:
            polls = f"{record.polls} poll{'' if record.polls == 1 else 's'}"
            yield f"{polls}; ByteSpike last said {(record.remote or {}).get('status')}, {ago(record.seen_at, now)}."
        if record.failures and not entry.state.is_terminal:
            yield f"{record.failures} requests in a row have failed since."
        yield ""
        yield from self._table()
        yield ""
        coming = self.next
        yield f"Next: {_when(coming.at, now)}{coming.text}."
        if not entry.state.is_terminal:
            deadline_at = self.view.deadline_at
            yield f"Deadline: {moment(deadline_at)}, {hence(deadline_at, now)}; then it is cancelled."
        if entry.cancel is not None and not entry.state.is_terminal:
            yield f"Its cancel was asked for: {entry.cancel}."
        if self.circuit.opened_at is not None:
            yield (
                f"ByteSpike does not answer any worker since {moment(self.circuit.opened_at)}: requests are held back "
                "but for a probe now and then."
            )
        yield self._reach()

    def _headline(self) -> str:
        entry, record = self.entry, self.entry.record
        names = [entry.job_id, record.model, record.remote_id or "no task at ByteSpike yet", f"key {record.key}"]
        if record.label is not None:
            names.append(f"label {record.label}")
        return f"{entry.state}  {'  '.join(names)}"

    def _table(self) -> Iterator[str]:
        begun_at = self.entry.record.created_at
        day = None
        for event in _gathered(self.events):
            at = datetime.fromtimestamp(event.at, UTC)
            if at.date() != day:
                day = at.date()
                yield f"{day} UTC"
            again = "" if event.wait_s is None else f"; next look in {duration(event.wait_s)}"
            mark = {"trouble": "!", "silence": "!", "state": ">"}.get(event.kind, " ")
            yield f" {mark} {at:%H:%M:%S}  {f'+{duration(event.at - begun_at)}':>9}  {event.text}{again}"

    def _reach(self) -> str:
        if self.since is None:
            return "The journal has all of this."
        return (
            f"The journal reaches back to {moment(self.since)}: looks and failed requests before that are not shown, "
            "and the reasons of changes are lost."
        )

    def _registered(self) -> str:
        record = self.entry.record
        delay = f", to be submitted {duration(record.delay_s)} later" if record.delay_s else ""
        return f"registered{delay}"

    def _recorded(self) -> Iterator[tuple[float | None, JobState, JobState, str]]:
        """What the record itself says of its changes: when, from, to, why."""
        entry, record = self.entry, self.entry.record
        state, at, why = JobState.QUEUED, record.submitted_at, f"accepted as {record.remote_id}"
        if at is not None and at != record.running_at:
            yield at, state, JobState.PENDING, why
            state, why = JobState.PENDING, "ByteSpike says running"
        if record.running_at is not None:
            yield record.running_at, state, JobState.RUNNING, why
            state = JobState.RUNNING
        if entry.state.is_terminal:
            is_good = entry.state is JobState.COMPLETED
            why = "ByteSpike says completed" if is_good else str(steps.failure(entry.job_id, entry.state, record))
            yield record.ended_at, state, entry.state, why

    def _told(self) -> Iterator[Event]:
        """What the journal says, and leases of which it has no line although it should."""
        known = None if self.since is not None else 0
        for line in self.past.lines:
            if known is not None and line.token > known + 1:
                yield _silence(line.at, known + 1, line.token - 1)
            if line.at >= (self.since or 0.0):
                known = line.token
            yield _event(line)
        entry = self.entry
        latest = entry.token - (entry.phase is Phase.LEASED and (entry.due_at or 0.0) > entry.now)
        if known and not entry.state.is_terminal and latest > known:
            yield _silence(entry.now, known + 1, latest)


def past_lines(past: Past) -> Iterator[str]:
    """For people, of a job that only the journal still knows."""
    yield "The journal still has this of it:"
    for line in past.lines:
        yield f"  {moment(line.at)}  {_event(line).text}"


def past_events(past: Past) -> list[Event]:
    """The same for programs."""
    return [_event(line) for line in past.lines]


def moment(at: float) -> str:
    """A moment for people."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def duration(seconds: float) -> str:
    """
    For people, as short as is useful.

    >>> [duration(s) for s in (0.42, 8.4, 95, 4000, 200000)]
    ['0.4 s', '8.4 s', '1 min 35 s', '1 h 6 min', '2 d 7 h']
    """
    if seconds < 60:  # noqa: PLR2004 - seconds of a minute, and so on
        return f"{max(seconds, 0.0):.1f} s"
    whole = int(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {smaller}"
    raise AssertionError


def ago(at: float | None, now: float) -> str:
    """How long since."""
    return "at an unknown time" if at is None else f"{duration(now - at)} ago"


def hence(at: float, now: float) -> str:
    """How long until."""
    return f"in {duration(at - now)}" if at > now else f"{duration(now - at)} ago"


def _when(at: float | None, now: float) -> str:
    if at is None:
        return ""
    return f"{hence(at, now)}, at {datetime.fromtimestamp(at, UTC):%H:%M:%S} UTC: " if at > now else "now: "


def _event(line: Line) -> Event:
    wait_s = None if line.after.is_terminal else line.wait_s
    if line.before is not line.after:
        return Event(line.at, "state", f"{line.before} -> {line.after}: {line.reason}", line.before, line.after, wait_s)
    return Event(line.at, "look" if line.is_look else "trouble", line.reason, wait_s=wait_s)


def _silence(at: float, first: int, last: int) -> Event:
    which = f"lease {first}" if first == last else f"leases {first} to {last}"
    text = f"nothing was heard of {which}: the worker died, stopped at once, or lost Redis; another took over"
    return Event(at, "silence", text)


def _gathered(events: Sequence[Event]) -> Iterator[Event]:
    """*events*, of which many looks in a row that saw the same are one."""
    for _, run in groupby(events, key=lambda event: (event.kind, event.text if event.kind == "look" else event.at)):
        alike = list(run)
        if len(alike) > MOST_ALIKE:
            each_s = (alike[-1].at - alike[0].at) / (len(alike) - 1)
            text = f"{alike[0].text}; {len(alike)} times until {datetime.fromtimestamp(alike[-1].at, UTC):%H:%M:%S}"
            yield replace(alike[0], text=f"{text}, every {duration(each_s)} or so", wait_s=None)
        else:
            yield from alike
