"""How long training will take here, from a few steps of it (host)."""

from __future__ import annotations

import operator
import time
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from infoutil_jax import models
from infoutil_jax.data.sources import Source
from infoutil_jax.models import Architecture
from infoutil_jax.training.config import BackboneConfig

BATCH, STEPS = 16, 3


def seconds_an_image(config: BackboneConfig, source: Source) -> float:
    """Of training, forward and backward, the fastest of a few steps on noise.

    Args:
        config: of the network.
        source: gives the size of its images, and the number of classes.
    """
    config = config.resolve(source)
    size, classes = source.image_size, len(source.class_names)
    options = tuple(sorted(config.options().items()))
    network = Architecture(config.backbone or "", classes, size, source.channels, options)
    _, apply, stacked = models.initialise(network, (0,))
    variables = jax.tree.map(operator.itemgetter(0), stacked)
    images = jax.random.normal(jax.random.key(0), (BATCH, *size, source.channels))

    def loss(params: Any, images: Array) -> Array:
        logits, _ = apply({**variables, "params": params}, images)
        labels = jnp.zeros(len(images), int)
        losses: Array = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean()

    step, seconds = jax.jit(jax.grad(loss)), []
    for _ in range(1 + STEPS):
        started = time.perf_counter()
        jax.block_until_ready(step(variables["params"], images))
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:]) / BATCH  # the first has compiled it
