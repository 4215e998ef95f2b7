"""Whether a set that is there already is the one that is asked for."""

from dataclasses import replace

import jax.numpy as jnp
import pytest

from infoutil_jax.app.sets import found_or_distilled
from infoutil_jax.distillation import DistillConfig
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import el2n
from infoutil_jax.training.teacher import Teacher

QUIET = DistillConfig(pool=3, progress=False)


def bright(predict, variables, crops, labels):
    return crops.mean((1, 2, 3))


def dark(predict, variables, crops, labels):
    return -crops.mean((1, 2, 3))


dark.__name__ = dark.__qualname__ = bright.__name__


def linear(weights, images):
    return images.reshape(len(images), -1) @ weights


def test_a_function_that_was_edited_makes_another_set(digits, tmp_path):
    """Its name alone is in the manifest."""
    teacher = Teacher(linear, jnp.ones((64, 10)), mean=(0.3,), std=(0.3,), version="1")

    def made(score, config=QUIET, version=None):
        recipe = replace(el2n(), name="mine", score=score, version=version)
        given = {"images_per_class": 1, "workdir": tmp_path / str(version), "seed": 0}
        return found_or_distilled(digits, (teacher, teacher), recipe, config=config, **given)

    first = made(bright)
    with pytest.raises(InputError, match="another function of that name: the score of recipe"):
        made(dark)
    assert made(dark, replace(QUIET, overwrite=True)).digest != first.digest
    named = made(bright, version="1")
    assert made(bright, version="1").digest == named.digest
