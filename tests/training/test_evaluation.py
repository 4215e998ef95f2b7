import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from infoutil_jax.errors import InputError
from infoutil_jax.training.classifier import Classifier
from infoutil_jax.training.evaluation import (
    evaluate,
    expected_calibration_error,
    model_logits,
    top_k,
    view,
)


def test_top_k_counts():
    logits = np.array([[3, 2, 1, 0], [3, 2, 1, 0], [3, 2, 1, 0]], np.float32)
    labels = np.array([0, 1, 3])
    assert [top_k(logits, labels, k) for k in (1, 2, 3, 4, 9)] == pytest.approx(
        [100 / 3, 200 / 3, 200 / 3, 100, 100]
    )
    assert top_k(np.zeros((3, 4), np.float32), labels, 1) == 0
    logits[0, 3] = np.nan
    assert [top_k(logits, labels, k) for k in (1, 4)] == pytest.approx([0, 200 / 3])


def test_calibration_error_closed_forms():
    labels = np.zeros(100, int)
    for confidence, right in [(0.8, 80), (0.8, 30), (0.6, 100), (1.0, 40)]:
        rows = np.full((100, 2), 1 - confidence)
        rows[:right, 0] = confidence
        rows[right:, 1] = confidence
        error = expected_calibration_error(rows, labels)
        assert error == pytest.approx(abs(confidence - right / 100), abs=1e-9)


def test_calibration_error_does_not_cancel_between_bins():
    low, high = np.tile([0.55, 0.45], (50, 1)), np.tile([0.95, 0.05], (50, 1))
    labels = np.r_[np.zeros(50, int), np.ones(50, int)]  # 0.45 too modest, 0.95 too sure
    assert expected_calibration_error(np.r_[low, high], labels) == pytest.approx(0.7)


@given(st.integers(0, 1000), st.integers(2, 30))
@settings(max_examples=20, deadline=None)
def test_calibration_error_by_its_definition(seed, bins):
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.ones(4), 40)
    labels = rng.integers(0, 4, 40)
    total = 0.0
    for i in range(bins):
        member = (rows.max(1) > i / bins) & (rows.max(1) <= (i + 1) / bins)
        if member.any():
            accuracy = (rows.argmax(1) == labels)[member].mean()
            total += member.mean() * abs(accuracy - rows.max(1)[member].mean())
    assert expected_calibration_error(rows, labels, bins) == pytest.approx(total)


@pytest.mark.parametrize(("stored", "size"), [(64, 64), (100, 64), (32, 32)])
def test_centre_is_pillows_resize_and_centre_crop(stored, size):
    image = np.asarray(
        Image.fromarray((load_digits().images[5] * 15).astype(np.uint8)).resize((stored, stored))
    )
    got = view(jnp.asarray(image)[None, :, :, None], (size, size), "centre")[0, :, :, 0]
    large = size // 7 * 8
    resized = Image.fromarray(image).resize((large, large), Image.Resampling.BILINEAR)
    margin = (large - size) // 2
    expected = np.asarray(resized, np.float32)[margin : margin + size, margin : margin + size]
    np.testing.assert_allclose(got, expected, atol=1)


def test_whole_images_are_as_they_are_or_resized():
    images = (np.arange(2 * 64 * 96, dtype=np.uint32) % 251).astype(np.uint8).reshape(2, 64, 96, 1)
    np.testing.assert_array_equal(view(jnp.asarray(images), (64, 96), "whole"), images)
    small = view(jnp.asarray(images), (32, 48), "whole")
    expected = Image.fromarray(images[0, :, :, 0]).resize((48, 32), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(small[0, :, :, 0], np.asarray(expected, np.float32), atol=1)


def rim(variables, images):
    """Class 1 where the first row is bright."""
    bright = images[:, 0].mean((1, 2))
    return jnp.stack([1 - bright, bright], axis=1)


def test_what_lies_at_the_rim_counts_unless_the_centre_is_asked_for():
    images = np.zeros((2, 64, 64, 1), np.uint8)
    images[1, :2] = 255
    test = images, np.array([0, 1], np.int32)
    classifier = Classifier(rim, {}, mean=(0.0,), std=(1.0,))
    assert evaluate(classifier, test).top1 == 100
    assert evaluate(classifier, test, test_view="centre").top1 == 50


def linear(variables, images):
    return images.reshape(len(images), -1) @ variables["w"]


def test_evaluate_and_its_independence_of_the_batch():
    data = load_digits()
    images = np.round(data.images[:150, :, :, None] * 15.9).astype(np.uint8)
    variables = {"w": jax.random.normal(jax.random.key(0), (64, 10))}
    pixels = images.reshape(150, -1) / 255
    logits = ((pixels - 0.3) / 0.2) @ np.asarray(variables["w"], np.float64)
    labels = np.where(np.arange(150) < 90, logits.argmax(1), logits.argmin(1)).astype(np.int32)
    classifier = Classifier(linear, variables, mean=(0.3,), std=(0.2,))
    metrics = evaluate(classifier, (images, labels), batch_size=64)
    assert metrics.top1 == pytest.approx(60) and metrics.top5 == pytest.approx(60)
    assert 0.2 < metrics.ece < 0.5
    got = model_logits(classifier, images, batch_size=32)
    np.testing.assert_allclose(got, logits, rtol=1e-3, atol=1e-3)
    alone = model_logits(classifier, images[7:8], batch_size=32)
    np.testing.assert_array_equal(alone[0], got[7])


def test_bad_labels_are_told():
    images = np.zeros((3, 8, 8, 1), np.uint8)
    classifier = Classifier(linear, {"w": jnp.zeros((64, 4))}, mean=(0.0,), std=(1.0,))
    with pytest.raises(InputError, match=r"label 4 at index 1 .* 0 to 3"):
        evaluate(classifier, (images, np.array([0, 4, 1])))
    with pytest.raises(InputError, match="3 test images but 2 labels"):
        evaluate(classifier, (images, np.array([0, 1])))
    with pytest.raises(InputError, match="no test images"):
        evaluate(classifier, (images[:0], np.array([], int)))
