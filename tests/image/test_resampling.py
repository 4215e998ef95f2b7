"""Crops against Pillow's, and copies to the bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images

from infoutil_jax.errors import InputError
from infoutil_jax.image.resampling import (
    centred,
    extract,
    resample,
    resampling_weights,
    resized,
)

SAMPLES = st.sampled_from([1, 7, 16, 40])  # each is a shape, and compiled by itself


def photographs():
    return np.stack([image[100:196, 200:328] for image in load_sample_images().images])


def boxes_in(height, width):
    def within(extent):
        return st.integers(1, extent).flatmap(
            lambda size: st.tuples(st.integers(0, extent - size), st.just(size))
        )

    return st.tuples(within(height), within(width)).map(
        lambda box: (box[0][0], box[1][0], box[0][1], box[1][1])
    )


@given(st.lists(boxes_in(96, 128), min_size=8, max_size=8))
@settings(max_examples=40, deadline=None)
def test_crops_are_pillows_within_one_grey_level(boxes):
    images, size = photographs(), (32, 40)
    boxes = np.array(boxes, np.int32).reshape(2, 4, 4)
    crops = np.asarray(extract(images, boxes, size))
    assert crops.dtype == np.uint8
    for image in range(2):
        for crop, (top, left, height, width) in enumerate(boxes[image]):
            cut = Image.fromarray(images[image]).crop((left, top, left + width, top + height))
            expected = np.asarray(cut.resize(size[::-1], Image.Resampling.BILINEAR))
            assert np.abs(crops[image, crop].astype(int) - expected).max() <= 1


def test_resizing_rounds_without_making_images_darker():
    images = photographs()
    floats = extract(images.astype(np.float32), np.array([[[3, 5, 90, 100]]] * 2), (33, 47))
    pixels = extract(images, np.array([[[3, 5, 90, 100]]] * 2), (33, 47))
    assert np.abs(pixels.astype(np.float32) - floats).max() <= 0.5
    assert float((pixels.astype(np.float32) - floats).mean()) == pytest.approx(0, abs=0.02)


@given(st.lists(st.tuples(st.integers(0, 64), st.integers(0, 88)), min_size=4, max_size=4))
@settings(max_examples=20, deadline=None)
def test_native_resolution_is_an_exact_copy(corners):
    images = photographs()
    boxes = np.array([(*corner, 32, 40) for corner in corners], np.int32).reshape(2, 2, 4)
    for source in (images, images / np.float32(255)):
        crops = np.asarray(extract(source, boxes, (32, 40)))
        assert crops.dtype == source.dtype
        for image, crop in np.ndindex(2, 2):
            top, left = boxes[image, crop, :2]
            expected = source[image, top : top + 32, left : left + 40]
            np.testing.assert_array_equal(crops[image, crop], expected)


def test_nothing_around_the_box_bleeds_in():
    image = np.full((1, 12, 12, 1), 1000.0, np.float32)
    image[:, 3:8, 4:9] = 7
    for size in ((2, 3), (5, 5), (17, 11)):
        crop = extract(image, np.array([[[3, 4, 5, 5]]]), size)
        np.testing.assert_allclose(crop, 7.0, rtol=1e-6)


def test_traced_boxes_do_not_recompile():
    traces = []

    @jax.jit
    def cut(images, boxes):
        traces.append(0)
        return extract(images, boxes, (8, 8))

    for top in (0, 3):
        boxes = np.array([[[top, 1, 5, 9]]] * 2)
        np.testing.assert_array_equal(
            cut(photographs(), boxes), extract(photographs(), boxes, (8, 8))
        )
    assert len(traces) == 1


@given(st.one_of(st.integers(1, 40), SAMPLES), SAMPLES, st.data())
@settings(deadline=None, max_examples=20)
def test_weights_are_shares_of_the_range_alone(extent, samples, data):
    start = data.draw(st.integers(0, 40 - extent))
    weights = np.asarray(resampling_weights(jnp.array([start]), jnp.array([extent]), 40, samples))[
        0
    ]
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)
    assert (weights >= 0).all()
    assert not weights[:, :start].any() and not weights[:, start + extent :].any()
    if extent == samples:
        np.testing.assert_array_equal(weights[:, start : start + extent], np.eye(extent))


def test_resampling_by_two_matrices_is_extracting():
    images = photographs()[:, :40, :50].astype(np.float32)
    boxes = np.array([[3, 4, 20, 30], [0, 10, 40, 40]])
    rows = resampling_weights(jnp.array(boxes[:, 0]), jnp.array(boxes[:, 2]), 40, 16)
    columns = resampling_weights(jnp.array(boxes[:, 1]), jnp.array(boxes[:, 3]), 50, 24)
    expected = extract(images, boxes[:, None], (16, 24))[:, 0]
    np.testing.assert_allclose(resample(jnp.asarray(images), rows, columns), expected, atol=1e-3)


def test_crops_are_brought_to_a_size_resized_or_in_the_middle():
    images = jnp.ones((2, 3, 4, 1))
    assert resized(images, (3, 4)) is images
    np.testing.assert_allclose(resized(images, (6, 8)), np.ones((2, 6, 8, 1)), rtol=1e-6)
    some, size = (
        jnp.asarray(photographs(), jnp.float32),
        (7, 161),
    )  # smaller one way, larger the other
    whole = np.array([[[0, 0, *some.shape[1:3]]]] * 2)
    np.testing.assert_allclose(resized(some, size), extract(some, whole, size)[:, 0], rtol=1e-4)
    middle = np.zeros((2, 6, 7, 1))
    middle[:, 1:4, 1:5] = 1
    np.testing.assert_array_equal(centred(images, (6, 7)), middle)


@pytest.mark.parametrize(
    ("boxes", "size", "message"),
    [
        ([[[0, 0, 4, 4], [5, 0, 4, 4]]], (4, 4), "box 1 of image 0"),
        ([[[0, 0, 0, 4]]], (4, 4), "box 0 of image 0"),
        ([[[0, 0, 4, 4]]], (0, 4), "give a positive height and width"),
    ],
)
def test_bad_input_is_told_in_a_sentence(boxes, size, message):
    with pytest.raises(InputError, match=message):
        extract(np.zeros((1, 8, 8, 3), np.uint8), np.array(boxes), size)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int8])
def test_integers_keep_the_range_of_their_type(dtype):
    kind = np.iinfo(dtype)
    images = np.array([[kind.min, kind.max], [7, 100]], dtype).reshape(1, 2, 2, 1)
    boxes = np.array([[[0, 0, 2, 2]]])
    np.testing.assert_array_equal(extract(images, boxes, (2, 2))[0], images)
