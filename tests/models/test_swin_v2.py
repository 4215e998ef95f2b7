"""Swin-V2-Tiny beyond torchvision's case: its geometry, and images of any size."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoutil_jax import models
from infoutil_jax.errors import InputError
from infoutil_jax.models.swin_v2 import position_index, position_table, shift_mask


def test_every_pair_of_places_reads_its_relative_position():
    window = 3
    table = position_table(window).reshape(-1, 2)
    places = list(itertools.product(range(window), repeat=2))
    for (i, a), (j, b) in itertools.product(enumerate(places), repeat=2):
        apart = np.subtract(a, b) * 8 / (window - 1)
        wanted = np.sign(apart) * np.log2(np.abs(apart) + 1) / 3
        np.testing.assert_allclose(table[position_index(window)[i, j]], wanted, rtol=1e-6)


def test_places_that_a_shift_has_brought_together_do_not_attend():
    """Neighbours in a shifted window are those that were within a window before the roll."""
    size, window, shift = (8, 4), 4, 2
    rows, columns = np.meshgrid(*(np.arange(n) for n in size), indexing="ij")
    rolled = [np.roll(axis, (-shift, 0), (0, 1)) for axis in (rows, columns)]
    mask = shift_mask(size, window, (shift, 0))
    assert mask.shape == (2, 16, 16)
    for number in range(2):
        part = slice(number * window, (number + 1) * window)
        row = rolled[0][part].reshape(-1)
        near = np.abs(row[:, None] - row) < window
        np.testing.assert_array_equal(mask[number], near)
    assert shift_mask((4, 4), 4, (0, 0)) is None


@pytest.mark.parametrize(
    ("size", "options", "maps"),
    [((224, 224), {}, (7, 7)), ((32, 32), {"patch": 2}, (2, 2)), ((70, 33), {}, (3, 1))],
)
def test_images_of_any_size(size, options, maps):
    predict, variables = models.outline(
        models.Architecture.of("swin_v2_t", num_classes=5, image_size=size, channels=1, **options)
    )
    batch = jax.ShapeDtypeStruct((2, *size, 1), jnp.float32)
    assert jax.eval_shape(predict.features, variables, batch).shape == (2, *maps, 768)
    assert jax.eval_shape(predict, variables, batch).shape == (2, 5)


def test_images_smaller_than_a_patch_are_told():
    with pytest.raises(InputError, match="3×3 pixels are smaller than one patch of 4×4"):
        models.outline(models.Architecture.of("swin_v2_t", num_classes=5, image_size=3))
