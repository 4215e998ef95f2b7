"""What can be chosen of a recipe and of a run, with defaults by the source (host).

Plain dataclasses: the command line is made from them, experiments and notebooks fill them in.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from infoutil_jax import ranges
from infoutil_jax.app.flags import Group, say_defaults
from infoutil_jax.data.sources import Source
from infoutil_jax.errors import InputError
from infoutil_jax.method.attribution import BASELINES
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.method.selection import Keep
from infoutil_jax.method.shapley_maps import Strategy
from infoutil_jax.refine.recipes import RECIPES
from infoutil_jax.training.config import StudentConfig, TeacherConfig

LEAST_TILED = 16
"""Pixels of the short side from which on images are tiled unasked: tiles must show something."""
TILES = 4
"""Where there are several."""
REFINED_TILES = 16
"""Where the only image of a class is refined and its short side has `LEAST_REFINED` pixels, so that
a tile has 8: fewer were not measured (docs/refine.md)."""
LEAST_REFINED = 32
RareClasses = Literal["refuse", "cap", "own", "fill", "proportional"]
Stage = Literal["auto", "early", "converged"]


def _in_lines(factories: Mapping[str, Callable[..., Recipe]]) -> str:
    """What each recipe is, by the first line of its documentation."""
    first = {name: (one.__doc__ or "").splitlines()[0] for name, one in factories.items()}
    return "\n".join(f"{name}: {line}" for name, line in first.items())


@dataclass(frozen=True)
class RecipeConfig:
    """The distillation method; options that a recipe does not have stay unset."""

    recipe: Annotated[str, tyro.conf.arg(help=_in_lines(RECIPES))] = "infoutil"
    tiles: Annotated[
        int | None,
        tyro.conf.arg(
            help_behavior_hint=(
                "(by default 1 up to 64 pixels, 4 above; of infoutil at 1 image a class and of "
                "infoutil_refined 4, of that at 1 image a class 16)"
            ),
            metavar="INT",
        ),
    ] = None
    """Crops an image: 1, 4, 9 or 16."""
    partition: Annotated[
        bool | None,
        tyro.conf.arg(
            help_behavior_hint="(by default yes of infoutil at 1 image a class)",
            metavar="{True,False}",
        ),
    ] = None
    """Have students take each tile for an image of its own, enlarged."""
    centred: Annotated[
        bool | None,
        tyro.conf.arg(help_behavior_hint="(by default yes of infoutil)", metavar="{True,False}"),
    ] = None
    """Take from soft labels, as they are stored, the mean of each class over the set."""
    grid: int | None = None
    """Patches a side."""
    budget: int | None = None
    """Coalitions evaluated for each image that stays in doubt."""
    strategy: Strategy | None = None
    """Shapley estimator."""
    confidence: float | None = None
    """Probability that the best window is the right one for an image to be done; 1: all take the
    whole budget."""
    map_dtype: Literal["float32", "bfloat16"] | None = None
    """Precision of the coalitions' forward passes."""
    output: Literal["logit", "probability", "log_probability"] | None = None
    """Value of a coalition."""
    missing: Literal["mean", "blur", "dark"] | None = None
    """What an absent patch shows: the mean colour, the image blurred, or its lowest values."""
    side: float | None = None
    """Side of the crop as a share of the image's."""
    num_crops: int | None = None
    """Crops cut from each image."""
    alpha: float | None = None
    """Standard deviation of the noise on the pooled map."""
    keep: Keep | None = None
    """Which scores of a class stay: the highest, the lowest, or those in the middle."""
    max_quantile: float | None = None
    """Quantile of a class's scores above which a crop does not take part."""
    crops_per_image: Literal["best", "all"] | None = None
    """Only an image's best crop takes part, or all of them."""
    shortlist: int | None = None
    """How many times as many as are needed are chosen from; of infoutil and infoutil_kernel, at
    least how many images of a class."""

    def __post_init__(self) -> None:
        ranges.check(self)

    def check(self) -> None:
        """Checks what needs no source: names, which may be misspelt.

        Raises:
            InputError: an unknown recipe, or an option that it does not have.
        """
        if self.recipe not in RECIPES:
            near = difflib.get_close_matches(self.recipe, RECIPES, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise InputError(f"unknown recipe {self.recipe!r}{hint}: choose {', '.join(RECIPES)}.")
        factory = RECIPES[self.recipe]
        foreign = [name for name in self._chosen() if _place_of(name, factory) is None]
        if foreign:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in foreign)
            raise InputError(f"recipe {self.recipe!r} has no option {flags}.")

    def _chosen(self) -> dict[str, Any]:
        """The recipe's options that are set."""
        options = {one.name: getattr(self, one.name) for one in fields(self)}
        return {
            name: value for name, value in options.items() if name != "recipe" and value is not None
        }

    def build(
        self, source: Source, images_per_class: int | None, *, arriving: bool = False
    ) -> Recipe:
        """The recipe for a budget of `source`; None is the default budget.

        Args:
            source: the images.
            images_per_class: the budget.
            arriving: the source is a part of a stream, whose recipe is the same for all parts,
                however few images of a class are in one.

        Raises:
            InputError: as `check`.
        """
        self.check()
        factory = RECIPES[self.recipe]
        counts = np.bincount(source.train.labels)
        fewest = TILES if arriving else int(counts[counts > 0].min())
        arguments = tiling(
            factory, source.image_size, images_per_class, fewest=fewest, tiles=self.tiles
        )
        for name, value in self._chosen().items():
            place = _place_of(name, factory)
            value = BASELINES[value] if name == "missing" else value
            if place == name:
                arguments[name] = value
            elif place is not None:
                whole = arguments.get(place, inspect.signature(factory).parameters[place].default)
                arguments[place] = replace(whole, **{PARTS[place][name]: value})
        return factory(**arguments)


def tiling(
    factory: Callable[..., Recipe],
    image_size: tuple[int, int],
    images_per_class: int | None,
    *,
    fewest: int,
    tiles: int | None = None,
) -> dict[str, Any]:
    """The tiles of a recipe's images, and whether students take them for images.

    The paper's: 1 up to 64 pixels, 4 above. At 1 image a class a recipe whose tiles can be images
    of their own has four of these (experiments/README.md), where every class fills them, and one
    that refines them sixteen (docs/refine.md).

    Args:
        factory: makes the recipe.
        image_size: height and width, pixels.
        images_per_class: the budget; None for the default one.
        fewest: images of a class, of the classes that have any.
        tiles: those that are asked for; None for none.
    """
    known = inspect.signature(factory).parameters
    parted = "partition" in known and images_per_class == 1
    if tiles is None:
        side = min(image_size)
        several = side > 64 or (parted and fewest >= TILES)
        tiles = TILES if several else known["tiles"].default
        many = "refiner" in known and images_per_class == 1 and fewest >= REFINED_TILES
        if many and side >= LEAST_REFINED and not any(pixels % 4 for pixels in image_size):
            tiles = REFINED_TILES
        elif side < LEAST_TILED or any(pixels % 2 for pixels in image_size):
            tiles = 1
    return {"tiles": tiles} | ({"partition": True} if parted and tiles > 1 else {})


say_defaults(RecipeConfig, "(by default the recipe's)")

# Options that are fields of an argument of a recipe, by that argument's name.
PARTS = {
    "shapley": {
        **{name: name for name in ("grid", "budget", "strategy", "confidence", "output")},
        "map_dtype": "dtype",
        "missing": "baseline",
    },
    "select": {name: name for name in ("keep", "max_quantile", "crops_per_image")},
}


def _place_of(option: str, factory: Any) -> str | None:
    """The argument of a recipe's function that an option is, or is part of, or None."""
    known = inspect.signature(factory).parameters
    if option in known:
        return option
    return next((part for part, names in PARTS.items() if option in names and part in known), None)


@dataclass(frozen=True)
class Stages:
    """Which of a source's teachers does what."""

    scoring_stage: Stage | None = None
    """The teacher that attributes and scores; by default the one that labels, where the recipe asks
    for that (infoutil), else the converged one."""
    label_stage: Stage = "auto"
    """The teacher that labels; auto is early up to 10 images a class, converged above."""

    def scored(self, recipe: Recipe) -> Recipe:
        """The recipe: a scoring stage that is chosen takes the place of its own rule."""
        return replace(recipe, scorer="teacher") if self.scoring_stage else recipe


@dataclass(frozen=True)
class RunConfig:
    """All that can be chosen from raw images to accuracies."""

    images_per_class: int | None = None
    """The budget; by default 10, or as many as the smallest class fills."""
    rare_classes: RareClasses = "refuse"
    """Where a class has too few images for the budget that is asked for: refuse; cap the budget for
    all classes; keep its own number for that class alone; or fill the class with other crops of the
    images that it has. Or share the total out in proportion to the classes' images, in any case."""
    licence: str | None = None
    """Under which the set may be used, such as cc-by-4.0: for its manifest and README.md."""
    baseline: bool = True
    """Also train students on as many random images, to compare with."""
    seed: int = 0
    """Of every random draw."""
    stages: Annotated[Stages, Group] = Stages()
    recipe: Annotated[RecipeConfig, Group] = RecipeConfig()
    teacher: TeacherConfig = TeacherConfig()
    student: StudentConfig = StudentConfig()

    def __post_init__(self) -> None:
        ranges.check(self)


@dataclass(frozen=True)
class CompareConfig:
    """What recipes have in common when they are compared."""

    images_per_class: int | None = None
    """The budget; by default 10, or as many as the smallest class fills."""
    rare_classes: RareClasses = "refuse"
    """Where a class has too few images for the budget that is asked for: refuse; cap the budget for
    all classes; keep its own number for that class alone; or fill the class with other crops of the
    images that it has. Or share the total out in proportion to the classes' images, in any case."""
    tiles: Annotated[
        int | None,
        tyro.conf.arg(help_behavior_hint="(by default 1 up to 64 pixels, 4 above)", metavar="INT"),
    ] = None
    """Crops an image: 1, 4 or 9."""
    seed: int = 0
    """Of the teacher."""
    stages: Annotated[Stages, Group] = Stages()
    teacher: TeacherConfig = TeacherConfig()
    student: StudentConfig = StudentConfig()
    """Seed s draws the set s of each recipe and trains one student on it. All learn by one
    protocol, by default RDED's, whatever a set asks for."""

    def __post_init__(self) -> None:
        ranges.check(self)
