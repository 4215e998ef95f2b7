"""InfoUtil's recipes, and RDED, whose protocol they follow."""

from __future__ import annotations

from dataclasses import replace

from infoutil_jax.method import cropping, features, scores, selection
from infoutil_jax.method.attribution import UniformMaps
from infoutil_jax.method.contracts import Choose, Selector
from infoutil_jax.method.recipes.recipe import Recipe
from infoutil_jax.method.shapley_maps import ShapleyConfig, ShapleyMaps

PRINTED = ShapleyConfig(strategy="kernel")
"""The paper's estimator: KernelSHAP. Of the number of coalitions it says nothing."""

HIGHEST = selection.TopK("highest")
"""What the paper keeps."""


LEAST_SIDE = 8
"""Pixels of a crop's side: fewer, enlarged to the size of an image, are a blur."""


def infoutil(
    *,
    tiles: int = 1,
    partition: bool = False,
    centred: bool = True,
    shortlist: int = selection.MostUseful.shortlist,
    num_crops: int = cropping.RandomResizedBoxes.num_crops,
    judges: int = selection.MostUseful.judges,
    wrt: scores.Wrt = "all",
) -> Recipe:
    """The recommended recipe: the rule of `infoutil_kernel`, which explains the other arguments.

    At 1 image a class the command line, and `RecipeConfig.build`, take four tiles and a partition.
    With hard labels it leads the best of random images and RDED by 7.8 points at 1 image a class,
    on the mean over six settings, and by 3.3 at 10, over five (95% intervals over them: 11.2 and
    1.5), and is nowhere behind random images by more than the interval (images held out to choose
    by; experiments/README.md). The teacher that labels also scores.

    Args:
        tiles: crops an image.
        partition: students take each tile for an image of its own.
        centred: soft labels are stored without each class's mean over the set
            (`distillation.labels.centred`).
        shortlist: as of `infoutil_kernel`.
        num_crops: likewise.
        judges: likewise.
        wrt: likewise.
    """
    rule = infoutil_kernel(
        tiles=tiles,
        shortlist=shortlist,
        num_crops=num_crops,
        judges=judges,
        wrt=wrt,
    )
    return replace(rule, name="infoutil", partition=partition, centred=centred)


def infoutil_paper(
    *,
    tiles: int = 1,
    shapley: ShapleyConfig = PRINTED,
    num_crops: int = cropping.ShapleyBoxes.num_crops,
    side: float | None = None,
    alpha: float = cropping.ShapleyBoxes.alpha,
    wrt: scores.Wrt = "all",
    select: Selector | Choose = HIGHEST,
) -> Recipe:
    """InfoUtil as printed (ICLR 2026, Algorithm 1): Shapley crops, then the largest gradient norms.

    The defaults are the paper's, KernelSHAP included. Where the paper is silent, the arguments are
    the open questions. `shapley=ShapleyConfig()` finds nearly the same windows from far
    fewer coalitions.

    Args:
        tiles: crops an image: 1 at 32 and 64 pixels, 4 at 128 and 224.
        shapley: how the maps are estimated, and the window that is cut out.
        num_crops: crops cut from each image; all but the last with noise.
        side: side of the crop as a share of the image's; None is that of the window.
        alpha: standard deviation of the noise, in standard deviations of the pooled map.
        wrt: parameters that the gradient is over, as in `scores.GradientNorm`.
        select: the highest norms (the paper), or others.

    Raises:
        InputError: an argument out of range, or tiles that make no square.
    """
    return Recipe(
        name="infoutil_paper",
        attribute=ShapleyMaps(shapley),
        crop=cropping.ShapleyBoxes(
            num_crops=num_crops, window=shapley.window, side=side, alpha=alpha
        ),
        score=scores.GradientNorm(wrt=wrt),
        select=select,
        tiles=tiles,
    )


def infoutil_clear(
    *,
    tiles: int = 1,
    shortlist: int = selection.Shortlist.times,
    num_crops: int = cropping.RandomResizedBoxes.num_crops,
    mass: float | None = None,
    wrt: scores.Wrt = "all",
) -> Recipe:
    """Clear crops that differ: medoids, as a new student sees them, of the lowest gradient norms.

    It answers InfoUtil's two questions by what measurements say (experiments/README.md). The most
    useful crops have the lowest gradient norm at the labelling teacher: it can teach what it is
    sure of. Informative, then, is what brings that norm down: the best of an image's
    random-resized crops, as in RDED, or the smallest window that keeps a share of its Shapley mass.
    From a shortlist, greedy facility location over the features of an untrained network takes the
    crops that stand for the others.

    Args:
        tiles: crops an image: 1 at 32 and 64 pixels, 4 at 128 and 224.
        shortlist: how many times as many crops as are needed are on the shortlist.
        num_crops: random-resized crops cut from each image, of which the best competes.
        mass: share of the Shapley mass that the one window of an image must keep; None for
            random-resized crops.
        wrt: parameters that the gradient is over, as in `scores.GradientNorm`.
    """
    return Recipe(
        name="infoutil_clear",
        # Windows of all sizes compete by what the whole map says: no game stops early.
        attribute=UniformMaps() if mass is None else ShapleyMaps(ShapleyConfig(confidence=1.0)),
        crop=cropping.RandomResizedBoxes(num_crops) if mass is None else cropping.MassBoxes(mass),
        score=scores.GradientNorm(wrt=wrt),
        select=selection.Chain(
            selection.Shortlist(shortlist, keep="lowest"),
            selection.Coreset(selection.facility_location),
        ),
        tiles=tiles,
        embed=features.UntrainedFeatures(),
        scorer="labeller",
    )


def infoutil_kernel(
    *,
    tiles: int = 1,
    shortlist: int = selection.MostUseful.shortlist,
    num_crops: int = cropping.RandomResizedBoxes.num_crops,
    judges: int = selection.MostUseful.judges,
    wrt: scores.Wrt = "all",
) -> Recipe:
    """Exact utility, of a student that needs no training: a kernel machine.

    Definition 3 asks what leaving an example out changes, and Theorem 1 bounds it for one step of
    a student. For kernel ridge regression on what an untrained network sees it is known in closed
    form, over the whole training (`selection.MostUseful`). The shortlist holds the crops of lowest
    gradient norm at the teacher that labels, among the whole image and RDED's random-resized crops
    of at least 8 pixels a side. From it, it keeps the crops from which such a student, taught by
    that teacher, learns most about the pool's whole images.

    Args:
        tiles: crops an image: 1 at 32 and 64 pixels, 4 at 128 and 224.
        shortlist: images of a class on the shortlist, each with its best crop; four times as many
            as are needed where that is more.
        num_crops: random-resized crops cut from each image, beside the whole.
        judges: images of the pool, at most, on which that student is judged.
        wrt: parameters that the gradient is over, as in `scores.GradientNorm`.
    """
    return Recipe(
        name="infoutil_kernel",
        attribute=UniformMaps(),
        crop=cropping.Union(
            cropping.RandomResizedBoxes(num_crops, least_side=LEAST_SIDE), cropping.WholeImage()
        ),
        score=scores.GradientNorm(wrt=wrt),
        select=selection.MostUseful(shortlist=shortlist, judges=judges),
        tiles=tiles,
        embed=features.StudentFeatures(),
        scorer="labeller",
    )


def rded(
    *,
    tiles: int = 1,
    num_crops: int = cropping.RandomResizedBoxes.num_crops,
    scale: tuple[float, float] = cropping.RandomResizedBoxes.scale,
) -> Recipe:
    """RDED (Sun et al., CVPR 2024): random-resized crops, then the lowest teacher loss.

    A crop is scored zero-padded to the teacher's input size; ranks share images strided.

    Args:
        tiles: crops an image: 1 at 32 and 64 pixels, 4 at 128 and 224.
        num_crops: crops cut from each image.
        scale: range of a crop's share of the image's area.
    """
    return Recipe(
        name="rded",
        attribute=UniformMaps(),
        crop=cropping.RandomResizedBoxes(num_crops, scale),
        score=scores.cross_entropy,
        select=selection.TopK("lowest"),
        tiles=tiles,
        fit="pad",
        tile_order="strided",
    )
