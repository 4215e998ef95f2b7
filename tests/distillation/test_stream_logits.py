"""A stream whose teacher says of an image what no set can hold."""

import jax.numpy as jnp
import numpy as np
import pytest

from infoutil_jax.distillation import Stream, StreamConfig
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import rded
from infoutil_jax.training.teacher import Teacher


def in_logarithms(weights, images):
    """Of a black image the second class has a probability of nought."""
    bright = images.mean((1, 2, 3))
    return jnp.log(jnp.stack([1 - bright, bright], 1)) * weights


def test_nothing_is_changed(tmp_path):
    """Else no set could be written any more, nor the stream be opened."""
    teacher = Teacher(in_logarithms, jnp.ones(()), mean=0.0, std=1.0, class_names=("dark", "light"))

    def opened():
        config = StreamConfig(batch_size=4)
        recipe = rded(num_crops=1)
        return Stream.open(tmp_path / "set", teacher, recipe, images_per_class=1, config=config)

    grey = np.full((4, 8, 8, 1), 100, np.uint8)
    stream = opened().update(grey, np.array([0, 0, 1, 1]))
    before = stream.distilled.digest
    with pytest.raises(InputError, match="has logits of image 4 that are not all finite"):
        stream.update(np.zeros((1, 8, 8, 1), np.uint8), np.array([0]))
    again = opened()
    assert again.images == 4 and again.distilled.digest == before
    assert again.update(grey, np.array([0, 0, 1, 1])).images == 8
