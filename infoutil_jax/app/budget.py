"""How many images a class, where some classes are rare (host)."""

from __future__ import annotations

import numpy as np

from infoutil_jax.app.config import RareClasses
from infoutil_jax.data.sources import Source
from infoutil_jax.errors import InputError


def budget_of(
    source: Source, tiles: int, asked: int | None, rare_classes: RareClasses
) -> tuple[Source, int, str]:
    """The source, its rare classes filled if that is asked for, the budget, and a sentence on both.

    Args:
        source: what is distilled.
        tiles: crops an image.
        asked: images a class; None for ten, or as many as the rarest class fills.
        rare_classes: what to do where that is more than it fills.

    Raises:
        InputError: a class has too few images for the budget, and neither policy was chosen.
    """
    counts = np.bincount(source.train.labels, minlength=len(source.class_names))
    rarest = int(counts.argmin())
    most = int(counts[rarest]) // tiles
    who = f"class {source.class_names[rarest]!r} has {counts[rarest]} training images"
    budget = 10 if asked is None else asked
    if budget <= most:
        return source, budget, f"budget: {budget} images a class"
    if rare_classes == "fill":
        filled = source.fill(budget * tiles)
        names = ", ".join(filled.filled)
        text = f"budget: {budget} images a class, filled by other crops of the same images: {names}"
        return filled, budget, text
    if most and (asked is None or rare_classes == "cap"):
        return source, most, f"budget: {most} images a class instead of {budget}, for {who}"
    raise InputError(
        f"{who}, and {budget} distilled images of {tiles} tile(s) need {budget * tiles}: "
        "lower images_per_class or tiles, or choose rare_classes='cap' or rare_classes='fill'"
    )
