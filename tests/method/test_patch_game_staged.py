"""Fewer coalitions for the same crop: what stops early, what does not, and that both are right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoutil_jax.method.attribution import patch_shapley
from infoutil_jax.method.cropping import pool_maps
from infoutil_jax.method.patch_game import patch_game
from infoutil_jax.shapley import coalition_design, staged_design, staged_shapley
from infoutil_jax.shapley.staged import _staged_shapley
from tests.shapley.by_the_textbook import stages_of


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(0), (10, 8, 8, 1))


@pytest.fixture(scope="module")
def labels():
    return jnp.arange(10) % 3


@pytest.fixture(scope="module")
def variables():
    keys = jax.random.split(jax.random.key(1), 2)
    return {
        "kernel": jax.random.normal(keys[0], (5, 5, 1, 8)) / 3,
        "out": jax.random.normal(keys[1], (8, 3)),
    }


def predict(variables, images):
    """Neighbours act together, in a convolution."""
    maps = jax.lax.conv_general_dilated(
        images, variables["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jnp.tanh(maps).mean((1, 2)) @ variables["out"]


def staged_maps(images, labels, variables, design, *, grid=4, **options):
    """Maps, and how many coalitions each took."""
    game = patch_game(predict, variables, images, labels, grid=grid)
    phi, used = staged_shapley(game, design, **options)
    return phi.reshape(-1, *game.grid), used


def stages_of_each(design, images, labels, variables):
    """Each image's maps after each of its stages, one image and one stage at a time."""
    game = patch_game(predict, variables, images, labels, grid=4)
    masks = jnp.asarray(np.r_[design.masks, ~design.masks])
    for number in range(len(game)):
        worth = np.asarray(game.values_of(jnp.array([number]), masks[None])[0], np.float64)
        yield [stage.phi for stage in stages_of(design, np.subtract(*np.split(worth, 2)))]


@pytest.mark.parametrize("at_once", [1, 2, 62])
@pytest.mark.parametrize(("confidence", "coalitions"), [(0.0, 8), (1.0, 70)])
def test_ends_after_the_first_stage_or_after_the_last(
    images, labels, variables, confidence, coalitions, at_once
):
    design = staged_design(4, 70, step=8)
    maps, used = staged_maps(
        images, labels, variables, design, confidence=confidence, at_once=at_once
    )
    each = stages_of_each(design, images, labels, variables)
    expected = np.stack([stages[0 if confidence == 0 else -1] for stages in each])
    np.testing.assert_allclose(maps.reshape(-1, 16), expected, atol=1e-4)
    assert (used == coalitions).all()


@pytest.mark.parametrize("at_once", [3, 10])
def test_every_image_is_done_at_its_own_stage(images, labels, variables, at_once):
    """On its own way, whichever lanes it shares the device with."""
    design = staged_design(4, 96, step=8)
    maps, used = staged_maps(images, labels, variables, design, confidence=0.8, at_once=at_once)
    assert len(set(used.tolist())) > 3
    for image, stages in enumerate(stages_of_each(design, images, labels, variables)):
        expected = stages[used[image] // 8 - 1]
        np.testing.assert_allclose(maps[image].ravel(), expected, atol=1e-4)


def test_the_more_confidence_the_more_coalitions_and_the_more_often_right(variables):
    images = jax.random.normal(jax.random.key(2), (128, 8, 8, 1))
    labels = jnp.arange(128) % 3
    exact = coalition_design(16, 1024, grid=4)
    windows = windows_of(patch_shapley(predict, variables, images, labels, exact, grid=4))
    design = staged_design(4, 128)
    used, right = [], []
    for confidence in (0.0, 0.8, 0.98, 1.0):
        maps, coalitions = staged_maps(images, labels, variables, design, confidence=confidence)
        used.append(float(coalitions.mean()))
        right.append(np.mean(windows_of(maps) == windows))
    assert used == sorted(used)
    assert right[0] < right[1] and right[-1] - right[2] <= 0.03
    assert used[2] < 0.8 * used[-1]


def windows_of(maps):
    return np.asarray(pool_maps(maps).reshape(len(maps), -1).argmax(1))


def test_all_windows_that_can_be_cut_out_compete(images, labels, variables):
    """The design's windows are those of `ShapleyBoxes`, of any shape."""
    design = staged_design((2, 4), 64, window=(1, 3))
    maps, _ = staged_maps(images, labels, variables, design, grid=(2, 4))
    pooled = pool_maps(maps, (1, 3))
    np.testing.assert_allclose(
        maps.reshape(-1, 8) @ design.windows.T, pooled.reshape(len(maps), -1), atol=1e-5
    )


@pytest.mark.parametrize("grid", [1, (1, 2), 2, 3])
def test_small_grids_are_exact(images, labels, variables, grid):
    """With as many coalitions as there are, however few players."""
    rows, columns = (grid, grid) if isinstance(grid, int) else grid
    players = rows * columns
    maps, _ = staged_maps(
        *(images, labels, variables, staged_design(grid, 2**players)),
        grid=grid,
        confidence=1.0,
    )
    design = coalition_design(players, 2**players)
    expected = patch_shapley(predict, variables, images, labels, design, grid=grid)
    np.testing.assert_allclose(maps, expected, atol=1e-4)


@pytest.mark.parametrize("at_once", [1, 2, 10])
def test_constant_images_and_nan_come_to_an_end(images, labels, variables, at_once):
    """And say nothing to those that come after them."""
    design = staged_design(4, 48)
    odd = images.at[0].set(0.0).at[1].set(jnp.nan)
    maps, used = staged_maps(odd, labels, variables, design, at_once=at_once)
    assert (maps[0] == 0).all() and jnp.isnan(maps[1]).all()
    assert used[0] == used[1] == 48
    untouched, needed = staged_maps(images, labels, variables, design, at_once=at_once)
    np.testing.assert_allclose(maps[2:], untouched[2:], atol=1e-6)
    np.testing.assert_array_equal(used[2:], needed[2:])


def test_one_compilation_serves_every_batch_of_a_shape(images, labels, variables):
    design = staged_design(4, 48)
    _staged_shapley.clear_cache()
    for shift in range(3):
        staged_maps(images + shift, labels, variables, design, confidence=shift / 4)
    assert _staged_shapley._cache_size() == 1
