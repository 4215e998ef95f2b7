"""Random boxes: inside, of the area and shape asked for, everywhere alike."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoutil_jax.errors import InputError
from infoutil_jax.image.boxes import TRIES, check_scale, random_resized_boxes


def boxes(count, size, scale=(0.08, 1.0), ratio=(1.0, 1.0)):
    chance = jax.random.uniform(jax.random.key(0), (count, 2 * TRIES + 2))
    return np.asarray(random_resized_boxes(chance, size, scale, ratio))


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([(1.0, 1.0), (0.75, 4 / 3)]))
@settings(deadline=None, max_examples=25)
def test_every_box_lies_in_its_image(height, width, ratio):
    found = boxes(64, (height, width), ratio=ratio)
    assert (found[:, :2] >= 0).all() and (found[:, 2:] >= 1).all()
    assert (found[:, :2] + found[:, 2:] <= (height, width)).all()


def test_areas_are_uniform_and_shapes_within_the_ratio():
    found = boxes(4000, (400, 400), (0.2, 0.6), (0.5, 2.0))
    areas = found[:, 2] * found[:, 3] / 400**2
    np.testing.assert_allclose(np.quantile(areas, [0, 0.5, 1]), [0.2, 0.4, 0.6], atol=0.02)
    shapes = found[:, 3] / found[:, 2]
    assert (shapes > 0.49).all() and (shapes < 2.04).all()
    assert abs(np.log(shapes).mean()) < 0.03


def test_the_whole_area_of_a_square_is_the_image():
    np.testing.assert_array_equal(boxes(9, (32, 32), (1.0, 1.0)), [[0, 0, 32, 32]] * 9)


def test_where_nothing_fits_the_largest_central_box_is_taken():
    np.testing.assert_array_equal(boxes(3, (20, 60), (1.0, 1.0)), [[0, 20, 20, 20]] * 3)
    found = boxes(3, (20, 60), (1.0, 1.0), (0.75, 4 / 3))
    np.testing.assert_array_equal(found, [[0, 16, 20, 27]] * 3)


@pytest.mark.parametrize("scale", [(0.0, 1.0), (0.5, 0.1), (0.5, 1.5)])
def test_a_scale_is_two_shares(scale):
    with pytest.raises(InputError, match="give two shares of the area"):
        check_scale(scale)
