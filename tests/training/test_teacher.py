"""A teacher is a function and its variables: ours or anyone's."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from infoutil_jax.errors import InputError
from infoutil_jax.training.evaluation import model_logits
from infoutil_jax.training.teacher import Teacher

IMAGES = np.random.default_rng(0).integers(0, 256, (70, 8, 8, 1), dtype=np.uint8)


def linear(variables, images):
    return images.reshape(len(images), -1) @ variables["w"]


def test_any_function_can_be_a_teacher():
    weights = np.asarray(jax.random.normal(jax.random.key(0), (64, 10)))
    teacher = Teacher(linear, {"w": weights}, mean=(0.5,), std=(0.25,), image_size=(8, 8))
    expected = ((IMAGES.reshape(70, -1) / 255 - 0.5) / 0.25) @ weights
    logits = model_logits(teacher, IMAGES)
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(logits[9:12], model_logits(teacher, IMAGES[9:12]))
    for value in (np.nan, np.inf):
        broken = weights.copy()
        broken[3, 4] = value
        with pytest.raises(InputError, match=r"weight in \['w'\] that is NaN or infinite"):
            replace(teacher, variables={"w": broken})
    with pytest.raises(InputError, match="2 means and 1 standard"):
        replace(teacher, mean=(0.5, 0.5))
    arrays = replace(teacher, mean=tuple(np.full(3, 0.5)), std=tuple(np.full(3, 0.25)))
    assert {type(value) for value in arrays.mean + arrays.std} == {float}


def test_a_teacher_normalises_pixels_by_its_own_statistics():
    images = IMAGES.repeat(3, -1)
    teacher = Teacher(linear, {}, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    normalised = teacher.normalise(images)
    np.testing.assert_allclose(normalised, (images / 255 - teacher.mean) / teacher.std, atol=1e-6)
    assert normalised.dtype == np.float32


def test_digest_sees_names_shapes_and_values():
    teacher = Teacher(linear, {"w": np.ones((4, 6), np.float32)}, mean=(0.5,), std=(0.25,))
    others = [
        {"v": np.ones((4, 6), np.float32)},
        {"w": np.ones((6, 4), np.float32)},
        {"w": np.ones((4, 6), np.float32) * (1 + 1e-6)},
    ]
    digests = {replace(teacher, variables=variables).digest() for variables in others}
    assert len(digests | {teacher.digest()}) == 4
    same = replace(teacher, variables={"w": jax.numpy.ones((4, 6))})
    assert same.digest() == teacher.digest()
