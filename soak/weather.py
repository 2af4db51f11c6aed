"""What goes wrong and when, from a seed. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Final

WORKER_EVERY_S: Final = 5.0
REDIS_EVERY_S: Final = 25.0
API_EVERY_S: Final = 18.0


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happens."""

    at_s: float
    what: str
    """What it counts as."""
    act: str
    """``signal``, ``freeze``, ``thaw``, ``kill redis``, ``start redis``, ``pause redis``, ``resume redis``, ``api``."""
    detail: dict[str, Any] = field(default_factory=dict)


def weather(seed: int, for_s: float, workers: int) -> list[Event]:
    """All events of *for_s* seconds with *workers* workers, in order; the same for the same arguments."""
    chance = random.Random(f"{seed}:weather")  # noqa: S311 - no secret
    events: list[Event] = []
    for at_s in _moments(chance, WORKER_EVERY_S, for_s):
        events += _worker(chance, at_s, chance.randrange(workers))
    free_at_s = 0.0  # one trouble of Redis at a time: it can't be killed while it is down
    for at_s in _moments(chance, REDIS_EVERY_S, for_s):
        if at_s < free_at_s:
            continue
        lasts_s = chance.uniform(0.2, 4)
        if chance.random() < 0.7:  # noqa: PLR2004 - rather killed than paused
            events += [Event(at_s, "Redis killed", "kill redis"), Event(at_s + lasts_s, "", "start redis")]
        else:
            events += [Event(at_s, "Redis paused", "pause redis"), Event(at_s + lasts_s, "", "resume redis")]
        free_at_s = at_s + lasts_s + 2
    for at_s in _moments(chance, API_EVERY_S, for_s):
        events.append(_api(chance, at_s))
    return sorted(events, key=lambda event: event.at_s)


def _moments(chance: random.Random, every_s: float, for_s: float) -> list[float]:
    """At random, *every_s* apart on average; at least one if there is time for it."""
    moments = []
    at_s = min(chance.expovariate(1 / every_s), for_s / 2)
    while at_s < for_s:
        moments.append(at_s)
        at_s += max(chance.expovariate(1 / every_s), 0.3)
    return moments


def _worker(chance: random.Random, at_s: float, worker: int) -> list[Event]:
    whom = chance.choice(("all", "all", "main", "child"))
    match chance.choices(("SIGKILL", "SIGTERM", "freeze"), (6, 2, 2))[0]:
        case "freeze":
            lasts_s = chance.uniform(1, 6)
            return [
                Event(at_s, "workers frozen", "freeze", {"worker": worker}),
                Event(at_s + lasts_s, "", "thaw", {"worker": worker}),
            ]
        case "SIGTERM":
            return [
                Event(at_s, "SIGTERM to a worker", "signal", {"worker": worker, "signal": "SIGTERM", "whom": "main"})
            ]
        case signal:
            name = {"all": "SIGKILL to a worker", "main": "SIGKILL to its main process only"}.get(
                whom, "SIGKILL to a pool process"
            )
            return [Event(at_s, name, "signal", {"worker": worker, "signal": signal, "whom": whom})]


def _api(chance: random.Random, at_s: float) -> Event:
    for_s = round(chance.uniform(1, 6), 1)
    name, fault = chance.choice(
        (
            ("API down", {"kind": "down"}),
            ("API down", {"kind": "down"}),
            ("API answers 503", {"kind": "status", "status": 503}),
            ("API answers 503", {"kind": "status", "status": 503}),
            ("API answers 429", {"kind": "status", "status": 429, "code": "rate_limited", "retry_after_s": 1}),
            ("API answers garbage", {"kind": "garbage", "on": "query"}),
            ("API loses responses", {"kind": "lost_response"}),
            ("API slow", {"kind": "slow", "delay_s": 1.5}),
        )
    )
    return Event(at_s, name, "api", {**fault, "for_s": for_s})
