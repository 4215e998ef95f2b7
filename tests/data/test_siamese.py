"""One key is one view, for every image of every call, and it is differentiable."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoutil_jax.data.siamese import PLAIN, Siamese
from infoutil_jax.errors import InputError

NONE = (0.0, 0.0, 0.0)
PARTS = {
    "flip": Siamese(shift=0.0, colour=NONE, cutout=0.0),
    "shift": Siamese(flip=False, colour=NONE, cutout=0.0),
    "colour": Siamese(flip=False, shift=0.0, cutout=0.0),
    "cutout": Siamese(flip=False, shift=0.0, colour=NONE),
    "all": Siamese(),
}


@pytest.fixture
def images():
    return jax.random.normal(jax.random.key(0), (4, 16, 12, 3))


@pytest.mark.parametrize("part", PARTS)
def test_one_key_is_one_view_however_many_images_a_call_has(part, images):
    view, key = PARTS[part], jax.random.key(3)
    together = view(key, images)
    for i in range(4):
        np.testing.assert_allclose(view(key, images[i : i + 1])[0], together[i], atol=1e-5)
    drawn = [np.asarray(view(jax.random.key(i), images)) for i in range(16)]
    assert len({one.tobytes() for one in drawn}) > 1
    assert together.shape == images.shape


def test_without_parts_nothing_changes(images):
    np.testing.assert_array_equal(PLAIN(jax.random.key(0), images), images)


def test_a_shift_moves_pixels_and_brings_in_the_mean_colour(images):
    seen = np.asarray(PARTS["shift"](jax.random.key(1), images))
    padded = np.pad(np.asarray(images), ((0, 0), (2, 2), (2, 2), (0, 0)))
    places = [
        (top, left)
        for top in range(5)
        for left in range(5)
        if np.array_equal(padded[:, top : top + 16, left : left + 12], seen)
    ]
    assert len(places) == 1


def test_a_square_is_cut_out_in_the_mean_colour(images):
    shares = [
        (np.asarray(PARTS["cutout"](jax.random.key(i), images)) == 0).mean() for i in range(20)
    ]
    assert 0.2 <= max(shares) <= 0.25  # half of each side, where it lies inside


def test_colour_keeps_what_is_grey_and_even(images):
    grey = jnp.full((1, 8, 8, 3), 0.3)
    seen = np.asarray(PARTS["colour"](jax.random.key(0), grey))
    assert np.ptp(seen) < 1e-6 and abs(seen.mean() - 0.3) <= 0.5


def test_its_gradient_is_that_of_differences(images):
    def seen(pixels):
        return (Siamese()(jax.random.key(2), pixels) ** 2).sum()

    direction = jax.random.normal(jax.random.key(1), images.shape)
    step = 1e-2
    difference = (seen(images + step * direction) - seen(images - step * direction)) / (2 * step)
    assert jnp.vdot(jax.grad(seen)(images), direction) == pytest.approx(float(difference), rel=1e-2)


def test_refuses_what_is_out_of_range():
    with pytest.raises(InputError, match=r"cutout is 1\.5; it must be from 0 to 1"):
        Siamese(cutout=1.5)
    with pytest.raises(InputError, match=r"colour is .*; each must be from 0 to 2"):
        Siamese(colour=(0.0, float("nan"), 0.0))
