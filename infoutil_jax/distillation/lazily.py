"""Which images of a pool need no attribution, because none of their crops can be kept (host).

A map only chooses among the windows of a grid, of which there are few, and attribution costs many
times as much as their scores. So all windows of every image are scored first. Then images are
attributed, those with the best window first, until no window of the others is as good as the crops
that are kept already. What is kept is the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int, Int32

from infoutil_jax.distillation.examine import Examined
from infoutil_jax.image.grid import both
from infoutil_jax.method.attribution import UniformMaps
from infoutil_jax.method.cropping import EveryWindow, ShapleyBoxes
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.method.selection import TopK
from infoutil_jax.method.shapley_maps import ShapleyMaps

COST = 3
"""Forward passes that a gradient norm costs."""

SLACK = 1e-3
"""Share of a score by which another batch may round it otherwise, many times over."""

Attribute = Callable[[Int[np.ndarray, " images"]], Examined]
"""Attributes images; returns what can still be kept of them."""


@dataclass(frozen=True)
class Bounds:
    """The best score that each image of a pool can have.

    Attributes:
        ids: of the images.
        labels: their classes.
        scores: larger is better, whatever the recipe keeps; infinite where it is no number.
    """

    ids: Int[np.ndarray, " images"]
    labels: Int32[np.ndarray, " images"]
    scores: Float[np.ndarray, " images"]


def bounding(recipe: Recipe, image_size: tuple[int, int]) -> Recipe | None:
    """The recipe that scores every window; None where all images are attributed all the same.

    That is where a recipe's crops are not windows of Shapley maps, where its selection compares all
    crops, and where the windows cost more than half of what attribution does.
    """
    maps, crop, select = recipe.attribute, recipe.crop, recipe.select
    if type(maps) is not ShapleyMaps or type(crop) is not ShapleyBoxes or type(select) is not TopK:
        return None
    if select.reduce is None:
        return None
    grid = both(maps.config.grid)
    places = math.prod(crop.windows(grid, image_size).shape[:2])
    if 2 * COST * places > maps.config.budget:
        return None
    return replace(recipe, attribute=UniformMaps(grid), crop=EveryWindow(crop), embed=None)


def best_window(recipe: Recipe, rows: Examined) -> Examined:
    """The row of each image's best window, its score made larger for better."""
    scores = rows.candidates.scores * (-1 if _lowest(recipe) else 1)
    scores = np.where(np.isnan(scores), np.inf, scores)
    _, first, counts = np.unique(rows.candidates.ids, return_index=True, return_counts=True)
    starts = np.sort(first)
    best = starts + scores.reshape(len(starts), counts[0]).argmax(1)
    kept = rows.take(best)
    return kept._replace(candidates=kept.candidates._replace(scores=scores[best]))


def attributed(
    recipe: Recipe, bounds: Bounds, per_class: int, at_once: int, attribute: Attribute
) -> Iterator[Examined]:
    """Yields the rows of the images that had to be attributed, round by round.

    Args:
        recipe: says which scores are kept.
        bounds: of all images of the pool.
        per_class: crops that are kept of each class.
        at_once: images of a round, as far as there are so many left.
        attribute: of images, ascending.
    """
    sign = -1.0 if _lowest(recipe) else 1.0
    order = np.lexsort((bounds.ids, -bounds.scores, bounds.labels))
    ids, labels, scores = bounds.ids[order], bounds.labels[order], bounds.scores[order]
    classes, place = np.unique(labels, return_inverse=True)
    waiting = np.ones(len(ids), bool)
    best: list[np.ndarray] = [np.zeros(0)] * len(classes)
    depth = max(per_class, -(-at_once // len(classes)))
    while True:
        worst = np.array([_last(one, per_class) for one in best])
        chosen = _first(waiting & (scores >= (worst - SLACK * np.abs(worst))[place]), place, depth)
        if not chosen.any():
            return
        rows = attribute(np.sort(ids[chosen]))
        waiting &= ~chosen
        for label, one in enumerate(classes):
            mine = sign * rows.candidates.scores[rows.candidates.labels == one]
            best[label] = np.sort(np.concatenate([best[label], mine]))[::-1][:per_class]
        yield rows


def _first(open_: np.ndarray, place: np.ndarray, depth: int) -> np.ndarray:
    """The first rows of each class that are open, `depth` of them at most; rows are by class."""
    before = np.cumsum(open_) - open_
    result: np.ndarray = open_ & (before - before[np.searchsorted(place, place)] < depth)
    return result


def _lowest(recipe: Recipe) -> bool:
    return isinstance(recipe.select, TopK) and recipe.select.keep == "lowest"


def _last(best: np.ndarray, per_class: int) -> float:
    """The score that a crop has to reach; any will do as long as some are missing."""
    return float(best[per_class - 1]) if len(best) >= per_class else -np.inf
