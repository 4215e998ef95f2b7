"""What an absent patch shows, by a name."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from infoutil_jax.method.attribution import BASELINES, blurred, darkest
from infoutil_jax.method.patch_game import patch_game

IMAGES = np.random.default_rng(0).normal(size=(14, 12, 5, 13)).astype(np.float32)


def summed(variables, images):
    return images.sum((1, 2, 3))[:, None]


@pytest.mark.parametrize("images", [IMAGES, IMAGES.swapaxes(1, 2)], ids=["tall", "wide"])
@pytest.mark.parametrize(("options", "sigma"), [({}, 0.125), ({"sigma": 0.3}, 0.3)])
def test_a_blur_is_scipys_gaussian_filter_renormalised_at_the_border(images, options, sigma):
    """Its width is a share of the longer side: an eighth, unless something else is asked for."""

    def of(values):
        widths = (0, 12 * sigma, 12 * sigma, 0)
        return gaussian_filter(values, widths, mode="constant", truncate=20)

    expected = of(images) / of(np.ones_like(images))
    np.testing.assert_allclose(blurred(jnp.asarray(images), **options), expected, atol=1e-5)


def test_darkest_is_each_images_own_lowest_value_in_each_channel():
    found = np.asarray(darkest(jnp.asarray(IMAGES)))
    np.testing.assert_array_equal(found[:, 0, 0], IMAGES.reshape(14, -1, 13).min(1))


def test_baselines_by_name_are_the_mean_colour_a_blur_and_each_images_darkest():
    """Normalised images have the mean colour 0, which is also what is shown by default."""
    nothing = np.zeros((1, 4), bool)

    def worth(**options):
        return patch_game(summed, (), IMAGES, np.zeros(14, int), grid=2, **options)(nothing)[0]

    np.testing.assert_array_equal(worth(), np.zeros(14))
    np.testing.assert_array_equal(worth(baseline=BASELINES["mean"]), np.zeros(14))
    blur = blurred(jnp.asarray(IMAGES)).sum((1, 2, 3))
    np.testing.assert_allclose(worth(baseline=BASELINES["blur"]), blur, rtol=1e-5)
    darkest = 12 * 5 * IMAGES.min((1, 2)).sum(1)
    np.testing.assert_allclose(worth(baseline=BASELINES["dark"]), darkest, rtol=1e-5)
