"""A distillation method is a recipe of four pure functions: attribute, crop, score, select.

Compose your own with `dataclasses.replace`:

    recipe = dataclasses.replace(infoutil(), score=mine)

where `mine(predict, variables, crops, labels) -> [batch]` is any function JAX can trace. The first
three run per image on the device, under one `jit`; `select` runs on the host, on the table of
candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from infoutil_jax.errors import InputError
from infoutil_jax.method import (
    attribution,
    coresets,
    cropping,
    features,
    kernel_student,
    selection,
    utility,
)
from infoutil_jax.method.shapley_maps import design_once, shapley_maps, staged_once

Keep = Literal["highest", "lowest", "middle"]


@dataclass(frozen=True)
class Recipe:
    """What a method does to an image set; every field can be replaced by a function of yours.

    Attributes:
        name: how results call it.
        attribute: `(predict, variables, images [b, h, w, c], labels [b], keys [b]) ->
            maps [b, grid_h, grid_w]`; images are normalised, keys follow the example.
        crop: `(keys [b], maps, (h, w)) -> boxes int32 [b, crops, 4]` as (top, left, height,
            width).
        score: `(predict, variables, crops [n, h, w, c], labels [n]) -> [n]`; crops are
            normalised, at the teacher's input size.
        select: `(key, candidates, per_class) -> candidates`, best first within each class.
        tiles: crops that share a distilled image: 1, 4 or 9.
        view: how a crop comes to the teacher's input size for scoring: "resize" or "pad" (RDED:
            centred, in the mean colour).
        order: which ranks share an image: "consecutive" (InfoUtil, Algorithm 1) or "strided"
            (RDED: image j holds ranks j, n + j, 2n + j, 3n + j).
        embed: `(predict, variables, crops, labels) -> [n, dim]`, features for `select` to read
            (`Candidates.features`); None for none.
        scorer: which teacher attributes and scores, where there are two: the "teacher", or the
            "labeller", that is the one that labels.
    """

    name: str
    attribute: Callable[..., Any]
    crop: Callable[..., Any]
    score: Callable[..., Any]
    select: Callable[..., Any]
    tiles: int = 1
    view: Literal["resize", "pad"] = "resize"
    order: Literal["consecutive", "strided"] = "consecutive"
    embed: Callable[..., Any] | None = None
    scorer: Literal["teacher", "labeller"] = "teacher"

    def __post_init__(self):
        if self.tiles < 1 or math.isqrt(self.tiles) ** 2 != self.tiles:
            raise InputError(f"tiles is {self.tiles}; it must be a square number: 1, 4, 9, ...")


def infoutil(
    *,
    tiles: int = 1,
    among: int = 64,
    num_crops: int = 5,
    judges: int = 4000,
    over: Any = "all",
) -> Recipe:
    """The recommended recipe: today the rule of `infoutil_kernel`, which also says the arguments.

    At 1 and 10 images a class it leads every other recipe measured, by 0.3 to 5.4 points
    (README). The teacher that labels also scores.
    """
    recipe = infoutil_kernel(
        tiles=tiles, among=among, num_crops=num_crops, judges=judges, over=over
    )
    return replace(recipe, name="infoutil")


def infoutil_paper(
    *,
    tiles: int = 1,
    grid: int | tuple[int, int] = 4,
    budget: int = 256,
    strategy: str = "kernel",
    sure: float = 2.0,
    map_dtype: Literal["float32", "bfloat16"] | None = None,
    output: Any = "logit",
    baseline: Any = 0.0,
    window: int | None = None,
    side: float | None = None,
    num_crops: int = 5,
    alpha: float = 2.0,
    over: Any = "all",
    keep: Keep = "highest",
    cap: float | None = None,
    compete: Literal["best", "all"] = "best",
    batch_size: int = 256,
) -> Recipe:
    """InfoUtil as printed (ICLR 2026, Algorithm 1): Shapley crops, then the largest gradient norms.

    The defaults are the paper's, KernelSHAP included. Where the paper is silent, the arguments are
    the open questions. `strategy="gaussian"` finds the same windows from far fewer coalitions.

    Args:
        tiles: crops an image: 1 at 32 and 64 pixels, 4 at 128 and 224.
        grid: patches a side; the players of the game (paper: 4).
        budget: coalitions evaluated for each image, or for those that stay in doubt.
        strategy: "gaussian", "leverage" or "kernel" (Lundberg & Lee, as printed).
        sure: an image is done once its best window is ahead of every other by so many standard
            deviations; infinity evaluates the budget for all. Only "gaussian" knows them.
        map_dtype: precision of the coalitions' forward passes; None is the teacher's own.
        output: value of a coalition: "logit", "probability", "log_probability" or a function.
        baseline: what a missing patch shows (paper: 0, the mean colour).
        window: patches a side that are pooled and kept; None is half the grid (paper: 2 of 4).
        side: side of the crop as a fraction of the image's; None is `window / grid`.
        num_crops: crops cut from each image; all but the last with noise.
        alpha: standard deviation of that noise, in standard deviations of the pooled map.
        over: parameters of the gradient: "all", "classifier", or a predicate on their paths.
        keep: "highest" norms (the paper), "lowest" or "middle".
        cap: quantile of a class's scores above which a crop is not eligible; None for no cap.
        compete: "best": an image's best crop competes; "all": every crop does.
        batch_size: masked images in flight at once.

    Raises:
        InputError: a budget below what the strategy needs, a negative `sure`, a window that does
            not fit the grid, or tiles that make no square.
    """
    grid_h, grid_w = (grid, grid) if isinstance(grid, int) else grid
    if not sure >= 0:
        raise InputError(f"sure is {sure}; give standard deviations, 0 or more")
    # Both tell of a bad budget before any work.
    stops = strategy == "gaussian" and math.isfinite(sure)
    if stops:
        staged_once((grid_h, grid_w), budget, window, batch_size)
    else:
        design_once((grid_h, grid_w), budget, strategy)
    return Recipe(
        name="infoutil_paper",
        attribute=partial(
            shapley_maps,
            grid=grid,
            budget=budget,
            strategy=strategy,
            sure=sure if stops else None,
            window=window,
            dtype=map_dtype,
            baseline=baseline,
            output=output,
            batch_size=batch_size,
        ),
        crop=partial(
            cropping.shapley_boxes, num_crops=num_crops, window=window, side=side, alpha=alpha
        ),
        score=partial(utility.gradient_norm, over=over),
        select=partial(selection.top_k, keep=keep, cap=cap, compete=compete),
        tiles=tiles,
    )


def infoutil_clear(
    *,
    tiles: int = 1,
    among: int = 4,
    num_crops: int = 5,
    mass: float | None = None,
    over: Any = "all",
) -> Recipe:
    """Clear and different: the medoids, as a new student sees them, of the lowest norms.

    InfoUtil's two questions with what measurements answered (the README has them). Useful are the
    crops of lowest gradient norm at the teacher that labels: what it
    is sure of is what it can teach. Informative is hence what brings that norm down, of RDED's
    random-resized crops of an image; or the smallest window that keeps a share of its Shapley
    mass. Among some more than are needed, greedy facility location over the features of an
    untrained network takes those that stand for the others.

    Args:
        tiles: crops an image: 1 at 32 and 64 pixels, 4 at 128 and 224.
        among: how many times as many crops as are needed, by norm from below, are chosen from.
        num_crops: random-resized crops cut from each image, of which the best competes.
        mass: share of the Shapley mass that the one window of an image must keep; None for
            random-resized crops.
        over: parameters of the gradient, as in `infoutil_paper`.
    """
    cut = rded(num_crops=num_crops)
    return Recipe(
        name="infoutil_clear",
        attribute=cut.attribute if mass is None else shapley_maps,
        crop=cut.crop if mass is None else partial(cropping.mass_boxes, mass=mass),
        score=partial(utility.gradient_norm, over=over),
        select=partial(coresets.coreset, choose=coresets.facility_location, among=among),
        tiles=tiles,
        embed=features.untrained_features,
        scorer="labeller",
    )


def infoutil_kernel(
    *,
    tiles: int = 1,
    among: int = 64,
    num_crops: int = 5,
    judges: int = 4000,
    over: Any = "all",
) -> Recipe:
    """Utility exactly, of a student that needs no training: a kernel machine's.

    Definition 3 asks what leaving an example out changes, and Theorem 1 bounds it for one step of
    a student. For kernel ridge regression on what an untrained network sees it is known in closed
    form, over the whole training (`infoutil_jax.method.kernel_student`). The crops of lowest
    gradient norm at the teacher that labels, of RDED's random-resized
    ones and the whole image, are a shortlist. Kept is from what such a student, taught by that
    teacher, learns most about the pool's whole images.

    Args:
        tiles: crops an image: 1 at 32 and 64 pixels, 4 at 128 and 224.
        among: images of a class that are on the shortlist, each with its best crop; four times as
            many as are needed where that is more.
        num_crops: random-resized crops cut from each image, beside the whole.
        judges: images of the pool, at most, on which that student is judged.
        over: parameters of the gradient, as in `infoutil_paper`.
    """
    cut = rded(num_crops=num_crops)
    return Recipe(
        name="infoutil_kernel",
        attribute=cut.attribute,
        crop=partial(cropping.and_whole_image_boxes, crop=cut.crop),
        score=partial(utility.gradient_norm, over=over),
        select=partial(kernel_student.most_useful, among=among, judges=judges),
        tiles=tiles,
        embed=features.student_features,
        scorer="labeller",
    )


def rded(*, tiles: int = 1, num_crops: int = 5, scale: tuple[float, float] = (0.08, 1.0)) -> Recipe:
    """RDED (Sun et al., CVPR 2024): random-resized crops, then the lowest teacher loss.

    A crop is scored zero-padded to the teacher's input size; ranks share images strided.

    Args:
        tiles: crops an image: 1 at 32 and 64 pixels, 4 at 128 and 224.
        num_crops: crops cut from each image.
        scale: range of a crop's share of the image's area.
    """
    return Recipe(
        name="rded",
        attribute=partial(attribution.uniform_maps, grid=1),
        crop=partial(cropping.random_resized_boxes, num_crops=num_crops, scale=scale),
        score=utility.cross_entropy,
        select=partial(selection.top_k, keep="lowest"),
        tiles=tiles,
        view="pad",
        order="strided",
    )


def random(*, tiles: int = 1) -> Recipe:
    """Whole images drawn at random: the baseline that soft labels make strong.

    Args:
        tiles: images that share a distilled image, each resized to a tile.
    """
    return Recipe(
        name="random",
        attribute=partial(attribution.uniform_maps, grid=1),
        crop=cropping.whole_image_boxes,
        score=utility.cross_entropy,
        select=selection.random_k,
        tiles=tiles,
    )


def forgetting(events: Any, *, tiles: int = 1, keep: Keep = "highest") -> Recipe:
    """The most forgotten whole images (Toneva et al., ICLR 2019, arXiv 1812.05159): a coreset.

    The scores that are recorded are the events. Any other number for each training image, of
    whatever origin, can take their place.

    Example:
        >>> recipe = forgetting(load_forgetting("teacher"))
        >>> distill(source, teacher, recipe, images_per_class=10, workdir="coreset")

    Args:
        events: of every training image, in their order: `load_forgetting(workdir)`, where the
            images that were never learnt rank as most forgotten.
        tiles: images that share a distilled image, each resized to a tile.
        keep: "highest" (the source), "lowest" or "middle"; ties break by example id.

    Raises:
        InputError: events that are not one number for each image.
    """
    values = np.array(events)
    if values.ndim != 1 or values.dtype.kind not in "buif":
        raise InputError(
            f"events have the shape {values.shape} and type {values.dtype}; give one number for "
            "each training image"
        )
    return Recipe(
        name="forgetting",
        attribute=partial(attribution.uniform_maps, grid=1),
        crop=cropping.whole_image_boxes,
        score=utility.cross_entropy,
        select=partial(selection.by_statistic, values=values, keep=keep),
        tiles=tiles,
    )


RECIPES: dict[str, Callable[..., Recipe]] = {
    "infoutil": infoutil,
    "infoutil_paper": infoutil_paper,
    "infoutil_clear": infoutil_clear,
    "infoutil_kernel": infoutil_kernel,
    "rded": rded,
    "random": random,
}
