"""Grids over images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoutil_jax.errors import InputError
from infoutil_jax.image.grid import both, cell_of_pixel, checked_grid, edges


@given(st.integers(1, 300), st.data())
def test_edges_are_those_of_array_split(size, data):
    parts = data.draw(st.integers(1, size))
    sizes = [len(part) for part in np.array_split(np.arange(size), parts)]
    np.testing.assert_array_equal(np.diff(edges(size, parts)), sizes)
    assert edges(size, parts)[0] == 0


@given(st.integers(1, 300), st.data())
def test_every_pixel_lies_between_the_edges_of_its_cell(size, data):
    parts = data.draw(st.integers(1, size))
    border, cell = edges(size, parts), cell_of_pixel(size, parts)
    pixel = np.arange(size)
    assert ((border[cell] <= pixel) & (pixel < border[cell + 1])).all()


def test_one_number_stands_for_both():
    assert both(3) == (3, 3) and both((2, 5)) == (2, 5)
    assert checked_grid(4, (8, 9)) == (4, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: edges(3, 4), "3 pixels cannot be cut into 4 cells"),
        (lambda: edges(3, 0), "use 1 to 3 cells"),
        (lambda: checked_grid((9, 2), (8, 8)), "a 9x2 grid does not fit images of 8x8 pixels"),
    ],
)
def test_bad_input_is_told_in_a_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()
