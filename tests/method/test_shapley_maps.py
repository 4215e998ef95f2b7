"""What a recipe's arguments make of the maps, and the crops that come of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoutil_jax.errors import InputError
from infoutil_jax.method.attribution import patch_shapley
from infoutil_jax.method.cropping import shapley_boxes
from infoutil_jax.method.recipes import infoutil_paper
from infoutil_jax.method.shapley import coalition_design
from infoutil_jax.method.shapley_maps import shapley_maps

IMAGES = jax.random.normal(jax.random.key(3), (64, 8, 8, 1))
LABELS = jnp.arange(64) % 3
KEYS = jax.random.split(jax.random.key(0), 64)
VARIABLES = jax.random.normal(jax.random.key(1), (5, 5, 1, 3)) / 3


def predict(kernel, images):
    maps = jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jnp.tanh(maps).mean((1, 2))


def maps_of(recipe):
    return recipe.attribute(predict, VARIABLES, IMAGES, LABELS, KEYS)


@pytest.mark.parametrize("strategy", ["gaussian", "leverage", "kernel"])
def test_without_stopping_these_are_the_maps_of_the_design(strategy):
    design = coalition_design(16, 128, strategy=strategy, grid=4)
    expected = patch_shapley(predict, VARIABLES, IMAGES, LABELS, design, grid=4)
    recipe = infoutil_paper(strategy=strategy, budget=128, sure=np.inf)
    np.testing.assert_allclose(maps_of(recipe), expected, atol=1e-6)


def test_the_printed_rule_stops_nowhere():
    """It is KernelSHAP's estimator on 256 coalitions."""
    design = coalition_design(16, 256, strategy="kernel")
    expected = patch_shapley(predict, VARIABLES, IMAGES, LABELS, design, grid=4)
    np.testing.assert_allclose(maps_of(infoutil_paper()), expected, atol=1e-6)


def test_a_map_that_stops_gives_the_crop_of_one_that_does_not():
    """For nearly all images, under the recipe's default."""

    def boxes(maps):
        return shapley_boxes(KEYS, maps, (8, 8), num_crops=1)

    few, all_ = (
        maps_of(infoutil_paper(strategy="gaussian")),
        maps_of(infoutil_paper(strategy="gaussian", sure=np.inf)),
    )
    assert not np.allclose(few, all_, atol=1e-6)
    assert (boxes(few) == boxes(all_)).all((1, 2)).mean() >= 0.9


@pytest.mark.parametrize("batch_size", [2, 7, 64])
def test_stages_fit_the_batch(batch_size):
    """No more masked images are in flight at once, whatever the number."""
    most = []

    def watching(variables, images):
        most.append(len(images))
        return predict(variables, images)

    shapley_maps(
        *(watching, VARIABLES, IMAGES[:4], LABELS[:4]), budget=32, sure=1.0, batch_size=batch_size
    )
    assert max(most) <= batch_size


def test_a_small_budget_is_not_rounded_up_to_a_stage():
    """Two coalitions are asked for and two are evaluated, four images at once."""
    most = []

    def watching(variables, images):
        most.append(len(images))
        return predict(variables, images)

    shapley_maps(watching, VARIABLES, IMAGES[:4], LABELS[:4], budget=2, sure=1.0)
    assert max(most) == 2 * 4


def test_half_precision_is_near():
    exact, half = (
        maps_of(infoutil_paper(strategy="gaussian", map_dtype=d, sure=np.inf))
        for d in (None, "bfloat16")
    )
    assert half.dtype == exact.dtype
    error = np.sum((half - exact) ** 2) / np.sum(exact**2)
    assert 0 < error < 0.01


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sure": -1.0}, "sure is -1.0"),
        ({"window": 5, "strategy": "gaussian"}, "5x5 does not fit a map of 4x4"),
        ({"budget": 1, "strategy": "gaussian"}, "budget is 1"),
        ({"budget": 1, "strategy": "kernel"}, "needs at least 32"),
    ],
)
def test_bad_arguments_are_told_before_any_work(options, sentence):
    with pytest.raises(InputError, match=sentence):
        infoutil_paper(**options)
