"""Recipes: distillation methods as compositions of parts, one short function each.

Here lives `Recipe`, and every method that can be chosen by name. A recipe of your own needs no
place here: `Recipe(...)`, or `dataclasses.replace` of one of these.
"""

from collections.abc import Callable

from infoutil_jax.method.recipes.baselines import (
    ccs,
    el2n,
    forgetting,
    grad_cam_crops,
    herding,
    k_center,
    k_means,
    no_noise,
    random,
    random_crop_gradient_norm,
    shapley_crop_loss,
)
from infoutil_jax.method.recipes.ours import (
    infoutil,
    infoutil_clear,
    infoutil_kernel,
    infoutil_paper,
    rded,
)
from infoutil_jax.method.recipes.recipe import Recipe

RECIPES: dict[str, Callable[..., Recipe]] = {
    "infoutil": infoutil,
    "infoutil_paper": infoutil_paper,
    "infoutil_clear": infoutil_clear,
    "infoutil_kernel": infoutil_kernel,
    "rded": rded,
    "random": random,
    "herding": herding,
    "k_means": k_means,
    "k_center": k_center,
    "el2n": el2n,
    "ccs": ccs,
    "grad_cam": grad_cam_crops,
    "random_crop_gradient_norm": random_crop_gradient_norm,
    "shapley_crop_loss": shapley_crop_loss,
    "no_noise": no_noise,
}
"""Those that need nothing but options (`forgetting` needs events)."""

__all__ = [
    "RECIPES",
    "Recipe",
    "ccs",
    "el2n",
    "forgetting",
    "grad_cam_crops",
    "herding",
    "infoutil",
    "infoutil_clear",
    "infoutil_kernel",
    "infoutil_paper",
    "k_center",
    "k_means",
    "no_noise",
    "random",
    "random_crop_gradient_norm",
    "rded",
    "shapley_crop_loss",
]
