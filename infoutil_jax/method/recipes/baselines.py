"""What the paper compares with: coresets of whole images, and InfoUtil with one part exchanged.

Coresets (Tables 9, 10) choose among teacher features, as DeepCore (Guo et al., 2022) does.
Ablations (Tables 6 to 8) share every part but one with the methods that they take apart; Shapley
values come from the estimator that needs fewer coalitions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from infoutil_jax.errors import InputError
from infoutil_jax.method import cropping, features, scores, selection
from infoutil_jax.method.attribution import GradCam, UniformMaps
from infoutil_jax.method.contracts import Choose, Embed, Score, Selector
from infoutil_jax.method.recipes.ours import infoutil_paper, rded
from infoutil_jax.method.recipes.recipe import Recipe
from infoutil_jax.method.shapley_maps import ShapleyConfig


def _whole_images(
    name: str,
    select: Selector | Choose,
    tiles: int,
    *,
    score: Score = scores.cross_entropy,
    embed: Embed | None = None,
) -> Recipe:
    """A method that crops nothing and chooses."""
    crop, maps = cropping.WholeImage(), UniformMaps()
    return Recipe(name, maps, crop, score, select, tiles=tiles, embed=embed)


def random(*, tiles: int = 1) -> Recipe:
    """Whole images drawn at random: the baseline that soft labels make strong.

    Args:
        tiles: images that share a distilled image, each resized to a tile.
    """
    return _whole_images("random", selection.RandomK(), tiles)


def herding(*, tiles: int = 1) -> Recipe:
    """Whole images whose mean feature is nearest to the class's (Welling 2009; iCaRL)."""
    select = selection.Coreset(selection.herding)
    return _whole_images("herding", select, tiles, embed=features.teacher_features)


def k_means(*, tiles: int = 1) -> Recipe:
    """The whole images nearest to the class's k-means centres."""
    select = selection.Coreset(selection.k_means)
    return _whole_images("k_means", select, tiles, embed=features.teacher_features)


def k_center(*, tiles: int = 1) -> Recipe:
    """Whole images that leave no other of the class far away (Sener & Savarese, ICLR 2018)."""
    select = selection.Coreset(selection.k_center)
    return _whole_images("k_center", select, tiles, embed=features.teacher_features)


def el2n(*, tiles: int = 1, keep: selection.Keep = "highest") -> Recipe:
    """Whole images by the length of their error vector (Paul et al., NeurIPS 2021): a coreset.

    Args:
        tiles: images that share a distilled image, each resized to a tile.
        keep: "highest" (the source), "lowest" or "middle".
    """
    return _whole_images("el2n", selection.TopK(keep), tiles, score=scores.el2n)


def ccs(*, tiles: int = 1, prune: float = selection.Stratified.prune) -> Recipe:
    """Whole images of every difficulty but the hardest (CCS; Zheng et al., ICLR 2023): a coreset.

    Difficult is what `el2n` finds so.

    Args:
        tiles: images that share a distilled image, each resized to a tile.
        prune: share of a class that is left out, the hardest.
    """
    return _whole_images("ccs", selection.Stratified(prune), tiles, score=scores.el2n)


def forgetting(events: Any, *, tiles: int = 1, keep: selection.Keep = "highest") -> Recipe:
    """The most forgotten whole images (Toneva et al., ICLR 2019, arXiv 1812.05159): a coreset.

    The scores that are recorded are the events. Any other number for each training image, of
    whatever origin, can take their place.

    Examples:
        >>> recipe = forgetting(load_forgetting("teacher"))  # doctest: +SKIP

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
    return _whole_images("forgetting", selection.ByStatistic(values, keep), tiles)


OURS = ShapleyConfig()


def grad_cam_crops(*, tiles: int = 1) -> Recipe:
    """The printed rule with Grad-CAM in the place of Shapley values (Table 8)."""
    return replace(infoutil_paper(tiles=tiles), name="grad_cam", attribute=GradCam(grid=4))


def random_crop_gradient_norm(*, tiles: int = 1) -> Recipe:
    """RDED's crops, scored and chosen as InfoUtil's (Table 6, second row)."""
    ours, cut = infoutil_paper(tiles=tiles), rded()
    name = "random_crop_gradient_norm"
    return replace(ours, name=name, attribute=cut.attribute, crop=cut.crop)


def shapley_crop_loss(*, tiles: int = 1) -> Recipe:
    """InfoUtil's crops, scored and chosen as RDED's: the ablation that Table 6 leaves out."""
    ours, theirs = infoutil_paper(tiles=tiles, shapley=OURS), rded()
    return replace(ours, name="shapley_crop_loss", score=theirs.score, select=theirs.select)


def no_noise(*, tiles: int = 1) -> Recipe:
    """The printed rule with alpha 0 (Table 7): one crop an image, as all would be the same."""
    ours = infoutil_paper(tiles=tiles, shapley=OURS, num_crops=1, alpha=0.0)
    return replace(ours, name="no_noise")
