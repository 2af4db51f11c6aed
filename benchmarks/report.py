"""Numbers to text: medians, percentiles, Markdown tables. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass
class Report:
    """What one measurement has to say."""

    name: str
    title: str
    how: str
    """One or two sentences on the conditions."""
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    """Every single figure, for the JSON file."""
    remarks: list[str] = field(default_factory=list)
    plots: dict[str, str] = field(default_factory=dict)
    """SVG by the name of its file."""

    def markdown(self) -> str:
        """A heading, the conditions and the table."""
        lines = [f"## {self.title}", "", self.how, ""]
        lines += [_row(self.columns), _row(["---"] + ["---:"] * (len(self.columns) - 1))]
        lines += [_row(row) for row in self.rows]
        if self.remarks:
            lines += ["", *(f"- {remark}" for remark in self.remarks)]
        return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def medians(samples: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each field over *samples*."""
    return {name: median(sample[name] for sample in samples) for name in samples[0]}


def percentile(values: Sequence[float], share: float) -> float:
    """
    The smallest value that at least *share* of *values* do not exceed.

    >>> percentile([3, 1, 2], 0.5), percentile(range(1, 101), 0.99)
    (2, 99)
    """
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def times(ours: float, theirs: float) -> str:
    """*ours* as a multiple of *theirs*."""
    ratio = ours / theirs if theirs else math.inf
    return f"{ratio:.1f} x" if ratio < 100 else f"{ratio:.0f} x"  # noqa: PLR2004 - digits that mean something
