"""Embeddings of crops: columns that a selector can read beside the score. JAX, runs per image.

An embedding (`contracts.Embed`) has the signature `(predict, variables, crops, labels) -> columns
by name`; crops are normalised, `predict(variables, crops) -> logits`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.linen import avg_pool
from jaxtyping import Array, Float, Int, Key, PyTree

from infoutil_jax.blocks import flattened
from infoutil_jax.errors import InputError
from infoutil_jax.image.resampling import resized
from infoutil_jax.method.contracts import Predict
from infoutil_jax.method.logits import as_logits

Crops = Float[Array | np.ndarray, "batch height width channels"]
Labels = Int[Array | np.ndarray, " batch"]
Statistics = tuple[tuple[Array, Array], ...]


def teacher_features(
    predict: Any, variables: PyTree, crops: Crops, labels: Labels, /
) -> dict[str, Float[Array, "batch features"]]:
    """What the classifier layer sees of each crop, flattened: the column "teacher".

    Raises:
        InputError: `predict` has no method `features(variables, images)`, which those that
            `models.as_predict` returns have.
    """
    if not hasattr(predict, "features"):
        raise InputError(
            "teacher_features reads what a model's classifier layer sees: give a predict with the "
            "method features(variables, images), or the recipe an embed function of your own"
        )
    return {"teacher": flattened(predict.features(variables, crops))}


@dataclass(frozen=True)
class UntrainedFeatures:
    """What a convolutional network sees of each crop before it has learnt anything: "untrained".

    Two crops that such a network tells apart are two things to learn for a student that starts
    from scratch, whatever the teacher has learnt to overlook. Its blocks are a 3×3 convolution with
    normal weights of variance 2 / fan-in (He et al., ICCV 2015), ReLU and a 2×2 average pool, until
    the shorter side is below 8. The teacher is not asked. An odd last row or column is not pooled.

    Attributes:
        width: channels of every layer.
        normalised: each channel of a convolution has zero mean and unit variance over `pink_noise`,
            as batch normalisation gives them to students over a batch.
        seed: of the weights.
    """

    width: int = 64
    normalised: bool = False
    seed: int = 0

    def __call__(
        self, predict: Predict, variables: PyTree, crops: Crops, labels: Labels, /
    ) -> dict[str, Float[Array, "batch features"]]:
        """The column "untrained", flattened; only the crops are read."""
        seen = jnp.asarray(crops)
        statistics = None
        if self.normalised:
            height, width, channels = seen.shape[1:]
            statistics = _pink_statistics((height, width, channels), self.width, self.seed)

        def normalise(block: int, seen: Array) -> Array:
            if statistics is None:
                return seen
            mean, std = statistics[block]
            return (seen - mean) / std

        maps = _untrained(seen, self.width, self.seed, normalise)
        return {"untrained": flattened(maps)}


@dataclass(frozen=True)
class StudentFeatures:
    """What a student starts from, and what it is taught: for `selection.MostUseful`.

    Attributes:
        width: of the student's layers.
    """

    width: int = UntrainedFeatures.width

    def __call__(
        self, predict: Predict, variables: PyTree, crops: Crops, labels: Labels, /
    ) -> dict[str, Float[Array, "batch features"]]:
        """The column "untrained", normalised, and the teacher's "probabilities"."""
        untrained = UntrainedFeatures(width=self.width, normalised=True)
        probabilities = jax.nn.softmax(as_logits(predict)(variables, crops))
        return {**untrained(predict, variables, crops, labels), "probabilities": probabilities}


def pink_noise(
    key: Key[Array, ""], count: int, image_size: tuple[int, int], channels: int
) -> Float[Array, "count height width channels"]:
    """Noise with the spectrum of photographs: its amplitude falls as 1 / frequency.

    Every octave has the same strength (Field, J. Opt. Soc. Am. A 1987). Four fifths of the
    variance are common to all channels. Zero mean, unit variance.
    """
    images, side = jnp.zeros((count, *image_size, channels)), 1
    while side <= max(image_size):
        key, grey, colour = jax.random.split(key, 3)
        shape = count, min(side, image_size[0]), min(side, image_size[1])
        noise = jnp.sqrt(0.8) * jax.random.normal(grey, (*shape, 1))
        noise += jnp.sqrt(0.2) * jax.random.normal(colour, (*shape, channels))
        images += resized(noise, image_size)
        side *= 2
    return (images - images.mean()) / images.std()


def _untrained(
    seen: Array, width: int, seed: int, normalise: Callable[[int, Array], Array]
) -> Array:
    """What comes out of the last block; `normalise(block, seen)` follows each convolution."""
    key, block = jax.random.key(seed), 0
    while min(seen.shape[1:3]) >= 8:
        key, drawn = jax.random.split(key)
        kernel = jax.nn.initializers.he_normal()(drawn, (3, 3, seen.shape[3], width))
        seen = jax.lax.conv_general_dilated(
            seen, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        seen = avg_pool(jax.nn.relu(normalise(block, seen)), (2, 2), (2, 2))
        block += 1
    return seen


@lru_cache(maxsize=8)
def _pink_statistics(shape: tuple[int, int, int], width: int, seed: int) -> Statistics:
    """Means and deviations of each block's channels."""
    found: list[tuple[Array, Array]] = []

    def by_its_own(_: int, seen: Array) -> Array:
        mean, std = seen.mean((0, 1, 2)), seen.std((0, 1, 2))
        found.append((mean, std))
        return (seen - mean) / std

    with jax.ensure_compile_time_eval():
        _untrained(pink_noise(jax.random.key(0), 64, shape[:2], shape[2]), width, seed, by_its_own)
    return tuple(found)
