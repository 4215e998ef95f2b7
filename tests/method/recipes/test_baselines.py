"""Baselines are InfoUtil or whole images with one part exchanged, and nothing else changed."""

from dataclasses import fields

import pytest

from infoutil_jax.method import attribution, recipes
from infoutil_jax.method.cropping import ShapleyBoxes
from infoutil_jax.method.recipes import infoutil_paper, rded
from infoutil_jax.method.shapley_maps import ShapleyConfig


def exchanged(recipe, base):
    """Names of the parts in which two recipes differ."""
    names = [field.name for field in fields(recipe) if field.name != "name"]
    return {name for name in names if getattr(recipe, name) != getattr(base, name)}


@pytest.mark.parametrize(
    ("recipe", "parts"),
    [
        (recipes.grad_cam_crops, {"attribute"}),
        (recipes.random_crop_gradient_norm, {"attribute", "crop"}),
        (recipes.shapley_crop_loss, {"score", "select"}),
        (recipes.no_noise, {"crop"}),
    ],
)
def test_an_ablation_exchanges_its_parts_only(recipe, parts):
    base = infoutil_paper(tiles=4)
    if "attribute" not in parts:  # the estimator that needs fewer coalitions
        base = infoutil_paper(tiles=4, shapley=ShapleyConfig())
    assert exchanged(recipe(tiles=4), base) == parts


def test_ablations_take_the_parts_from_the_methods_themselves():
    mixed = recipes.random_crop_gradient_norm()
    assert mixed.crop == rded().crop and mixed.score == infoutil_paper().score
    assert recipes.shapley_crop_loss().select == rded().select
    assert recipes.shapley_crop_loss().score is rded().score


def test_ablations_exchange_parts_for_what_their_tables_say():
    """Grad-CAM on the same grid (Table 8); alpha 0, where one crop is all that there is (7)."""
    assert recipes.grad_cam_crops().attribute == attribution.GradCam(grid=4)
    assert recipes.no_noise().crop == ShapleyBoxes(num_crops=1, alpha=0.0)
