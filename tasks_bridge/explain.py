"""When jobs of a model are looked at, and why, for people: what `tasks-bridge cadence` says. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from tasks_bridge.cadence import ASSUMED_ESTIMATE_S
from tasks_bridge.durations import End
from tasks_bridge.inspection import expect
from tasks_bridge.knowledge import FEWEST_ENDS, Basis, Knowledge, Mode

COLUMNS: Final = 60
_BARS: Final = " ▁▂▃▄▅▆▇█"
_LOOK: Final = "▲"
_RULES: Final = ("learned", "published")
_MOST_LOOKS: Final = 200
_SHOWN_LOOKS: Final = 12


@dataclass(frozen=True)
class Explanation:
    """What is known of one model, and what follows from it for jobs with one estimate."""

    model: str
    kept: Sequence[End]
    known: Knowledge
    is_on: bool
    """Whether workers learn at all."""
    estimate_s: float

    @classmethod
    def of(
        cls, model: str, kept: Sequence[End], known: Knowledge, *, is_on: bool, estimate_s: float | None
    ) -> Explanation:
        """For jobs with *estimate_s*, by default that of the jobs of late."""
        usual_s = median(end.estimate_s for end in kept) if kept else ASSUMED_ESTIMATE_S
        return cls(model, kept, known, is_on, usual_s if estimate_s is None else estimate_s)

    @property
    def mode(self) -> Mode:
        """Which countdowns jobs get."""
        return self.known.mode if self.is_on else Mode.COLD

    @property
    def why(self) -> str:
        """In a sentence."""
        known = self.known
        if not self.is_on:
            return "the published rule, because TASKS_BRIDGE_LEARN_CADENCE is off"
        if known.is_cold:
            since = "since the pace changed" if known.relevant < len(known.ends) else "so far"
            return f"the published rule, because {known.seen} ends count {since} and {FEWEST_ENDS} are needed"
        if known.mode is Mode.LOSING:
            paid = known.paid
            return (
                "the published rule for now, because learned countdowns have been the dearer ones lately: "
                f"{paid.ours_s / paid.jobs:.1f} s of lag and polls per job where it would have cost "
                f"{paid.published_s / paid.jobs:.1f} s"
            )
        unit = "as multiples of the estimate" if known.basis is Basis.ESTIMATES else "in seconds: estimates say little"
        return f"learned from {known.relevant} ends, {unit}"

    def described(self) -> dict[str, Any]:
        """
        For programs.

        ``{"model", "mode", "why", "estimate_s", "ends": {"kept", "counted", "relevant"}, "published": …}``, and where
        enough is known ``"durations_s": {"p10", "p50", "p90", "p99"}``, ``"learned": …`` and ``"missed_callbacks"``.
        Each rule is ``{"looks_s", "lag_s", "polls", "cost_s"}``, the last three as expected, None if nothing is known.
        """
        known = self.known
        ends = {"kept": len(self.kept), "counted": len(known.ends)}
        found: dict[str, Any] = {
            "model": self.model,
            "mode": self.mode.value,
            "why": self.why,
            "estimate_s": self.estimate_s,
            "ends": {**ends, "relevant": known.relevant} if known.ends else ends,
            "published": self._rule(self._published),
        }
        if known.is_cold:
            return found
        durations = known.durations_s(self.estimate_s)
        shares = {"p10": 0.1, "p50": 0.5, "p90": 0.9, "p99": 0.99}
        found["durations_s"] = {name: round(durations.quantile(share), 1) for name, share in shares.items()}
        found["learned"] = self._rule(self._learned)
        if any(end.called is not None for end in known.ends):
            found["missed_callbacks"] = round(known.missed, 3)
        return found

    def lines(self) -> Iterator[str]:
        """For people: why, when, and a plot of it, 80 columns wide."""
        found = self.described()
        yield f"{self.model}: {self.why}."
        if self.known.is_cold:
            yield f"Jobs with an estimate of {self.estimate_s:g} s are looked at every {self._published(0):g} s or so."
            return
        yield ""
        yield from self._plot()
        yield ""
        q = found["durations_s"]
        yield (
            f"With an estimate of {self.estimate_s:g} s, one job in ten ends by {q['p10']:g} s, half of them by "
            f"{q['p50']:g} s, nine in ten by {q['p90']:g} s."
        )
        cost_s = self.known.pace.poll_cost_s
        for name in _RULES:
            rule = found[name]
            looks = ", ".join(f"{at:g}" for at in rule["looks_s"][:_SHOWN_LOOKS])
            more = ", …" if len(rule["looks_s"]) > _SHOWN_LOOKS else ""
            yield (
                f"{name:>9}: {rule['polls']:.1f} polls and {rule['lag_s']:.1f} s of lag expected, together "
                f"{rule['cost_s']:.1f} s at {cost_s:g} s a poll"
            )
            yield f"           at {looks}{more} s"
        if "missed_callbacks" in found:
            yield f"Callbacks: {found['missed_callbacks']:.1%} are expected to be missed; with them, polls are rarer."

    def _plot(self) -> Iterator[str]:
        durations = self.known.durations_s(self.estimate_s)
        width_s = durations.quantile(0.98) * 1.1 / COLUMNS
        shares = [
            durations.below((column + 1) * width_s)[0] - durations.below(column * width_s)[0]
            for column in range(COLUMNS)
        ]
        highest = max(shares)
        bars = "".join(_BARS[round(share / highest * (len(_BARS) - 1))] for share in shares)
        yield f"{'ends':>9}  {bars}".rstrip()
        for name, wait_s in (("learned", self._learned), ("published", self._published)):
            row = [" "] * COLUMNS
            for at in _looks(wait_s, COLUMNS * width_s):
                row[min(int(at / width_s), COLUMNS - 1)] = _LOOK
            yield f"{name:>9}  {''.join(row)}".rstrip()
        axis = "".join(f"{column * width_s:<15.0f}" for column in range(0, COLUMNS, 15))
        yield f"{'s':>9}  {axis}".rstrip()

    def _rule(self, wait_s: Callable[[float], float]) -> dict[str, Any]:
        if self.known.is_cold:
            return {"looks_s": [round(at, 1) for at in _looks(wait_s, 3 * self.estimate_s)]}
        durations = self.known.durations_s(self.estimate_s)
        lag_s, polls = expect(wait_s, durations)
        return {
            "looks_s": [round(at, 1) for at in _looks(wait_s, durations.quantile(0.99))],
            "lag_s": round(lag_s, 2),
            "polls": round(polls, 2),
            "cost_s": round(lag_s + self.known.pace.poll_cost_s * polls, 2),
        }

    def _learned(self, elapsed_s: float) -> float:
        return self.known.schedule(self.estimate_s, has_callback=False).wait_s(elapsed_s)

    def _published(self, _: float) -> float:
        return self.known.published_s(self.estimate_s)


def _looks(wait_s: Callable[[float], float], until_s: float) -> list[float]:
    """The looks until then, jitter aside; at least one."""
    found = [wait_s(0.0)]
    while found[-1] < until_s and len(found) < _MOST_LOOKS:
        found.append(found[-1] + wait_s(found[-1]))
    return found
