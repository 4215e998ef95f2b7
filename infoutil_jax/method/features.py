"""Embeddings of crops, for a selection that wants more than a score (`Recipe.embed`). JAX.

All have the signature `(predict, variables, crops [b, h, w, c], labels [b]) -> [b, features]`:
crops are normalised, `predict(variables, crops) -> logits`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.linen import avg_pool
from jaxtyping import Array, Float, Int, PyTree

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
        seed: of the weights.
    """
    del predict, variables, labels
    seen = jnp.asarray(crops)
    key = jax.random.key(seed)
    while min(seen.shape[1:3]) >= 8:
        key, drawn = jax.random.split(key)
        kernel = jax.nn.initializers.he_normal()(drawn, (3, 3, seen.shape[3], width))
        seen = jax.lax.conv_general_dilated(
            seen, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        seen = avg_pool(jax.nn.relu(seen), (2, 2), (2, 2))
    return seen.reshape(len(seen), -1)
