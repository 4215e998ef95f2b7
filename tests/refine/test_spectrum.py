"""Steps in the spectrum of the pool: a linear change of coordinates, and what it is for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft

from infoutil_jax.data.augment import Normalisation
from infoutil_jax.method.contracts import Pool
from infoutil_jax.refine import spectrum

SCALE = Normalisation.of((0.5,) * 3, (0.25,) * 3)


@pytest.fixture
def pool():
    """Smooth images: neighbours are alike, and so are the colours."""
    chance = np.random.default_rng(0)
    coarse = chance.normal(size=(60, 2, 2, 3)) + 2 * chance.normal(size=(60, 1, 1, 1))
    smooth = scipy.fft.idctn(np.pad(coarse, ((0, 0), (0, 6), (0, 6), (0, 0))), axes=(1, 2))
    noise = chance.normal(size=smooth.shape)
    images = np.clip(128 + 400 * smooth + 2 * noise, 0, 255).astype(np.uint8)
    return Pool(images, np.arange(60) % 3, True)


def test_coefficients_have_deviation_one_over_the_pool_in_uncorrelated_colours(pool):
    found = spectrum.measured(pool, SCALE)
    images = np.asarray(SCALE(pool.images))
    images = images - images.mean((0, 1, 2))
    axes = np.asarray(found.axes)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-5)
    coefficients = scipy.fft.dctn(images, axes=(1, 2), norm="ortho") @ axes / found.scale
    np.testing.assert_allclose((coefficients**2).mean(0), 1, rtol=1e-3)
    colours = (images @ axes).reshape(-1, 3)
    between = colours.T @ colours
    assert np.abs(between - np.diag(np.diag(between))).max() < 1e-3 * between.max()


def test_the_gradient_is_that_of_the_change_of_pixels(pool):
    found = spectrum.measured(pool, SCALE)
    keys = jax.random.split(jax.random.key(1), 2)
    change, slope = (jax.random.normal(key, (2, 8, 8, 3)) for key in keys)
    wanted = jax.grad(lambda c: (found.pixels(c) * slope).sum())(change)
    np.testing.assert_allclose(found.gradient(slope), wanted, rtol=1e-4, atol=1e-4)


def test_a_step_of_every_coefficient_is_as_large_as_one_of_every_pixel(pool):
    """The rate has the same unit with and without: standard deviations of a channel."""
    found = spectrum.measured(pool, SCALE)
    signs = jax.random.rademacher(jax.random.key(2), (200, 8, 8, 3)).astype(jnp.float32)
    images = np.asarray(SCALE(pool.images))
    moved = float((found.pixels(signs) ** 2).mean())
    assert moved == pytest.approx(float(images.var((0, 1, 2)).mean()), rel=0.02)


def test_such_a_step_is_coarse_where_images_are(pool):
    found = spectrum.measured(pool, SCALE)
    signs = jax.random.rademacher(jax.random.key(2), (20, 8, 8, 3)).astype(jnp.float32)

    def rough(images):
        images = np.asarray(images)
        return (np.diff(images, axis=2) ** 2).mean() / images.var()

    assert rough(found.pixels(signs)) < 0.5 * rough(signs)


@pytest.mark.parametrize("limit", [{"MEASURED": 10}, {"VALUES": 10 * 64}])
def test_of_a_large_pool_some_images_are_measured_from_all_of_it(limit, monkeypatch):
    images = np.zeros((100, 8, 8, 1), np.uint8)
    images[50:] = 255
    for name, most in limit.items():
        monkeypatch.setattr(spectrum, name, most)
    scale = Normalisation.of((0.5,), (0.5,))
    found = spectrum.measured(Pool(images, np.arange(100) // 50, True), scale)
    # Half black, half white: the constant alone varies, by one in every pixel.
    assert float(found.scale[0, 0, 0]) == pytest.approx(8)
    assert float(jnp.abs(found.scale.at[0, 0, 0].set(0)).max()) < 1e-4
