"""Soft labels: a teacher's logits on crops, and the bias that is taken out of them (host)."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Float32, Int, UInt8

from infoutil_jax.blocks import each_block
from infoutil_jax.data.augment import Normalisation
from infoutil_jax.distillation.config import DistillConfig
from infoutil_jax.errors import InputError
from infoutil_jax.image.resampling import resized
from infoutil_jax.method.contracts import Predict
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.training.teacher import Teacher


def label_crops(
    teacher: Teacher,
    crops: UInt8[np.ndarray, "n height width channels"],
    image_size: tuple[int, int],
    batch_size: int = DistillConfig.batch_size,
) -> Float[np.ndarray, "n classes"]:
    """The teacher's logits on each crop; every crop is resized to the teacher's input by itself."""
    label = partial(_label, teacher.predict, image_size, teacher.variables, teacher.normalisation)
    return each_block(label, crops, batch_size)


@partial(jax.jit, static_argnums=(0, 1))
def _label(
    predict: Predict,
    image_size: tuple[int, int],
    variables: Any,
    normalise: Normalisation,
    crops: Array,
) -> Any:
    return predict(variables, resized(normalise(crops), image_size))


def stored_labels(
    recipe: Recipe, logits: Float[np.ndarray, "n tiles classes"], labels: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "n tiles classes"], dict[str, Any]]:
    """The soft labels that a recipe has stored of a teacher's logits, and what its manifest says.

    Args:
        recipe: may have them centred.
        logits: of the tiles of a set.
        labels: class of each image.

    Raises:
        InputError: logits that are to be centred, and are not finite.
    """
    if not recipe.centred:
        return logits, {}
    soft_labels, offsets = centred(logits, labels)
    return soft_labels, {"label_offsets": offsets.tolist()}


def centred(
    logits: Float[np.ndarray, "n tiles classes"], labels: Int[np.ndarray, " n"]
) -> tuple[Float32[np.ndarray, "n tiles classes"], Float32[np.ndarray, " classes"]]:
    """Logits of which no class has more than another on the mean over a set, each class as much.

    A teacher that is surer of one class than of another says so on every crop that is kept. At a
    high temperature, where soft labels are nearly linear in the logits, a student learns that
    preference with all else, and its boundary between the classes moves. In a set all classes
    weigh the same, so their means are taken for a bias, and are made the same (logit adjustment,
    Menon et al., ICLR 2021, takes the prior of the classes out of what a network says likewise).

    Args:
        logits: a teacher's, of the tiles of a set.
        labels: class of each image. Its classes are averaged over, however many images each has.

    Returns:
        The logits less the mean, and the mean that was taken from each class.

    Raises:
        InputError: a logit that is not finite.
    """
    for image, tile, column in np.argwhere(~np.isfinite(logits))[:1]:
        raise InputError(
            f"the teacher's logit of class {column} at tile {tile} of image {image} of the set is "
            f"{logits[image, tile, column]}; it should be finite"
        )
    classes = np.unique(labels)
    means = [logits[labels == label].mean((0, 1), dtype=np.float64) for label in classes]
    offsets = np.mean(means, axis=0).astype(np.float32)
    return (logits - offsets).astype(np.float32), offsets
