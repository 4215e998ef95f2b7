"""Embeddings: what a teacher's classifier sees, and what a network sees before it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoutil_jax.errors import InputError
from infoutil_jax.method import features
from infoutil_jax.method.features import (
    StudentFeatures,
    UntrainedFeatures,
    pink_noise,
    teacher_features,
)

LABELS = np.zeros(3, int)


def untrained(images, **options):
    labels = np.zeros(len(images), int)
    return np.asarray(UntrainedFeatures(**options)(print, {}, images, labels)["untrained"])


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(3, 16, 16, 2)).astype(np.float32)


def test_teacher_features_need_a_model_that_tells_them():
    with pytest.raises(InputError, match="give a predict with the method features"):
        teacher_features(lambda w, x: x, {}, np.zeros((1, 2, 2, 1), np.float32), LABELS[:1])


@pytest.mark.parametrize(
    ("height", "width", "features"),
    [
        (32, 32, 4 * 4 * 64),
        (64, 64, 4 * 4 * 64),
        (28, 28, 7 * 7 * 64),
        (9, 40, 4 * 20 * 64),
        (40, 9, 20 * 4 * 64),
    ],
)
def test_images_of_any_size_shrink_until_a_side_is_below_eight(height, width, features):
    assert untrained(np.zeros((2, height, width, 3), np.float32)).shape == (2, features)


def test_small_images_are_their_own_features(images):
    small = images[:, :7, :5]
    np.testing.assert_array_equal(untrained(small), small.reshape(3, -1))


def test_a_block_is_a_convolution_a_rectifier_and_a_mean(images):
    image = images[:1, :8, :8]
    _, drawn = jax.random.split(jax.random.key(5))
    kernel = np.asarray(jax.nn.initializers.he_normal()(drawn, (3, 3, 2, 4)))
    padded = np.pad(image[0], ((1, 1), (1, 1), (0, 0)))
    seen = np.zeros((4, 4, 4))
    for row, column in np.ndindex(8, 8):
        window = padded[row : row + 3, column : column + 3]
        seen[row // 2, column // 2] += np.maximum(np.einsum("hwc,hwco", window, kernel), 0) / 4
    got = untrained(image, width=4, seed=5)
    np.testing.assert_allclose(got, seen.reshape(1, -1), atol=1e-5)


def test_contrast_scales_features(images):
    """A network of rectifiers without biases is homogeneous."""
    np.testing.assert_allclose(untrained(3 * images), 3 * untrained(images), rtol=1e-4, atol=1e-4)


def test_the_seed_makes_the_network(images):
    np.testing.assert_array_equal(untrained(images, seed=1), untrained(images, seed=1))
    assert not np.allclose(untrained(images, seed=1), untrained(images, seed=2))


def test_without_a_word_it_is_the_network_of_seed_0_with_64_channels(images):
    np.testing.assert_array_equal(untrained(images), untrained(images, seed=0, width=64))


def test_pink_noise_is_alike_in_every_octave():
    images = np.asarray(pink_noise(jax.random.key(0), 400, (32, 24), 3))
    assert images.shape == (400, 32, 24, 3)
    np.testing.assert_allclose([images.mean(), images.std()], [0, 1], atol=1e-5)
    power = (np.abs(np.fft.fft(images, axis=1)) ** 2).mean((0, 2, 3))
    slope = np.polyfit(np.log(np.arange(1, 9)), np.log(power[1:9]), 1)[0]
    assert -2.2 < slope < -0.8  # along a line through an image whose power falls as 1 / f²
    grey = np.corrcoef(images.reshape(-1, 3).T)
    np.testing.assert_allclose(grey[np.triu_indices(3, 1)], 0.8, atol=0.05)


def test_pink_noise_is_octave_upon_octave_of_white_noise():
    """Each in the shape that it has, however many values one program draws of it."""
    key, wanted = jax.random.key(3), np.zeros((2, 6, 4, 3))
    for side in (1, 2, 4):
        key, grey, colour = jax.random.split(key, 3)
        noise = np.sqrt(0.8) * jax.random.normal(grey, (2, side, side, 1))
        noise += np.sqrt(0.2) * jax.random.normal(colour, (2, side, side, 3))
        wanted += jax.image.resize(noise, wanted.shape, "linear")
    wanted = (wanted - wanted.mean()) / wanted.std()
    np.testing.assert_allclose(pink_noise(jax.random.key(3), 2, (6, 4), 3), wanted, atol=1e-5)


@pytest.mark.parametrize("normalised", [False, True])
def test_a_network_that_is_first_seen_while_something_compiles_is_kept(images, normalised):
    options = {"width": 5, "normalised": normalised, "seed": 9 + normalised}
    traced = jax.jit(lambda x: UntrainedFeatures(**options)(print, {}, x, LABELS))(images)
    np.testing.assert_allclose(untrained(images, **options), traced["untrained"], atol=1e-4)


@pytest.mark.parametrize("size", [(1, 2), (2, 1), (2, 2)])
def test_two_pixels_side_by_side_share_half_of_their_pink_noise(size):
    """There are two octaves: that of the whole image, and that of the single pixels."""
    images = np.asarray(pink_noise(jax.random.key(1), 20_000, size, 1)).reshape(20_000, -1)
    assert np.corrcoef(images[:, 0], images[:, -1])[0, 1] == pytest.approx(0.5, abs=0.02)


def test_normalised_channels_are_those_of_batch_normalisation_over_pink_noise():
    noise = pink_noise(jax.random.key(0), 64, (16, 16), 3)  # two blocks
    got = np.asarray(untrained(noise, width=16, normalised=True))
    key, seen = jax.random.key(0), noise
    while seen.shape[1] >= 8:
        key, drawn = jax.random.split(key)
        kernel = jax.nn.initializers.he_normal()(drawn, (3, 3, seen.shape[3], 16))
        outputs = jax.lax.conv_general_dilated(
            seen, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        outputs = (outputs - outputs.mean((0, 1, 2))) / outputs.std((0, 1, 2))
        half = seen.shape[1] // 2
        seen = np.maximum(outputs, 0).reshape(64, half, 2, half, 2, 16).mean((2, 4))
    np.testing.assert_allclose(got, seen.reshape(64, -1), atol=1e-4)


def test_normalised_features_of_a_crop_do_not_depend_on_the_batch_nor_on_jit(images):
    got = untrained(images, normalised=True)
    alone = untrained(images[:1], normalised=True)
    np.testing.assert_allclose(got[:1], alone, atol=1e-5)
    traced = jax.jit(lambda x: UntrainedFeatures(normalised=True)(print, {}, x, LABELS))(images)
    np.testing.assert_allclose(got, traced["untrained"], atol=1e-4)


def test_student_features_are_two_columns(images):
    def predict(variables, crops):
        return variables * crops[:, 0, 0, :1] * np.arange(3.0)

    got = StudentFeatures(width=4)(predict, 2.0, images, LABELS)
    seen = untrained(images, width=4, normalised=True)
    np.testing.assert_allclose(got["untrained"], seen, atol=1e-6)
    expected = jax.nn.softmax(predict(2.0, images))
    np.testing.assert_allclose(got["probabilities"], expected, atol=1e-6)


@pytest.mark.parametrize("normalised", [False, True])
def test_whatever_type_crops_have_and_jax_prefers(images, normalised):
    expected = untrained(images, normalised=normalised, seed=3)
    half = untrained(jnp.asarray(images, jnp.bfloat16), normalised=normalised, seed=3)
    np.testing.assert_allclose(half, expected, atol=0.1)
    features._kernels.cache_clear()
    features._pink_statistics.cache_clear()
    with jax.enable_x64(True):
        wide = untrained(images.astype(np.float64), normalised=normalised, seed=3)
        assert wide.dtype == np.float32
        np.testing.assert_allclose(wide, expected, atol=1e-5)


def test_of_large_images_fewer_normalise(monkeypatch):
    """As many pixels as two images of 24 by 24 have."""
    monkeypatch.setattr(features, "NOISE", 2 * 24 * 24 + 1)
    noise = pink_noise(jax.random.key(0), 2, (24, 24), 1)
    (mean, std), _ = features._pink_statistics((24, 24, 1), 4, 0)
    by_hand = features._convolved(noise, features._kernels((24, 24, 1), 4, 0)[0])
    np.testing.assert_allclose(mean, by_hand.mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(std, by_hand.std((0, 1, 2)), rtol=1e-5)
