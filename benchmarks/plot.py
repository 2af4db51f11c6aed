"""Line plots as SVG, by hand: they are small, and readable on dark and on light pages. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil
from typing import Final

Point = tuple[float, float]

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 48, 236, 40, 44
COLOURS: Final = (
    "#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#65a30d", "#475569", "#92400e",
)  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """A line and what it is called."""

    name: str
    points: Sequence[Point]


def lines(
    curves: Sequence[Curve], *, title: str, x_label: str, marks: Sequence[tuple[float, str]] = (), from_y: float = 1.0
) -> str:
    """The *curves* in one plot, whose y axis begins at *from_y*, with dotted levels at *marks*."""
    most_x = max(x for curve in curves for x, _ in curve.points)
    most_y = ceil(2 * max(y for curve in curves for _, y in curve.points)) / 2

    def at(x: float, y: float) -> str:
        across = LEFT + x / most_x * (WIDTH - LEFT - RIGHT)
        down = TOP + (most_y - y) / (most_y - from_y) * (HEIGHT - TOP - BOTTOM)
        return f"{across:.1f},{down:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
        f'<text x="{(WIDTH + LEFT - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>',
    ]
    levels = [from_y + 0.5 * step for step in range(int((most_y - from_y) * 2) + 1)]
    for y in levels:
        parts.append(f'<polyline points="{at(0, y)} {at(most_x, y)}" stroke="#e5e7eb" fill="none"/>')
        parts.append(_text(at(0, y), f"{y:g}", dx=-8, dy=4, anchor="end"))
    parts += [_text(at(x, from_y), f"{x:g}", dy=16, anchor="middle") for x, _ in curves[0].points]
    for y, name in marks:
        parts.append(
            f'<polyline points="{at(0, y)} {at(most_x, y)}" stroke="#111827" stroke-dasharray="2 4" fill="none"/>'
        )
        parts.append(_text(at(0, y), name, dx=-8, dy=0, anchor="end"))
    for number, curve in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(at(x, y) for x, y in curve.points)
        parts.append(f'<polyline points="{path}" stroke="{colour}" stroke-width="2" fill="none"/>')
        parts.append(f'<rect x="{WIDTH - RIGHT + 16}" y="{TOP + 20 * number}" width="14" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 38}" y="{TOP + 20 * number + 7}">{escape(curve.name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(place: str, text: str, *, dx: float = 0, dy: float = 0, anchor: str) -> str:
    x, y = (float(part) for part in place.split(","))
    return f'<text x="{x + dx:.1f}" y="{y + dy:.1f}" text-anchor="{anchor}" fill="#4b5563">{escape(text)}</text>'
