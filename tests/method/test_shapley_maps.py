"""What a recipe's arguments make of the maps, and the crops that come of them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoutil_jax.errors import InputError
from infoutil_jax.method.attribution import patch_shapley
from infoutil_jax.method.cropping import ShapleyBoxes
from infoutil_jax.method.patch_game import patch_game
from infoutil_jax.method.recipes import infoutil_paper
from infoutil_jax.method.shapley_maps import ShapleyConfig, ShapleyMaps
from infoutil_jax.shapley import coalition_design, fitted_prior, pilot_coalitions

IMAGES = jax.random.normal(jax.random.key(3), (64, 8, 8, 1))
LABELS = jnp.arange(64) % 3
KEYS = jax.random.split(jax.random.key(0), 64)
VARIABLES = jax.random.normal(jax.random.key(1), (5, 5, 1, 3)) / 3


def predict(kernel, images):
    maps = jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jnp.tanh(maps).mean((1, 2))


def maps_of(**options):
    return ShapleyMaps(ShapleyConfig(**options))(predict, VARIABLES, IMAGES, LABELS, KEYS)


@pytest.mark.parametrize("strategy", ["gaussian", "leverage", "kernel"])
def test_without_stopping_these_are_the_maps_of_the_design(strategy):
    design = coalition_design(16, 128, strategy=strategy, grid=4)
    expected = patch_shapley(predict, VARIABLES, IMAGES, LABELS, design, grid=4)
    maps = maps_of(strategy=strategy, budget=128, confidence=1.0)
    np.testing.assert_allclose(maps, expected, atol=1e-6)


def test_the_printed_rule_stops_nowhere():
    """It is KernelSHAP's estimator on 256 coalitions."""
    design = coalition_design(16, 256, strategy="kernel")
    expected = patch_shapley(predict, VARIABLES, IMAGES, LABELS, design, grid=4)
    maps = infoutil_paper().attribute(predict, VARIABLES, IMAGES, LABELS, KEYS)
    np.testing.assert_allclose(maps, expected, atol=1e-6)


def test_a_map_that_stops_gives_the_crop_of_one_that_does_not():
    """For nearly all images, under the recipe's default."""

    def boxes(maps):
        return ShapleyBoxes(num_crops=1)(KEYS, maps, (8, 8))

    few, all_ = maps_of(), maps_of(confidence=1.0)
    assert not np.allclose(few, all_, atol=1e-6)
    assert (boxes(few) == boxes(all_)).all((1, 2)).mean() >= 0.9


@pytest.mark.parametrize(
    ("grid", "batch_size", "in_flight"), [(4, 1, 2), (4, 7, 4), (3, 64, 64), (4, 64, 64)]
)
def test_stages_fit_the_batch(grid, batch_size, in_flight):
    """As many masked images are in flight at once as whole stages have room; a pair at least."""
    most = []

    def watching(variables, images):
        most.append(len(images))
        return predict(variables, images)

    config = ShapleyConfig(grid=grid, budget=32, confidence=0.9, batch_size=batch_size)
    ShapleyMaps(config)(watching, VARIABLES, IMAGES[:16], LABELS[:16])
    assert max(most) == in_flight


@pytest.mark.parametrize(
    ("budget", "batch_size", "step"),
    [(256, 256, 4), (2, 256, 2), (3, 256, 2), (256, 5, 4), (256, 3, 2), (256, 1, 2)],
)
def test_a_stage_has_4_coalitions_unless_budget_or_batch_has_fewer(budget, batch_size, step):
    """A coalition comes with its complement, so that a stage has two at least."""
    design = ShapleyConfig(budget=budget, batch_size=batch_size).staged_design()
    assert 2 * design.half == step


def test_the_documented_settings_are_defaults():
    """A 4x4 grid and the mean colour, as in the paper; at most 256 coalitions, 32 pilot images."""
    documented = ShapleyConfig(
        grid=4, budget=256, strategy="gaussian", output="logit", baseline=0.0, seed=0, pilot=32
    )
    assert ShapleyConfig() == documented and documented.window is None is documented.dtype
    assert ShapleyMaps().pilot == 32


def test_whoever_wants_to_be_certain_gets_one_design_for_all():
    assert ShapleyConfig().staged and not ShapleyConfig(confidence=1.0).staged
    design = ShapleyConfig(budget=64).design()
    expected = patch_shapley(predict, VARIABLES, IMAGES, LABELS, design, grid=4)
    np.testing.assert_allclose(maps_of(budget=64, confidence=1.0), expected, atol=1e-5)


@pytest.mark.parametrize("confidence", [0.999999, 1.0])
def test_a_long_grid_has_long_maps(confidence):
    """Every coalition is asked for, so that stages end at exact values."""
    maps = maps_of(grid=(1, 3), budget=8, confidence=confidence)
    design = coalition_design(3, 8)
    expected = patch_shapley(predict, VARIABLES, IMAGES, LABELS, design, grid=(1, 3))
    assert maps.shape == (64, 1, 3)
    np.testing.assert_allclose(maps, expected, atol=1e-4)


def test_a_small_budget_is_not_rounded_up_to_a_stage():
    """Two coalitions are asked for and two are evaluated, four images at once."""
    most = []

    def watching(variables, images):
        most.append(len(images))
        return predict(variables, images)

    ShapleyMaps(ShapleyConfig(budget=2, confidence=0.9))(
        watching, VARIABLES, IMAGES[:4], LABELS[:4]
    )
    assert max(most) == 2 * 4


def test_double_precision_elsewhere_changes_nothing():
    """A program that has turned on JAX's 64 bits gets the maps that it got before."""

    def fitted_maps():
        maps = ShapleyMaps().fitted(predict, VARIABLES, IMAGES[:8], None)
        return maps(predict, VARIABLES, IMAGES[:8], None)

    expected = fitted_maps()
    with jax.enable_x64(True):
        maps = fitted_maps()
    assert maps.dtype == expected.dtype
    np.testing.assert_allclose(maps, expected, atol=1e-5)


def test_half_precision_is_near():
    exact, half = (maps_of(dtype=dtype, confidence=1.0) for dtype in (None, "bfloat16"))
    assert half.dtype == exact.dtype
    error = np.sum((half - exact) ** 2) / np.sum(exact**2)
    assert 0 < error < 0.01


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"confidence": -1.0}, "confidence is -1.0"),
        ({"budget": 1}, "budget is 1"),
        ({"output": "loss"}, "unknown output 'loss'"),
        ({"baseline": np.zeros((5, 13))}, "give a function that returns it"),
        ({"budget": 1, "strategy": "kernel"}, "needs at least 32"),
    ],
)
def test_bad_arguments_are_told_before_any_work(options, sentence):
    with pytest.raises(InputError, match=sentence):
        ShapleyConfig(**options)


def test_a_baseline_of_64_numbers_is_part_of_the_config():
    assert ShapleyConfig(baseline=np.zeros((8, 8, 1))).baseline == (((0.0,),) * 8,) * 8


def test_equal_configs_share_one_design_and_one_key():
    one, other = (ShapleyConfig(budget=64, baseline=np.array([0.5])) for _ in range(2))
    assert one == other and hash(one) == hash(other) and one.baseline == (0.5,)
    assert one.staged_design() is other.staged_design()


def whole_image(variables, images):
    """A network that divides by what it sees of the whole image, as group normalisation does."""
    maps = jax.lax.conv_general_dilated(
        images, variables, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    scale = jnp.sqrt(jnp.square(maps).mean((1, 2, 3), keepdims=True) + 0.01)
    return (jax.nn.relu(maps / scale) ** 2).mean((1, 2)) * 10


def test_maps_that_are_fitted_to_a_teacher_err_less_on_images_they_were_not_fitted_to():
    maps = ShapleyMaps(ShapleyConfig(budget=64, confidence=1.0))
    assert maps.pilot == 32
    fitted = maps.fitted(whole_image, VARIABLES, IMAGES[:32], LABELS[:32])
    assert fitted.pilot == 0 and fitted.config == maps.config and hash(fitted)

    def of(one, images=IMAGES[32:48], labels=LABELS[32:48]):
        return one(whole_image, VARIABLES, images, labels, KEYS[:16])

    right = of(ShapleyMaps(ShapleyConfig(budget=4096, confidence=1.0)))
    errors = [float(jnp.square(of(one) - right).sum()) for one in (fitted, maps)]
    assert errors[0] < 0.8 * errors[1]


def test_what_is_fitted_is_how_much_more_coalitions_are_worth_than_their_complements():
    """On a long grid, where four pairs are all that there are; of each image's largest logit."""
    config = ShapleyConfig(grid=(1, 3))
    fitted = ShapleyMaps(config).fitted(whole_image, VARIABLES, IMAGES[:4], None)
    masks = pilot_coalitions(3, 8)
    game = patch_game(whole_image, VARIABLES, IMAGES[:4], None, grid=(1, 3))
    values = np.asarray(game(np.concatenate([masks, ~masks])))
    assert len(masks) == 4
    differences = (values[:4] - values[4:]).T
    expected = fitted_prior(differences, masks, (1, 3))
    assert replace(fitted.prior, examples=None) == replace(expected, examples=None)
    fitted = ShapleyMaps(config).fitted(whole_image, VARIABLES, IMAGES[:16], LABELS[:16])
    game = patch_game(whole_image, VARIABLES, IMAGES[:16], LABELS[:16], grid=(1, 3))
    differences = np.asarray(game(masks) - game(~masks)).T
    played = fitted.prior.examples.differences
    np.testing.assert_allclose(played * differences[:, :1] / played[:, :1], differences, atol=1e-4)


def test_only_what_knows_a_prior_is_fitted():
    for options in ({"strategy": "kernel"}, {"strategy": "leverage"}, {"pilot": 0}):
        assert ShapleyMaps(ShapleyConfig(**options)).pilot == 0
    with pytest.raises(InputError, match="pilot is -1; it must be at least 0"):
        ShapleyConfig(pilot=-1)
