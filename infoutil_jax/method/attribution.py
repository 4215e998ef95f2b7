"""Which parts of an image does a classifier's output rest on? Images in, patch maps out.

JAX: everything here runs per image, on the device. A map holds one number a patch of a
`grid_h` by `grid_w` grid; where the grid does not divide the image, the first rows and columns of
patches are one pixel larger (`cropping.edges`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Key

from infoutil_jax.errors import InputError
from infoutil_jax.method.cropping import edges
from infoutil_jax.method.shapley import CoalitionDesign, shapley_values

Predict = Callable[[Any, Array], Array]
Output = Callable[[Array, Array], Array]


def _logit(logits: Array, labels: Array) -> Array:
    return jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]


def _probability(logits: Array, labels: Array) -> Array:
    return _logit(jax.nn.softmax(logits), labels)


def _log_probability(logits: Array, labels: Array) -> Array:
    return _logit(jax.nn.log_softmax(logits), labels)


OUTPUTS: dict[str, Output] = {
    "logit": _logit,
    "probability": _probability,
    "log_probability": _log_probability,
}


def patch_shapley(
    predict: Predict,
    variables: Any,
    images: Float[Array | np.ndarray, "batch height width channels"],
    labels: Integer[Array | np.ndarray, " batch"] | None,
    design: CoalitionDesign,
    *,
    grid: int | tuple[int, int],
    baseline: Any = 0.0,
    output: str | Output = "logit",
    batch_size: int = 256,
) -> Float[Array, "batch grid_h grid_w"]:
    """Shapley values of an image's patches: the game of InfoUtil's stage 1 (Section 4.1).

    The players are the patches; a coalition is worth a scalar output of the classifier on the
    image whose other patches show the baseline. All images share the design's coalitions, so that
    this is `len(design.masks)` forward passes an image and one small matrix product.

    Args:
        predict: `predict(variables, images) -> logits [batch, classes]`; any pure function.
        variables: what `predict` takes, a pytree.
        images: normalised images, as `predict` takes them.
        labels: the class whose output is explained; None explains the predicted class.
        design: coalitions of `grid_h * grid_w` players and the estimator's matrix.
        grid: patches a side, or (rows, columns). Need not divide the image.
        baseline: what a missing patch shows: a scalar (0 is the mean colour of normalised
            images, as in the paper), a colour [channels], an image [height, width, channels], an
            image for each [batch, height, width, channels], or a function of the images, such as
            `blurred`.
        output: "logit" (Captum's default), "probability", "log_probability", or a function
            `(logits [n, classes], labels [n]) -> [n]`.
        batch_size: masked images in flight at once; bounds the memory.

    Returns:
        One value a patch. They sum to the output on the image less that on the baseline.

    Raises:
        InputError: the design, the grid, the baseline or the output do not fit.
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it must be at least 1.")
    game = game_of(images, design.masks.shape[1], grid, baseline, output)
    return _patch_shapley(
        predict,
        *game.static,
        batch_size,
        variables,
        jnp.asarray(images),
        None if labels is None else jnp.asarray(labels),
        design,
        game.baseline,
    )


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
    grid_h, grid_w = _grid(grid, images.shape)
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


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _patch_shapley(
    predict, output, baseline_fn, grid, batch_size, variables, images, labels, design, baseline
):
    if labels is None:
        labels = jnp.argmax(predict(variables, images), axis=-1)
    baseline = jnp.broadcast_to(baseline_fn(images) if baseline_fn else baseline, images.shape)

    def explain(block):
        images, labels, absent = block

        # One batch of coalitions × images, rather than vmap over both: `predict` then sees the
        # batches it was made for, and costs what plain forward passes cost.
        def values_of(masks):
            shown = painted(masks[:, None], images, absent, grid)
            logits = predict(variables, shown.reshape(-1, *images.shape[1:]))
            return output(logits, jnp.tile(labels, len(masks))).reshape(len(masks), len(labels))

        def values(masks):
            return _in_blocks(values_of, masks, max(1, batch_size // len(labels)))

        return shapley_values(values, design).T.reshape(-1, *grid)

    return _in_blocks(explain, (images, labels, baseline), batch_size)


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


def _grid(grid: int | tuple[int, int], shape: tuple[int, ...]) -> tuple[int, int]:
    grid_h, grid_w = (grid, grid) if isinstance(grid, int) else grid
    if not (1 <= grid_h <= shape[1] and 1 <= grid_w <= shape[2]):
        raise InputError(
            f"a {grid_h}x{grid_w} grid does not fit images of {shape[1]}x{shape[2]} pixels: "
            "every patch needs at least one pixel."
        )
    return grid_h, grid_w


def blurred(
    images: Float[Array, "batch height width channels"], sigma: float = 0.125
) -> Float[Array, "batch height width channels"]:
    """A baseline that keeps the colours and loses the shapes (Fong & Vedaldi 2017).

    Args:
        images: normalised images.
        sigma: standard deviation of the Gaussian, as a fraction of the image's longer side.

    Returns:
        The images, blurred; the weights at a border are renormalised over the image.
    """

    def weights(size: int) -> np.ndarray:
        offset = np.subtract.outer(np.arange(size), np.arange(size))
        kernel = np.exp(-0.5 * (offset / (sigma * max(images.shape[1:3]))) ** 2)
        return (kernel / kernel.sum(axis=1, keepdims=True)).astype(np.float32)

    rows, columns = weights(images.shape[1]), weights(images.shape[2])
    return jnp.einsum("ih,bhwc,jw->bijc", rows, images, columns)


def grad_cam(
    predict: Any,
    variables: Any,
    images: Float[Array, "batch height width channels"],
    labels: Integer[Array, " batch"],
    keys: Key[Array, " batch"] | None = None,
    *,
    grid: int | tuple[int, int],
) -> Float[Array, "batch grid_h grid_w"]:
    """Grad-CAM (Selvaraju et al. 2017, eqs. 1, 2), resized to the grid by antialiased averaging.

    A model is seen through `predict` alone, except here: Grad-CAM reads the last convolutional
    activations, so `predict` must offer `predict.features(variables, images)` ->
    [batch, h, w, channels] and `predict.head(variables, features)` -> logits. Those that
    `models.as_predict` returns do. `keys` is not used.

    Raises:
        InputError: `predict` lacks one of the two, or the features are not maps.
    """
    if not (hasattr(predict, "features") and hasattr(predict, "head")):
        raise InputError(
            "grad_cam reads a model's last convolutional maps: give a predict with the methods "
            "features(variables, images) and head(variables, features)."
        )
    shape = _grid(grid, images.shape)
    features = predict.features(variables, images)
    if features.ndim != 4:
        raise InputError(
            f"predict.features returned an array of shape {features.shape}; Grad-CAM needs maps "
            "of shape [batch, height, width, channels]."
        )

    def score(features):
        return jnp.sum(_logit(predict.head(variables, features), labels))

    weights = jnp.mean(jax.grad(score)(features), axis=(1, 2), keepdims=True)
    maps = jax.nn.relu(jnp.sum(weights * features, axis=-1))
    return jax.image.resize(maps, (len(images), *shape), "linear")


def uniform_maps(
    predict: Any,
    variables: Any,
    images: Float[Array, "batch height width channels"],
    labels: Integer[Array, " batch"],
    keys: Key[Array, " batch"] | None = None,
    *,
    grid: int | tuple[int, int],
) -> Float[Array, "batch grid_h grid_w"]:
    """No patch matters more than another: the attribution of methods that have none."""
    return jnp.zeros((len(images), *_grid(grid, images.shape)))


def random_maps(
    predict: Any,
    variables: Any,
    images: Float[Array, "batch height width channels"],
    labels: Integer[Array, " batch"],
    keys: Key[Array, " batch"],
    *,
    grid: int | tuple[int, int],
) -> Float[Array, "batch grid_h grid_w"]:
    """Standard normal values from each image's own key: the attribution that knows nothing."""
    shape = _grid(grid, images.shape)
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
