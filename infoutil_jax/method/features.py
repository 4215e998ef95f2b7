"""Embeddings of crops: columns that a selector can read beside the score. JAX, runs per image.

An embedding (`contracts.Embed`) has the signature `(predict, variables, crops, labels) -> columns
by name`; crops are normalised, `predict(variables, crops) -> logits`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache, partial
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
Kernels = tuple[Array, ...]
Statistics = tuple[tuple[Array, Array], ...]

NOISE = 1 << 22
"""Pixels, at most, over which an untrained network is normalised: 64 images of 256 a side."""


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
        seen = jnp.asarray(crops, jnp.float32)  # as its weights are, whatever JAX's default
        height, width, channels = seen.shape[1:]
        network = (height, width, channels), self.width, self.seed
        statistics = _pink_statistics(*network) if self.normalised else None
        return {"untrained": flattened(_untrained(seen, _kernels(*network), statistics))}


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
    images, side = jnp.zeros((count, *image_size, channels), jnp.float32), 1
    while side <= max(image_size):
        key, *keys = jax.random.split(key, 3)
        grey, colour = (_normal(one, images.size) for one in keys)
        images = _with_octave(images, grey, colour, side)
        side *= 2
    standard: Array = _standardised(images)
    return standard


@partial(jax.jit, static_argnums=1)
def _normal(key: Key[Array, ""], count: int) -> Float[Array, " count"]:
    """One program for whatever is drawn: the first values are the same for any count.

    So they are of JAX's partitionable random numbers, which are its default.
    """
    drawn: Array = jax.random.normal(key, (count,), jnp.float32)
    return drawn


@partial(jax.jit, static_argnums=3)
def _with_octave(images: Crops, grey: Array, colour: Array, side: int) -> Crops:
    """The images, and noise of so many pixels a side over the whole of each."""
    count, height, width, channels = images.shape
    shape = count, min(side, height), min(side, width)
    noise = jnp.sqrt(0.8) * grey[: math.prod(shape)].reshape(*shape, 1)
    noise += jnp.sqrt(0.2) * colour[: math.prod(shape) * channels].reshape(*shape, channels)
    return images + resized(noise, (height, width)).astype(images.dtype)


@jax.jit
def _standardised(images: Crops) -> Crops:
    return (images - images.mean()) / images.std()


def _untrained(seen: Array, kernels: Kernels, statistics: Statistics | None = None) -> Array:
    """What comes out of the last block; statistics normalise what each convolution gives."""
    for block, kernel in enumerate(kernels):
        seen = _convolved(seen, kernel)
        if statistics is not None:
            mean, std = statistics[block]
            seen = (seen - mean) / std
        seen = _pooled(seen)
    return seen


def _convolved(seen: Array, kernel: Array) -> Array:
    return jax.lax.conv_general_dilated(
        seen, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _pooled(seen: Array) -> Array:
    pooled: Array = avg_pool(jax.nn.relu(seen), (2, 2), (2, 2))
    return pooled


@lru_cache(maxsize=8)
def _kernels(shape: tuple[int, int, int], width: int, seed: int) -> Kernels:
    """Of each block, while the shorter side is 8 or more. Drawn here, they compile once."""
    found: list[Array] = []
    side, channels = min(shape[:2]), shape[2]
    he_normal = jax.nn.initializers.he_normal()
    with jax.ensure_compile_time_eval():
        key = jax.random.key(seed)
        while side >= 8:
            key, drawn = jax.random.split(key)
            found.append(he_normal(drawn, (3, 3, channels, width), jnp.float32))
            side, channels = side // 2, width
    return tuple(found)


@lru_cache(maxsize=8)
def _pink_statistics(shape: tuple[int, int, int], width: int, seed: int) -> Statistics:
    """Means and deviations of each block's channels."""
    with jax.ensure_compile_time_eval():
        # Of large images fewer have as many pixels, and need no more memory.
        count = max(1, min(64, NOISE // (shape[0] * shape[1])))
        noise = pink_noise(jax.random.key(0), count, shape[:2], shape[2])
        found: Statistics = _measured(noise, _kernels(shape, width, seed))
    return found


@jax.jit
def _measured(seen: Array, kernels: Kernels) -> Statistics:
    """Of images that are normalised by their own."""
    found = []
    for kernel in kernels:
        seen = _convolved(seen, kernel)
        mean, std = seen.mean((0, 1, 2)), seen.std((0, 1, 2))
        found.append((mean, std))
        seen = _pooled((seen - mean) / std)
    return tuple(found)
