"""The game of an image: players are patches, a coalition is worth an output of the classifier.

JAX, on the device, for a batch of images at once. `attribution` makes maps of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from infoutil_jax.errors import InputError
from infoutil_jax.method.cropping import edges

Predict = Callable[[Any, Array], Array]
Output = Callable[[Array, Array], Array]


def label_logits(logits: Array, labels: Array) -> Array:
    """The logit of each row's label."""
    return jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]


def _probability(logits: Array, labels: Array) -> Array:
    return label_logits(jax.nn.softmax(logits), labels)


def _log_probability(logits: Array, labels: Array) -> Array:
    return label_logits(jax.nn.log_softmax(logits), labels)


OUTPUTS: dict[str, Output] = {
    "logit": label_logits,
    "probability": _probability,
    "log_probability": _log_probability,
}


@lru_cache(maxsize=32)
def computing_in(predict: Predict, dtype: str) -> Predict:
    """`predict` with its images and floating-point variables in another precision.

    Half of the bytes, and on most accelerators twice the speed, in "bfloat16". A model that fixes
    its own precision keeps it. The logits come back in float32. The same arguments give the same
    function, so that nothing compiles twice.
    """

    def cast(leaf):
        leaf = jnp.asarray(leaf)
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    def predict_in_dtype(variables, images):
        return predict(jax.tree.map(cast, variables), cast(images)).astype(jnp.float32)

    return predict_in_dtype


def patch_values(
    predict: Predict,
    variables: Any,
    images: Float[Array | np.ndarray, "batch height width channels"],
    labels: Integer[Array | np.ndarray, " batch"] | None,
    masks: Bool[Array | np.ndarray, "coalitions players"],
    *,
    grid: int | tuple[int, int],
    baseline: Any = 0.0,
    output: str | Output = "logit",
    batch_size: int = 256,
) -> Float[Array, "batch coalitions"]:
    """What each coalition of patches is worth in each image: the game of `patch_shapley`.

    Args:
        predict: as in `patch_shapley`, as is everything else.
        variables: a pytree.
        images: normalised images.
        labels: the class whose output is the value; None for the predicted one.
        masks: which patches each coalition holds, row by row of the grid.
        grid: patches a side, or (rows, columns).
        baseline: what a missing patch shows.
        output: what a coalition is worth.
        batch_size: masked images in flight at once.

    Raises:
        InputError: as `patch_shapley`.
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it must be at least 1.")
    game = game_of(images, masks.shape[1], grid, baseline, output)
    return evaluate_patches(
        predict,
        *game.static,
        batch_size,
        variables,
        jnp.asarray(images),
        None if labels is None else jnp.asarray(labels),
        jnp.asarray(masks),
        game.baseline,
    )


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def evaluate_patches(
    predict, output, baseline_fn, grid, batch_size, variables, images, labels, masks, baseline
):
    """`patch_values` of checked arguments."""
    if labels is None:
        labels = jnp.argmax(predict(variables, images), axis=-1)
    baseline = jnp.broadcast_to(baseline_fn(images) if baseline_fn else baseline, images.shape)

    def evaluate(block):
        images, labels, absent = block

        # One batch of coalitions × images, rather than vmap over both: `predict` then sees the
        # batches it was made for, and costs what plain forward passes cost.
        def values_of(masks):
            shown = painted(masks[:, None], images, absent, grid)
            logits = predict(variables, shown.reshape(-1, *images.shape[1:]))
            return output(logits, jnp.tile(labels, len(masks))).reshape(len(masks), len(labels))

        return _in_blocks(values_of, jnp.asarray(masks), max(1, batch_size // len(labels))).T

    return _in_blocks(evaluate, (images, labels, baseline), batch_size)


class Game(NamedTuple):
    """The checked arguments of a game on patches."""

    static: tuple[Output, Callable[[Array], Array] | None, tuple[int, int]]
    """The output, the baseline if it is a function, the grid."""
    baseline: Array | None
    """The baseline if it is not a function."""


def game_of(images: Any, players: int, grid: Any, baseline: Any, output: Any) -> Game:
    """The arguments of `patch_shapley`, checked.

    Raises:
        InputError: as there.
    """
    grid_h, grid_w = grid_of(grid, images.shape)
    if players != grid_h * grid_w:
        raise InputError(
            f"the coalition design has {players} players but a {grid_h}x{grid_w} grid has "
            f"{grid_h * grid_w}: "
            f"make it with coalition_design({grid_h * grid_w}, ..., grid=({grid_h}, {grid_w}))."
        )
    if not callable(output) and output not in OUTPUTS:
        raise InputError(f"unknown output {output!r}: choose {', '.join(OUTPUTS)} or a function.")
    if not callable(baseline):
        baseline = jnp.asarray(baseline, images.dtype)
        try:
            fits = np.broadcast_shapes(baseline.shape, images.shape) == images.shape
        except ValueError:
            fits = False
        if not fits:
            raise InputError(
                f"a baseline of shape {baseline.shape} does not fit images of shape "
                f"{images.shape}: give a scalar, a colour, an image, or one image for each."
            )
    return Game(
        (
            OUTPUTS[output] if isinstance(output, str) else output,
            baseline if callable(baseline) else None,
            (grid_h, grid_w),
        ),
        None if callable(baseline) else baseline,
    )


def painted(
    masks: Bool[Array, "*#batch players"],
    images: Float[Array, "*#batch height width channels"],
    absent: Float[Array, "*#batch height width channels"],
    grid: tuple[int, int],
) -> Float[Array, "*all height width channels"]:
    """The images with the patches of each coalition, what is absent elsewhere."""
    rows = _patch_of_pixel(images.shape[-3], grid[0])
    columns = _patch_of_pixel(images.shape[-2], grid[1])
    present = masks.reshape(*masks.shape[:-1], *grid)[..., rows, :][..., columns, None]
    return jnp.where(present, images, absent)


def _in_blocks(function: Callable[[Any], Array], rows: Any, most: int) -> Array:
    """`function` over blocks of at most `most` rows, one after the other, all of one size.

    The last rows are repeated where the blocks do not come out even.
    """
    count = jax.tree.leaves(rows)[0].shape[0]
    blocks = max(1, -(-count // most))
    size = -(-count // blocks)
    index = np.minimum(np.arange(blocks * size), count - 1).reshape(blocks, size)
    results = jax.lax.map(function, jax.tree.map(lambda leaf: leaf[index], rows))
    return results.reshape(blocks * size, *results.shape[2:])[:count]


def _patch_of_pixel(size: int, parts: int) -> np.ndarray:
    return np.repeat(np.arange(parts), np.diff(edges(size, parts)))


def grid_of(grid: int | tuple[int, int], shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a grid that fits images of that shape.

    Raises:
        InputError: it does not.
    """
    grid_h, grid_w = (grid, grid) if isinstance(grid, int) else grid
    if not (1 <= grid_h <= shape[1] and 1 <= grid_w <= shape[2]):
        raise InputError(
            f"a {grid_h}x{grid_w} grid does not fit images of {shape[1]}x{shape[2]} pixels: "
            "every patch needs at least one pixel."
        )
    return grid_h, grid_w
