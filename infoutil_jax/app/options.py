"""What can be chosen of a recipe and of a run, with defaults by the source (host).

Plain dataclasses: the command line is made from them, experiments and notebooks fill them in.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import tyro

from infoutil_jax.data.sources import Source
from infoutil_jax.errors import InputError
from infoutil_jax.method.baselines import BASELINES
from infoutil_jax.method.recipes import RECIPES, Recipe
from infoutil_jax.training.config import StudentConfig, TeacherConfig

Stage = Literal["auto", "early", "converged"]

METHODS = RECIPES | BASELINES
Flat = tyro.conf.arg(name="")  # flags of its fields without a prefix


@dataclass(frozen=True)
class RecipeOptions:
    """The distillation method; what a recipe does not know must keep its default."""

    recipe: str = "infoutil"
    """infoutil, infoutil_paper, infoutil_clear, infoutil_kernel, rded, random, herding, k_means,
    k_center, grad_cam, no_noise, random_crop_gradient_norm or shapley_crop_loss."""
    tiles: int | None = None
    """Crops an image: 1, 4 or 9; by default 1 up to 64 pixels and 4 above."""
    grid: int | None = None
    """Patches a side."""
    budget: int | None = None
    """Coalitions evaluated for each image that stays in doubt."""
    strategy: Literal["gaussian", "leverage", "kernel"] | None = None
    """Shapley estimator."""
    sure: float | None = None
    """Standard deviations that the best window must be ahead for an image to be done; inf: the
    budget is evaluated for all."""
    map_dtype: Literal["float32", "bfloat16"] | None = None
    """Precision of the coalitions' forward passes; by default the teacher's."""
    output: Literal["logit", "probability", "log_probability"] | None = None
    """Value of a coalition."""
    side: float | None = None
    """Side of the crop as a fraction of the image's."""
    num_crops: int | None = None
    """Crops cut from each image."""
    alpha: float | None = None
    """Standard deviation of the noise on the pooled map."""
    keep: Literal["highest", "lowest", "middle"] | None = None
    """Which scores stay."""
    cap: float | None = None
    """Quantile of a class's scores above which a crop is not eligible."""
    compete: Literal["best", "all"] | None = None
    """An image's best crop competes, or all of them."""
    among: int | None = None
    """How many times as many as are needed are chosen from; of infoutil and infoutil_kernel, at
    least how many images of a class."""

    def build(self, source: Source) -> Recipe:
        """The recipe for `source`.

        Raises:
            InputError: unknown recipe, or an option that it does not have.
        """
        if self.recipe not in METHODS:
            raise InputError(f"unknown recipe {self.recipe!r}: choose {', '.join(METHODS)}.")
        chosen = {k: v for k, v in asdict(self).items() if k != "recipe" and v is not None}
        even = not any(pixels % 2 for pixels in source.image_size)
        chosen.setdefault("tiles", 4 if min(source.image_size) > 64 and even else 1)
        try:
            return METHODS[self.recipe](**chosen)
        except TypeError:
            known = METHODS[self.recipe].__kwdefaults__ or {}
            foreign = ", ".join(
                f"--{name.replace('_', '-')}" for name in chosen if name not in known
            )
            raise InputError(f"recipe {self.recipe!r} has no option {foreign}.") from None


@dataclass(frozen=True)
class RunConfig:
    """All that can be chosen from raw images to accuracies."""

    images_per_class: int | None = None
    """The budget; by default 10, or as many as the smallest class fills."""
    seed: int = 0
    """Of every random draw."""
    scoring_stage: Stage | None = None
    """The teacher that attributes and scores; by default the one that labels, where the recipe asks
    for that (infoutil), else the converged one."""
    label_stage: Stage = "auto"
    """The teacher that labels; auto is early up to 10 images a class, converged above."""
    recipe: Annotated[RecipeOptions, Flat] = RecipeOptions()
    teacher: TeacherConfig = TeacherConfig()
    student: StudentConfig = StudentConfig()
