"""Plots as SVG, in the plainest form that documents show: bars beside each other, and lines. Pure."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COLOURS = ("#2f6f9f", "#e0873e", "#4c9f70", "#a05195", "#8a8a8a", "#c44e52")
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 720, 320, 70, 56, 46
_STYLE = 'font-family="sans-serif" font-size="12" fill="#333"'


def bars(title: str, unit: str, groups: Sequence[str], series: Mapping[str, Sequence[float]]) -> str:
    """One group of bars for each of *groups*, with a bar of each of *series* in it."""
    top = max(max(values) for values in series.values()) * 1.12 or 1
    wide = (WIDTH - LEFT - 20) / len(groups)
    bar = wide * 0.8 / len(series)
    parts = []
    for number, (colour, values) in enumerate(zip(COLOURS, series.values(), strict=False)):
        for group, value in enumerate(values):
            x, y = LEFT + wide * (group + 0.1) + bar * number, _y(value, top)
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{bar * 0.94:.1f}" height="{_base() - y:.1f}" fill="{colour}"/>'
            )
            parts.append(_text(x + bar * 0.47, y - 4, _short(value), "middle", 10))
    for group, label in enumerate(groups):
        parts.append(_text(LEFT + wide * (group + 0.5), _base() + 18, label, "middle"))
    return _frame(title, unit, series, parts, top)


def lines(
    title: str, unit: str, x_name: str, x: Sequence[float], series: Mapping[str, Sequence[float]], *, log: bool
) -> str:
    """A line for each of *series* over *x*, which is on a logarithmic axis if *log*."""
    top = max(max(values) for values in series.values()) * 1.12 or 1
    place = math.log10 if log else float
    low, high = place(x[0]), place(x[-1])

    def across(value: float) -> float:
        return LEFT + 10 + (WIDTH - LEFT - 50) * (place(value) - low) / ((high - low) or 1)

    parts = []
    for colour, values in zip(COLOURS, series.values(), strict=False):
        points = [(across(at), _y(value, top)) for at, value in zip(x, values, strict=True)]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(points) <= 12:  # noqa: PLR2004 - more would be a smear
            parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{colour}"/>' for px, py in points]
    shown = x if len(x) <= 12 else x[:: max(len(x) // 8, 1)]  # noqa: PLR2004
    parts += [_text(across(at), _base() + 18, _short(at), "middle") for at in shown]
    parts.append(_text(WIDTH / 2, HEIGHT - 8, x_name, "middle"))
    return _frame(title, unit, series, parts, top)


def _frame(title: str, unit: str, series: Mapping[str, Sequence[float]], parts: Sequence[str], top: float) -> str:
    grid = []
    for step in range(5):
        value = top * step / 4.48
        grid.append(
            f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{_y(value, top):.1f}" y2="{_y(value, top):.1f}" stroke="#ddd"/>'
        )
        grid.append(_text(LEFT - 6, _y(value, top) + 4, _short(value), "end"))
    legend, at = [], LEFT
    for colour, name in zip(COLOURS, series, strict=False):
        legend.append(f'<rect x="{at}" y="34" width="10" height="10" fill="{colour}"/>')
        legend.append(_text(at + 14, 43, name))
        at += 26 + 7 * len(name)
    body = "\n".join([_text(LEFT, 20, f"{title} ({unit})", size=14), *legend, *grid, *parts])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{body}\n</svg>\n'
    )


def _base() -> float:
    return HEIGHT - BOTTOM


def _y(value: float, top: float) -> float:
    return _base() - (_base() - TOP) * value / top


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 12) -> str:
    style = _STYLE.replace("12", str(size))
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {style}>{escape(text)}</text>'


def _short(value: float) -> str:
    if value >= 1_000_000:  # noqa: PLR2004
        return f"{value / 1e6:g}M"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004
