"""Pictures: why something was kept, what was, and what it is worth (host; each runs once).

Each draws on an Axes of yours, so it stands where you want it. Save as PDF or SVG for print.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from infoutil_jax import files
from infoutil_jax.data.card import printable
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.sources import Source

BOX_COLOUR = "#d6336c"
COLOURS = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"
"""Okabe and Ito's, which people with any colour vision tell apart."""
MARKERS = "o", "s", "^", "D", "v", "P", "X"


def plot_attributions(
    axes: Axes,
    image: UInt8[np.ndarray, "height width channels"],
    values: Float[np.ndarray, "grid_h grid_w"],
    box: Sequence[int] | None = None,
    *,
    limit: float | None = None,
    scale: bool = True,
) -> Axes:
    """An image under its patches' values: red speaks for its class, blue against it.

    Args:
        axes: is drawn on.
        image: pixels.
        values: of each patch, as of `ShapleyMaps`.
        box: (top, left, height, width) in pixels of what is kept of it; None draws none.
        limit: the value of the strongest colour; by default the largest of the image, so that
            images whose colours are to be compared need one in common.
        scale: draw a colour bar.

    Returns:
        The axes.
    """
    _show(axes, image)
    most = limit or max(float(np.abs(values).max()), 1e-12)
    drawn = axes.imshow(
        values,
        cmap="RdBu_r",
        vmin=-most,
        vmax=most,
        alpha=0.65,
        extent=(-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5),
        interpolation="nearest",
    )
    if box is not None:
        _frame(axes, box)
    if scale and axes.figure is not None:
        bar = axes.figure.colorbar(drawn, ax=axes, shrink=0.8)
        bar.set_label("Shapley value")
    return axes


def plot_distilled(
    axes: Axes, distilled: DistilledDataset, *, classes: int = 10, per_class: int = 10
) -> Axes:
    """A set's images, a row a class, best first.

    Args:
        axes: is drawn on.
        distilled: the set.
        classes: rows at most, from the first class on.
        per_class: images a row at most.

    Returns:
        The axes.
    """
    height, width = distilled.images.shape[1:3]
    rows = min(classes, len(distilled.class_names))
    counts = np.bincount(distilled.labels, minlength=rows)[:rows]
    columns, gap = min(per_class, int(counts.max())), 1 + max(height, width) // 16
    channels = 1 if distilled.images.shape[3] < 3 else 3
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, channels)
    sheet = np.full(shape, 255, np.uint8)
    for row in range(rows):
        top = row * (height + gap)
        for column, member in enumerate(np.flatnonzero(distilled.labels == row)[:columns]):
            left = column * (width + gap)
            picture = distilled.images[member][..., :channels]
            sheet[top : top + height, left : left + width] = picture
    _show(axes, sheet)
    axes.set_yticks([row * (height + gap) + height / 2 for row in range(rows)])
    axes.set_yticklabels(distilled.class_names[:rows])
    axes.tick_params(length=0)
    return axes


def plot_tradeoff(
    axes: Axes,
    results: Mapping[str, Mapping[int, Sequence[float]]],
    *,
    everything: float | None = None,
) -> Axes:
    """Accuracy by images a class: a line a method, mean and standard deviation.

    Args:
        axes: is drawn on.
        results: method -> images per class -> top-1 of each student, in percent, as `quickstart`
            returns them.
        everything: top-1 of training on all images, a dashed line.

    Returns:
        The axes.
    """
    for number, (name, row) in enumerate(results.items()):
        budgets = sorted(row)
        values = [np.asarray(row[budget], np.float64) for budget in budgets]
        axes.errorbar(
            budgets,
            [one.mean() for one in values],
            yerr=[one.std(ddof=1) if len(one) > 1 else 0.0 for one in values],
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            capsize=3,
            label=name,
        )
    if everything is not None:
        axes.axhline(everything, color="0.4", linestyle="--", label="all images")
    every = sorted({budget for row in results.values() for budget in row})
    axes.set_xscale("log")
    axes.set_xticks(every, [str(budget) for budget in every])
    axes.minorticks_off()
    axes.set_xlabel("images a class")
    axes.set_ylabel("top-1, %")
    axes.legend()
    return axes


def overview(
    distilled: DistilledDataset,
    source: Source,
    path: str | Path | None = None,
    *,
    classes: int = 10,
    per_class: int = 5,
) -> Figure:
    """Draws the set: for each class its best crop's origin, map and box, then distilled images.

    A map of one patch is not shown. Images without an origin, as those of `sre2l`, are shown alone.

    Args:
        distilled: the set.
        source: what it was distilled from.
        path: where to save it, by its ending as PNG, PDF or SVG; None saves nothing.
        classes: rows, from the first class on.
        per_class: distilled images shown a row.

    Returns:
        The figure.
    """
    rows = min(classes, len(source.class_names))
    shown = min(per_class, int(np.bincount(distilled.labels).min()))
    traced = distilled.records[0]["tiles"][0]["example"] is not None
    mapped = traced and np.size(distilled.records[0]["tiles"][0]["map"]) > 1
    titles = ["original", *["Shapley values"] * mapped, "what is kept"] if traced else []
    skipped = len(titles)
    figure = Figure(
        figsize=(1.15 * (skipped + shown) + 0.9, 1.2 * rows + 0.6), layout="constrained"
    )
    axes = figure.subplots(rows, skipped + shown, squeeze=False)
    for row in range(rows):
        members = np.flatnonzero(distilled.labels == row)[:shown]
        if traced:
            tile = distilled.records[members[0]]["tiles"][0]
            _show_origin(axes[row][:skipped], source.train.image(tile["example"]), tile)
        for column, member in enumerate(members):
            _show(axes[row, skipped + column], distilled.images[member])
        axes[row, 0].set_ylabel(
            printable(source.class_names[row]),
            rotation=0,
            ha="right",
            va="center",
            fontsize=9,
            parse_math=False,
        )
    for column, title in enumerate([*titles, "distilled images"]):
        axes[0, column].set_title(title, fontsize=9, loc="left")
    if path is not None:
        _save(figure, Path(path))
    return figure


def origins(
    source: Source, tiles: Sequence[tuple[Mapping[str, Any], np.ndarray]], path: Path
) -> None:
    """Draws where tiles come from: the source image with its map, where there is one, and the box.

    Args:
        source: what was distilled.
        tiles: the record and the pixels of each.
        path: where the picture goes, by its ending as PNG, PDF or SVG.
    """
    mapped = np.size(tiles[0][0]["map"]) > 1
    titles = ["original", *["its map"] * mapped, "what is kept", "the tile"]
    figure = Figure(figsize=(2 * len(titles) + 0.4, 2.2 * len(tiles) + 0.3), layout="constrained")
    axes = figure.subplots(len(tiles), len(titles), squeeze=False)
    for row, (tile, pixels) in zip(axes, tiles, strict=True):
        _show_origin(row[:-1], source.train.image(tile["example"]), tile)
        _show(row[-1], pixels)
        row[0].set_xlabel(printable(tile["source"]), fontsize=8, parse_math=False)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9, loc="left")
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    drawn = BytesIO()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(drawn, dpi=110, format=path.suffix.removeprefix(".") or "png")
    files.write(path, drawn.getvalue())


def _show_origin(axes: np.ndarray, image: np.ndarray, tile: Mapping[str, Any]) -> None:
    """The source image; its map, where there is one of several patches; its box."""
    for axis in axes[:: 2 if len(axes) == 3 else 1]:
        _show(axis, image)
    if len(axes) == 3:
        plot_attributions(axes[1], image, np.asarray(tile["map"]), scale=False)
    _frame(axes[-1], tile["box"])


def _frame(axis: Axes, box: Sequence[int]) -> None:
    top, left, height, width = box
    axis.add_patch(
        Rectangle((left - 0.5, top - 0.5), width, height, fill=False, ec=BOX_COLOUR, lw=2)
    )


def _show(axis: Axes, image: np.ndarray) -> None:
    channels = image.shape[-1]
    pixels = image[..., 0] if channels < 3 else image[..., :3]
    axis.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
