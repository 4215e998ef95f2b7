"""Embeddings of crops, for a selection that wants more than a score (`Recipe.embed`). JAX.

All have the signature `(predict, variables, crops [b, h, w, c], labels [b]) -> [b, features]`:
crops are normalised, `predict(variables, crops) -> logits`.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.linen import avg_pool
from jaxtyping import Array, Float, Int, Key, PyTree

from infoutil_jax.errors import InputError


def teacher_features(
    predict: Callable[[Any, Any], Any],
    variables: PyTree,
    crops: Float[Array | np.ndarray, "batch height width channels"],
    labels: Int[Array | np.ndarray, " batch"],
) -> Float[Array, "batch features"]:
    """What the classifier layer sees of each crop, flattened.

    Raises:
        InputError: `predict` has no method `features(variables, images)`, which those that
            `models.as_predict` returns have.
    """
    del labels
    if not hasattr(predict, "features"):
        raise InputError(
            "teacher_features reads what a model's classifier layer sees: give a predict with the "
            "method features(variables, images), or the recipe an embed function of your own"
        )
    return predict.features(variables, crops).reshape(len(crops), -1)


def untrained_features(
    predict: Callable[[Any, Any], Any],
    variables: PyTree,
    crops: Float[Array | np.ndarray, "batch height width channels"],
    labels: Int[Array | np.ndarray, " batch"],
    *,
    width: int = 64,
    normalised: bool = False,
    seed: int = 0,
) -> Float[Array, "batch features"]:
    """What a convolutional network sees of each crop before it has learnt anything, flattened.

    Two crops that such a network tells apart are two things to learn for a student that starts
    from scratch, whatever the teacher has learnt to overlook. Blocks of a 3×3 convolution with
    normal weights of variance 2 / fan-in (He et al., ICCV 2015), ReLU and a 2×2 average pool,
    until the shorter side is below 8. The teacher is not asked.

    Args:
        predict: not used.
        variables: not used.
        crops: of any size; an odd last row or column is not pooled.
        labels: not used.
        width: channels of every layer.
        normalised: every convolution's channels have zero mean and unit variance, as batch
            normalisation gives them to students, over `pink_noise` instead of a batch.
        seed: of the weights.
    """
    del predict, variables, labels
    seen = jnp.asarray(crops)
    statistics = _pink_statistics(seen.shape[1:], width, seed) if normalised else None

    def normalise(block, seen):
        if statistics is None:
            return seen
        mean, std = statistics[block]
        return (seen - mean) / std

    return _untrained(seen, width, seed, normalise).reshape(len(seen), -1)


def student_features(
    predict: Callable[[Any, Any], Any],
    variables: PyTree,
    crops: Float[Array | np.ndarray, "batch height width channels"],
    labels: Int[Array | np.ndarray, " batch"],
    *,
    width: int = 64,
) -> Float[Array, "batch features"]:
    """What a student starts from, and what it is taught: for `kernel_student.most_useful`.

    Args:
        predict: the teacher that labels.
        variables: its.
        crops: at its input size.
        labels: not used.
        width: of the student's layers.

    Returns:
        `untrained_features`, normalised; the last columns are the teacher's probabilities.
    """
    seen = untrained_features(predict, variables, crops, labels, width=width, normalised=True)
    return jnp.concatenate([seen, jax.nn.softmax(predict(variables, crops))], axis=1)


def pink_noise(
    key: Key[Array, ""], count: int, image_size: tuple[int, int], channels: int
) -> Float[Array, "count height width channels"]:
    """Images without content whose amplitude falls with frequency as that of photographs does.

    That is as 1 / frequency (Field, J. Opt. Soc. Am. A 1987): noise of every octave, alike in
    strength. Four fifths of the variance are common to the channels. Zero mean, unit variance.
    """
    images, side = jnp.zeros((count, *image_size, channels)), 1
    while side <= max(image_size):
        key, grey, colour = jax.random.split(key, 3)
        shape = count, min(side, image_size[0]), min(side, image_size[1])
        noise = jnp.sqrt(0.8) * jax.random.normal(grey, (*shape, 1))
        noise += jnp.sqrt(0.2) * jax.random.normal(colour, (*shape, channels))
        images += jax.image.resize(noise, images.shape, "linear")
        side *= 2
    return (images - images.mean()) / images.std()


def _untrained(seen, width, seed, normalise):
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
def _pink_statistics(shape: tuple[int, int, int], width: int, seed: int):
    """Means and deviations of each block's channels."""
    found = []

    def by_its_own(_, seen):
        found.append((seen.mean((0, 1, 2)), seen.std((0, 1, 2))))
        return (seen - found[-1][0]) / found[-1][1]

    with jax.ensure_compile_time_eval():
        _untrained(pink_noise(jax.random.key(0), 64, shape[:2], shape[2]), width, seed, by_its_own)
    return tuple(found)
