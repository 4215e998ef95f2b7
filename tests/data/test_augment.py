import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from infoutil_jax.data import augment

KEY = jax.random.key(0)
BOXES = jax.jit(augment.random_boxes, static_argnums=(1, 2, 3))


def digits(n=64):
    return jnp.asarray(load_digits().images[:n, :, :, None] / 16, jnp.float32)


def noise(batch=50, height=12, width=9):
    return jax.random.normal(KEY, (batch, height, width, 2))


def test_normalise_makes_the_mean_colour_zero():
    image = np.array([[[[255, 0]], [[51, 102]]]], np.uint8)
    out = augment.Normalisation.of((0.2, 0.4), (0.5, 2.0))(image)
    np.testing.assert_allclose(out[0, :, 0], [[1.6, -0.2], [0, 0]], atol=1e-6)


def test_flip_mirrors_about_half_and_twice_is_nothing():
    images = noise(400)
    once, which = augment.horizontal_flip(KEY, images)
    np.testing.assert_array_equal(once[which], images[which][:, :, ::-1])
    np.testing.assert_array_equal(once[~which], images[~which])
    np.testing.assert_array_equal(augment.horizontal_flip(KEY, once)[0], images)
    assert 150 < which.sum() < 250


@pytest.mark.parametrize(("size", "turns"), [((9, 9), {0, 1, 2, 3}), ((12, 9), {0, 2})])
def test_turns_are_numpys_and_keep_the_shape(size, turns):
    images = noise(200, *size)
    turned, which = augment.quarter_turns(KEY, images)
    for image, out, quarters in zip(images, turned, which, strict=True):
        np.testing.assert_array_equal(out, np.rot90(image, int(quarters)))
    counts = np.bincount(which, minlength=4)
    assert {int(one) for one in which} == turns and counts.max() < 2 * counts[counts > 0].min()


@pytest.mark.parametrize(("size", "turns"), [((6, 6), range(4)), ((6, 9), (0, 2))])
def test_a_window_of_a_turned_image_is_found_before_the_turn(size, turns):
    image = np.arange(np.prod(size)).reshape(size)
    for quarters in turns:
        window = jnp.array([1, 2, 3, 2])
        shown = np.rot90(image, quarters)[1:4, 2:4]
        found = augment.before_turns(window, jnp.array([quarters]), size)[0]
        top, left, height, width = (int(one) for one in found)
        before = image[top : top + height, left : left + width]
        assert set(before.ravel()) == set(shown.ravel())


def test_pad_crop_is_a_window_of_the_reflected_image():
    images = noise(200)
    out = np.asarray(augment.pad_crop(KEY, images, 2))
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    found = []
    for image, source in zip(out, padded, strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(source, image.shape)[:, :, 0]
        match = np.argwhere((windows == image).all((2, 3, 4)))
        assert len(match) == 1
        found.append(tuple(match[0]))
    assert set(found) == {(i, j) for i in range(5) for j in range(5)}


@given(st.integers(0, 2**30), st.sampled_from([(8, 8), (12, 20), (30, 10)]))
@settings(max_examples=15, deadline=None)
def test_boxes_lie_inside_with_area_and_aspect_as_asked(seed, size):
    boxes = np.asarray(BOXES(jax.random.key(seed), 40, size, (0.3, 0.8)))
    top, left, height, width = boxes.T
    assert (top >= 0).all() and (left >= 0).all() and (height > 0).all() and (width > 0).all()
    assert (top + height <= size[0]).all() and (left + width <= size[1]).all()
    for h, w in zip(height, width, strict=True):
        assert (w - 0.5) / (h + 0.5) <= 4 / 3 + 0.02 and (w + 0.5) / (h - 0.5) >= 3 / 4 - 0.02
    assert (height * width).max() <= 0.8 * size[0] * size[1] + size[0] + size[1]


def test_full_scale_crop_of_a_square_image_is_the_identity():
    images = digits()
    out, boxes = augment.random_resized_crop(KEY, images, (1.0, 1.0))
    assert (np.asarray(boxes) == [0, 0, 8, 8]).all()
    np.testing.assert_array_equal(out, images)


def test_where_nothing_fits_the_box_is_central_and_of_extreme_aspect():
    boxes = augment.random_boxes(KEY, 5, (10, 40), (1.0, 1.0))
    assert (np.asarray(boxes) == [0, 13, 10, 13]).all()


def test_a_box_at_native_resolution_is_copied():
    images = noise()
    boxes = jnp.tile(jnp.array([[3, 2, 6, 5]]), (50, 1))
    out = augment.resized_crop(images, boxes, (6, 5))
    np.testing.assert_array_equal(out, images[:, 3:9, 2:7])


@pytest.mark.parametrize("size", [(16, 16), (3, 4), (6, 13)])
def test_resampling_is_pillows(size):
    image = digits()[3]
    box = (1, 2, 6, 5)
    out = augment.resized_crop(image[None], jnp.array([box]), size)[0, :, :, 0]
    crop = Image.fromarray(np.asarray(image[1:7, 2:7, 0]))
    reference = np.asarray(crop.resize(size[::-1], Image.Resampling.BILINEAR))
    np.testing.assert_allclose(out, reference, atol=1e-5)


@pytest.mark.parametrize("tiles", [1, 4, 9])
def test_tiles_are_permuted_as_told(tiles):
    images = noise(60, 6, 12)
    side = round(tiles**0.5)
    out, permutation = augment.shuffle_tiles(KEY, images, tiles)
    assert (np.sort(permutation, axis=1) == np.arange(tiles)).all()
    assert len(np.unique(permutation, axis=0)) > (1 if tiles > 1 else 0)
    h, w = 6 // side, 12 // side
    for image, source, order in zip(out, images, permutation, strict=True):
        for place, tile in enumerate(np.asarray(order)):
            (r, c), (i, j) = divmod(place, side), divmod(int(tile), side)
            np.testing.assert_array_equal(
                image[r * h : (r + 1) * h, c * w : (c + 1) * w],
                source[i * h : (i + 1) * h, j * w : (j + 1) * w],
            )


def test_cutmix_share_is_the_share_of_pixels():
    images = jnp.broadcast_to(jnp.arange(50.0)[:, None, None, None], (50, 12, 9, 2))
    shares = []
    cutmix = jax.jit(augment.cutmix)
    for seed in range(60):
        mixed, partner, share, box = cutmix(jax.random.key(seed), images)
        top, left, height, width = np.asarray(box)
        expected = np.array(images)
        window = np.s_[:, top : top + height, left : left + width]
        expected[window] = np.asarray(images)[np.asarray(partner)][window]
        np.testing.assert_array_equal(mixed, expected)
        np.testing.assert_allclose(share, 1 - height * width / 108, rtol=1e-6)
        shares.append(float(share))
    assert min(shares) < 0.5 and max(shares) > 0.95


def test_channel_statistics_are_numpys():
    images = np.random.default_rng(0).integers(0, 256, (9, 5, 6, 3), dtype=np.uint8)
    images[..., 2] = 7
    mean, std = augment.channel_statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)))
    np.testing.assert_allclose(std[:2], (images / 255).std((0, 1, 2))[:2])
    assert std[2] == 1 / 255


def test_channel_statistics_are_rounded_once():
    images = np.random.default_rng(1).integers(0, 256, (40, 9, 7, 1), dtype=np.uint8)
    values = [Fraction(int(value), 255) for value in images.ravel()]
    exact = sum(values) / len(values)
    variance = sum((value - exact) ** 2 for value in values) / len(values)
    for order in (slice(None), slice(None, None, -1)):
        (mean,), (std,) = augment.channel_statistics(images[order])
        assert mean == float(exact)
        assert std == math.sqrt(float(variance))
