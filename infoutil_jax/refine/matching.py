"""Distribution matching: DM (JAX).

DM (Zhao & Bilen, WACV 2023): a set whose classes have the mean features of the real
classes, under networks that nobody has trained. With a refiner's `partition` it is what IDM
(Zhao et al., CVPR 2023) does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infoutil_jax.refine.contracts import Batch, Network, Objective, Step, Synthetic


@dataclass(frozen=True)
class DistributionMatching(Objective):
    """DM: squared distances between the mean features of synthetic and real classes, summed.

    Every step draws a new network and one view for both sides. A class that the batch lacks does
    not count.
    """

    def loss(
        self,
        network: Network,
        known: tuple[Any, Any],
        step: Step,
        synthetic: Synthetic,
        batch: Batch,
    ) -> Float[Array, ""]:
        """The distances between means."""
        fresh, view = jax.random.split(step.key)
        variables = network.init(fresh)
        both = network.view(view, synthetic.images), network.view(view, batch.images)
        seen, real = network.features(variables, *both)
        there = batch.classes.sum(0) > 0
        gaps = class_means(seen, synthetic.taught()) - class_means(real, batch.classes)
        return jnp.where(there, (gaps**2).sum(1), 0).sum()


def class_means(
    features: Float[Array, "n dim"], classes: Float[Array, "n classes"]
) -> Float[Array, "classes dim"]:
    """Mean of the features, weighted by how much each row is of a class."""
    return classes.T @ features / jnp.maximum(classes.sum(0)[:, None], 1e-12)
