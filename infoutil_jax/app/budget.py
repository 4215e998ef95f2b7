"""How many images a class, where some classes are rare (host)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from infoutil_jax.app.config import RareClasses
from infoutil_jax.data.sources import Source
from infoutil_jax.errors import InputError


class Budget(NamedTuple):
    """What is distilled, and how many images of each class.

    Attributes:
        source: with its rare classes filled, where that is needed.
        images: of a class; where classes have different numbers, the largest.
        text: a sentence on both.
        by_class: of each class, where they are different.
    """

    source: Source
    images: int
    text: str
    by_class: tuple[int, ...] | None = None


def budget_of(source: Source, tiles: int, asked: int | None, rare_classes: RareClasses) -> Budget:
    """The source, its rare classes filled if that is asked for, and the budget.

    Args:
        source: what is distilled.
        tiles: crops an image.
        asked: images a class; None for ten, or as many as the rarest class fills.
        rare_classes: what to do where that is more than it fills.

    Raises:
        InputError: a class has too few images for the budget, and no policy was chosen.
    """
    counts = np.bincount(source.train.labels, minlength=len(source.class_names))
    rarest = int(counts.argmin())
    most = int(counts[rarest]) // tiles
    who = f"class {source.class_names[rarest]!r} has {counts[rarest]} training images"
    budget = 10 if asked is None else asked
    if rare_classes == "proportional":
        return _differing(source, tiles, shares(counts, budget * len(counts)), "in proportion")
    if budget <= most:
        return Budget(source, budget, f"budget: {budget} images a class")
    if rare_classes == "own":
        own = np.minimum(np.maximum(counts // tiles, 1), budget)
        return _differing(source, tiles, own, "as many as a class has")
    if rare_classes == "fill":
        filled = source.fill(budget * tiles)
        names = ", ".join(filled.filled)
        text = f"budget: {budget} images a class, filled by other crops of the same images: {names}"
        return Budget(filled, budget, text)
    if most and (asked is None or rare_classes == "cap"):
        text = f"budget: {most} images a class instead of {budget}, for {who}"
        return Budget(source, most, text)
    raise InputError(
        f"{who}, and {budget} distilled images of {tiles} tile(s) need {budget * tiles}: "
        "lower images_per_class or tiles, or choose rare_classes='cap', 'own' or 'fill'"
    )


def shares(counts: Int[np.ndarray, " classes"], total: int) -> Int[np.ndarray, " classes"]:
    """A total shared out: one for each, the rest in proportion to counts (largest remainders).

    Args:
        counts: of training images, positive.
        total: distilled images of all classes, at least one a class.
    """
    exact = (total - len(counts)) * counts / counts.sum()
    found: Int[np.ndarray, " classes"] = exact.astype(np.int64)
    rest = np.argsort(found - exact, kind="stable")[: total - len(counts) - found.sum()]
    found[rest] += 1
    found += 1
    return found


def _differing(
    source: Source, tiles: int, by_class: Int[np.ndarray, " classes"], how: str
) -> Budget:
    """A budget that differs by class; recipes choose the largest of each, of which less is kept."""
    most = int(by_class.max())
    names = [f"{name} {n}" for name, n in zip(source.class_names, by_class, strict=True)]
    said = ", ".join(names) if len(names) <= 10 else f"from {by_class.min()} to {most} images"
    text = f"budget: {by_class.sum()} images, {how}: {said}"
    whole = tuple(int(n) for n in by_class)
    return Budget(source.fill(most * tiles), most, text, None if min(whole) == most else whole)
