"""Small steps in pixels against a classifier: FGSM and PGD. JAX, on the device."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, UInt8

from infoutil_jax.blocks import each_block
from infoutil_jax.training.classifier import Classifier


def attacked(
    classifier: Classifier,
    images: UInt8[np.ndarray, "n height width channels"],
    labels: Int[np.ndarray, " n"],
    *,
    size: float,
    steps: int,
    batch_size: int = 256,
) -> Float[np.ndarray, "n classes"]:
    """Logits of images that were moved, pixel by pixel, to where the loss is larger.

    Args:
        classifier: what is attacked, and whose gradient is followed.
        images: pixels.
        labels: their classes.
        size: the most that a channel of a pixel moves, of 255.
        steps: 1 is the fast gradient sign method (Goodfellow et al., ICLR 2015); more are projected
            gradient descent from the image itself (Madry et al., ICLR 2018), 2.5 size / steps each.
        batch_size: images at once.
    """
    run = partial(_attacked, classifier.predict, steps, classifier.variables)
    scale = jnp.asarray(classifier.mean), jnp.asarray(classifier.std)

    def block(rows: Array) -> Array:
        return run(scale, size / 255, images[np.asarray(rows)], labels[np.asarray(rows)])

    return each_block(block, np.arange(len(images)), min(batch_size, len(images)))


@partial(jax.jit, static_argnums=(0, 1))
def _attacked(
    predict: Any, steps: int, variables: Any, scale: Any, size: Any, images: Array, labels: Array
) -> Array:
    pixels, (mean, std) = images.astype(jnp.float32) / 255, scale

    def loss(x: Array) -> Array:
        logits = predict(variables, (x - mean) / std)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).sum()

    length = size if steps == 1 else 2.5 * size / steps

    def step(_: Any, x: Array) -> Array:
        moved = x + length * jnp.sign(jax.grad(loss)(x))
        return jnp.clip(jnp.clip(moved, pixels - size, pixels + size), 0, 1)

    x = jax.lax.fori_loop(0, steps, step, pixels)
    result: Array = predict(variables, (x - mean) / std)
    return result
