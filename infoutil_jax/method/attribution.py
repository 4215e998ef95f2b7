"""Which parts of an image does a classifier's output rest on? Images in, patch maps out.

JAX: everything here runs per image, on the device. A map holds one number a patch of a
`grid_h` by `grid_w` grid; where the grid does not divide the image, the first rows and columns of
patches are one pixel larger (`image.grid.edges`). The classes are a recipe's `attribute`
(`contracts.Attribute`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Key

from infoutil_jax.errors import InputError
from infoutil_jax.image.grid import checked_grid
from infoutil_jax.image.resampling import resized
from infoutil_jax.method.contracts import Predict
from infoutil_jax.method.logits import check_labels, logits_of
from infoutil_jax.method.patch_game import MASKED_BATCH, Output, label_logits, patch_game
from infoutil_jax.shapley import CoalitionDesign, shapley_values

Images = Float[Array | np.ndarray, "batch height width channels"]
Labels = Integer[Array | np.ndarray, " batch"]
Maps = Float[Array, "batch grid_h grid_w"]


def patch_shapley(
    predict: Predict,
    variables: Any,
    images: Images,
    labels: Labels | None,
    design: CoalitionDesign,
    *,
    grid: int | tuple[int, int],
    baseline: Any = 0.0,
    output: str | Output = "logit",
    batch_size: int = MASKED_BATCH,
) -> Maps:
    """Shapley values of an image's patches (InfoUtil, Section 4.1).

    `shapley_values(patch_game(...), design)`, as maps: `len(design.masks)` forward passes an image
    and one small matrix product, for all images share the design's coalitions.

    Args:
        predict: as in `patch_game`, as are the next three, and `baseline` to `batch_size`.
        variables: a pytree.
        images: normalised images.
        labels: the class whose output is explained; None explains the predicted class.
        design: coalitions of `grid_h * grid_w` players and the estimator's matrix.
        grid: patches a side, or (rows, columns).
        baseline: what an absent patch shows.
        output: what a coalition is worth.
        batch_size: masked images in flight at once.

    Returns:
        One value a patch. They sum to the output on the image less that on the baseline.

    Raises:
        InputError: the design, the grid, the baseline or the output do not fit.
    """
    game = patch_game(
        predict,
        variables,
        images,
        labels,
        grid=grid,
        baseline=baseline,
        output=output,
        batch_size=batch_size,
    )
    return shapley_values(game, design).T.reshape(len(game), *game.grid)


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
        result: np.ndarray = (kernel / kernel.sum(axis=1, keepdims=True)).astype(np.float32)
        return result

    rows, columns = weights(images.shape[1]), weights(images.shape[2])
    return jnp.einsum("ih,bhwc,jw->bijc", rows, images, columns)


def darkest(
    images: Float[Array, "batch height width channels"],
) -> Float[Array, "batch 1 1 channels"]:
    """A baseline of each image's lowest value in each channel: black, where an image has some.

    Args:
        images: normalised images.
    """
    return images.min((1, 2), keepdims=True)


BASELINES: Mapping[str, Any] = {"mean": 0.0, "blur": blurred, "dark": darkest}
"""What an absent patch shows, by a name: the mean colour (paper), the image itself blurred, or its
lowest values."""


def grad_cam(
    predict: Any,
    variables: Any,
    images: Images,
    labels: Labels,
    *,
    grid: int | tuple[int, int],
) -> Maps:
    """Grad-CAM (Selvaraju et al. 2017, eqs. 1, 2), resized to the grid by antialiased averaging.

    The library sees a model through `predict` alone, except here: Grad-CAM reads the last
    convolutional activations, so `predict` must offer `predict.features(variables, images)` ->
    `[batch, h, w, channels]` and `predict.head(variables, features)` -> logits. Those that
    `models.as_predict` returns do.

    Raises:
        InputError: `predict` lacks one of the two, the features are not maps, or a label is no
            class.
    """
    if not (hasattr(predict, "features") and hasattr(predict, "head")):
        raise InputError(
            "grad_cam reads a model's last convolutional maps: give a predict with the methods "
            "features(variables, images) and head(variables, features)."
        )
    shape = checked_grid(grid, (images.shape[1], images.shape[2]))
    features = predict.features(variables, images)
    if features.ndim != 4:
        raise InputError(
            f"predict.features returned an array of shape {features.shape}; Grad-CAM needs maps "
            "of shape [batch, height, width, channels]."
        )

    one = jax.ShapeDtypeStruct((1, *features.shape[1:]), features.dtype)
    logits = jax.eval_shape(lambda *args: logits_of(predict.head(*args)), variables, one)
    check_labels(labels, len(features), logits)

    def score(features: Array) -> Array:
        logits = logits_of(predict.head(variables, features))
        return jnp.sum(label_logits(logits, jnp.asarray(labels)))

    weights = jnp.mean(jax.grad(score)(features), axis=(1, 2), keepdims=True)
    maps = jax.nn.relu(jnp.sum(weights * features, axis=-1))
    return resized(maps[..., None], shape)[..., 0]


@dataclass(frozen=True)
class GradCam:
    """`grad_cam` as a recipe's `attribute`.

    Attributes:
        grid: patches a side, or (rows, columns).
    """

    grid: int | tuple[int, int] = 4

    def __call__(
        self,
        predict: Any,
        variables: Any,
        images: Images,
        labels: Labels,
        keys: Key[Array, " batch"] | None = None,
        /,
    ) -> Maps:
        """As `grad_cam`; `keys` is not used."""
        return grad_cam(predict, variables, images, labels, grid=self.grid)


@dataclass(frozen=True)
class UniformMaps:
    """No patch matters more than another: the attribution of methods that have none.

    Attributes:
        grid: patches a side, or (rows, columns).
    """

    grid: int | tuple[int, int] = 1

    def __call__(
        self,
        predict: Any,
        variables: Any,
        images: Images,
        labels: Labels,
        keys: Key[Array, " batch"] | None = None,
        /,
    ) -> Maps:
        """Zeros; only the shape of the images is read."""
        return jnp.zeros(
            (len(images), *checked_grid(self.grid, (images.shape[1], images.shape[2])))
        )


@dataclass(frozen=True)
class RandomMaps:
    """Standard normal values: the attribution that knows nothing.

    Attributes:
        grid: patches a side, or (rows, columns).
    """

    grid: int | tuple[int, int] = 4

    def __call__(
        self,
        predict: Any,
        variables: Any,
        images: Images,
        labels: Labels,
        keys: Key[Array, " batch"],
        /,
    ) -> Maps:
        """Each image's map is drawn from its own key."""
        shape = checked_grid(self.grid, (images.shape[1], images.shape[2]))
        return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
