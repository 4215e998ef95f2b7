"""Rows in blocks of one size, so that one compiled program serves any number of them.

The last row is repeated where the last block would be short, and what comes of the copies is
dropped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, Shaped


def block_rows(count: int, size: int) -> Int[np.ndarray, "blocks size"]:
    """Numbers of the rows of each block.

    Args:
        count: rows, at least one.
        size: rows of a block.
    """
    blocks = -(-count // size)
    return np.minimum(np.arange(blocks * size), count - 1).reshape(blocks, size)


def padded(rows: Shaped[np.ndarray, "count ..."], size: int) -> Shaped[np.ndarray, "size ..."]:
    """One block of at most `size` rows, filled up."""
    return rows[block_rows(len(rows), size)[0]] if len(rows) < size else rows


def flattened(rows: Shaped[Array, "count ..."]) -> Shaped[Array, "count numbers"]:
    """Each row as one vector; there may be no rows."""
    return rows.reshape(len(rows), math.prod(rows.shape[1:]))


def map_blocks(function: Callable[[Any], Array], rows: PyTree, most: int) -> Array:
    """`function` of blocks of at most `most` rows, one after the other; on the device.

    Args:
        function: from a pytree of arrays with one leading axis to an array with that axis.
        rows: such a pytree; its blocks are as even as can be.
        most: rows in memory at once.
    """
    count = jax.tree.leaves(rows)[0].shape[0]
    if not count:
        one = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape[1:]), leaf.dtype), rows
        )
        like = jax.eval_shape(function, one)
        return jnp.zeros((0, *like.shape[1:]), like.dtype)
    size = -(-count // max(1, -(-count // most)))
    index = block_rows(count, size)
    results = jax.lax.map(function, jax.tree.map(lambda leaf: leaf[index], rows))
    result: Array = results.reshape(-1, *results.shape[2:])[:count]
    return result


def each_block(
    function: Callable[[Any], Any], rows: Any, size: int
) -> Float[np.ndarray, "count ..."]:
    """`function` of blocks of `size` rows, called from the host; its results as float32.

    So an image's result does not depend on how many others come with it.

    Args:
        function: of an array of rows.
        rows: an array, or what gives an array for an array of row numbers.
        size: rows of a block.
    """
    some = rows if len(rows) else np.zeros((1, *rows.shape[1:]), rows.dtype)
    results = [function(some[index]) for index in block_rows(len(some), size)]
    return np.concatenate([np.asarray(result, np.float32) for result in results])[: len(rows)]
