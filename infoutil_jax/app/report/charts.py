"""Small charts as SVG, coloured by the page's style sheet, each with a sentence on it (host).

They follow the page: light or dark, narrow or wide, with no script and no font of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 320, 150
Extent = tuple[float | int, float | int]
LEFT, BOTTOM, TOP = 46, 20, 8  # pixels around the plot


def histogram(values: Sequence[float | int] | np.ndarray, what: str, bins: int = 24) -> Markup:
    """How often values occur.

    Args:
        values: finite; at least one.
        what: names them, as "score".
        bins: of equal width, from the lowest to the highest.
    """
    numbers = np.asarray(values, np.float64)
    counts, edges = np.histogram(numbers, bins)
    low, high, most = numbers.min(), numbers.max(), counts.max()
    middle = np.median(numbers)
    said = f"{what}: {numbers.size} values from {low:.3g} to {high:.3g}, median {middle:.3g}"
    width = (WIDTH - LEFT) / bins
    bars = [
        Markup('<rect class="bar" x="{}" y="{}" width="{}" height="{}"/>').format(
            *_rounded(LEFT + i * width + 0.5, _y(count / most), width - 1, _plot() * count / most)
        )
        for i, count in enumerate(counts)
        if count
    ]
    return _chart(said, bars, (float(edges[0]), float(edges[-1])), (0, float(most)))


def curve(values: Sequence[float | int], what: str, along: str = "epoch") -> Markup:
    """How a value changes, one point after another.

    Args:
        values: at least one.
        what: names them.
        along: what is counted from 1 to the last.
    """
    y = np.asarray(values, np.float64)
    low, high = min(0.0, float(y.min())), float(y.max())
    said = f"{what}: {y[0]:.3g} in the first {along}, {y[-1]:.3g} in the last of {len(y)}"
    room = (high - low) or 1.0
    x = LEFT + (WIDTH - LEFT - 2) * np.arange(len(y)) / max(len(y) - 1, 1)
    points = " ".join(f"{a:.1f},{_y((b - low) / room):.1f}" for a, b in zip(x, y, strict=True))
    line = Markup('<polyline class="line" points="{}"/>').format(points)
    return _chart(said, [line], (1, len(y)), (low, high))


def reliability(table: Sequence[Sequence[float | int]]) -> Markup:
    """Accuracy by confidence, beside the diagonal on which both are equal.

    Args:
        table: of each bin how many images, their summed confidence, how many were right.
    """
    rows = np.asarray(table, np.float64)
    counts, width = rows[:, 0], (WIDTH - LEFT) / len(rows)
    error = np.abs(rows[:, 2] - rows[:, 1]).sum() / max(counts.sum(), 1)
    bar = Markup('<rect class="bar" x="{}" y="{}" width="{}" height="{}" opacity="{}"/>')
    bars = []
    for i, (count, _, right) in enumerate(rows):
        if count:
            share, left = right / count, LEFT + i * width + 0.5
            shade = 0.35 + 0.65 * float(count / counts.max())
            place = _rounded(left, _y(share), width - 1, _plot() * share)
            bars.append(bar.format(*place, round(shade, 2)))
    diagonal = Markup('<line class="guide" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
        LEFT, _y(0.0), WIDTH, _y(1.0)
    )
    said = f"accuracy by confidence; expected calibration error {error:.3f}"
    return _chart(said, [*bars, diagonal], (0, 1), (0, 1))


def _chart(said: str, marks: Sequence[Markup], x: Extent, y: Extent) -> Markup:
    axes = Markup('<path class="axis" d="M{},{} V{} H{}"/>').format(LEFT, TOP, _y(0.0), WIDTH)
    text = Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>')
    labels = [
        text.format(LEFT, HEIGHT - 5, "start", f"{x[0]:.3g}"),
        text.format(WIDTH, HEIGHT - 5, "end", f"{x[1]:.3g}"),
        text.format(LEFT - 4, _y(0.0), "end", f"{y[0]:.3g}"),
        text.format(LEFT - 4, TOP + 8, "end", f"{y[1]:.3g}"),
    ]
    head = Markup('<svg class="chart" role="img" aria-label="{}" viewBox="0 0 {} {}">').format(
        escape(said), WIDTH + 2, HEIGHT
    )
    return Markup("").join([head, *marks, axes, *labels, Markup("</svg>")])


def _plot() -> int:
    return HEIGHT - BOTTOM - TOP


def _y(share: float) -> float:
    """The y of a share of the plot's height."""
    return round(TOP + _plot() * (1 - float(share)), 1)


def _rounded(*values: float) -> list[float]:
    return [round(float(value), 1) for value in values]
