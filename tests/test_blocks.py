"""Blocks: every row once, in order, whatever the size."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoutil_jax.blocks import block_rows, each_block, map_blocks, padded


@given(st.integers(1, 50), st.integers(1, 60))
def test_the_rows_come_in_order_and_the_last_fills_up(count, size):
    rows = block_rows(count, size)
    assert rows.shape == (-(-count // size), size)
    np.testing.assert_array_equal(rows.ravel()[:count], np.arange(count))
    assert (rows.ravel()[count:] == count - 1).all()


@pytest.mark.parametrize("most", [1, 3, 4, 100])
def test_a_function_sees_no_more_than_it_should_and_every_row_once(most):
    rows = {"a": jnp.arange(10.0), "b": jnp.ones((10, 2))}
    seen = []

    def function(block):
        seen.append(len(block["a"]))
        return block["a"] + block["b"].sum(1)

    np.testing.assert_array_equal(map_blocks(function, rows, most), np.arange(10) + 2)
    assert max(seen) <= most
    assert {len(np.unique(seen))} == {1}

    host = each_block(lambda block: block * 2, np.arange(10), most)
    np.testing.assert_array_equal(host, np.arange(10) * 2)


def test_a_block_is_filled_up_with_its_last_row():
    np.testing.assert_array_equal(padded(np.array([[1, 2], [3, 4]]), 4), [[1, 2], *[[3, 4]] * 3])
    whole = np.ones((3, 2))
    assert padded(whole, 3) is whole
