"""Which parts of an image does a classifier's output rest on? Images in, patch maps out.

JAX: everything here runs per image, on the device. A map holds one number a patch of a
`grid_h` by `grid_w` grid; where the grid does not divide the image, the first rows and columns of
patches are one pixel larger (`cropping.edges`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Key

from infoutil_jax.errors import InputError
from infoutil_jax.method.patch_games import (
    Output,
    Predict,
    evaluate_patches,
    game_of,
    grid_of,
    label_logits,
)
from infoutil_jax.method.shapley import CoalitionDesign, shapley_values


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


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _patch_shapley(
    predict, output, baseline_fn, grid, batch_size, variables, images, labels, design, baseline
):
    values = evaluate_patches(
        *(predict, output, baseline_fn, grid, batch_size),
        *(variables, images, labels, design.masks, baseline),
    )
    return shapley_values(lambda _: values.T, design).T.reshape(-1, *grid)


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
    shape = grid_of(grid, images.shape)
    features = predict.features(variables, images)
    if features.ndim != 4:
        raise InputError(
            f"predict.features returned an array of shape {features.shape}; Grad-CAM needs maps "
            "of shape [batch, height, width, channels]."
        )

    def score(features):
        return jnp.sum(label_logits(predict.head(variables, features), labels))

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
    return jnp.zeros((len(images), *grid_of(grid, images.shape)))


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
    shape = grid_of(grid, images.shape)
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
