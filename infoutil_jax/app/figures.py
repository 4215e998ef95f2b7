"""What was kept and why, as a picture (host; runs once)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.sources import Source

BOX_COLOUR = "#d6336c"


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
        path: where to save a PNG; None saves nothing.
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
            source.class_names[row], rotation=0, ha="right", va="center", fontsize=9
        )
    for column, title in enumerate([*titles, "distilled images"]):
        axes[0, column].set_title(title, fontsize=9, loc="left")
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
    return figure


def _show_origin(axes: np.ndarray, image: np.ndarray, tile: Mapping[str, Any]) -> None:
    """The source image; its map, where there is one of several patches; its box."""
    for axis in axes:
        _show(axis, image)
    if len(axes) == 3:
        patch_map = np.asarray(tile["map"])
        limit = max(float(np.abs(patch_map).max()), 1e-12)
        axes[1].imshow(
            patch_map,
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
            alpha=0.65,
            extent=(-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5),
            interpolation="nearest",
        )
    top, left, height, width = tile["box"]
    axes[-1].add_patch(
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
