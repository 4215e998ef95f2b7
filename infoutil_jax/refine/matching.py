"""Distribution matching: DM, with IDM's partition (JAX).

DM (Zhao & Bilen, WACV 2023): a set whose classes have the mean features of the real
classes, under networks that nobody has trained. IDM (Zhao et al., CVPR 2023) makes
every image hold several, each enlarged before it is looked at: our tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infoutil_jax.image.resampling import resized
from infoutil_jax.refine.contracts import Batch, Network, Objective, Step, Synthetic


@dataclass(frozen=True)
class DistributionMatching(Objective):
    """DM: squared distances between the mean features of synthetic and real classes, summed.

    Every step draws a new network and one view for both sides. A class that the batch lacks does
    not count.

    Attributes:
        partition: tiles are looked at one by one, enlarged, as in IDM; else the image as it is.
    """

    partition: bool = False

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
        images, taught = synthetic.images, synthetic.taught()
        if self.partition:
            images, taught = parted(synthetic)
        both = network.view(view, images), network.view(view, batch.images)
        seen, real = network.features(variables, *both)
        there = batch.classes.sum(0) > 0
        gaps = class_means(seen, taught) - class_means(real, batch.classes)
        return jnp.where(there, (gaps**2).sum(1), 0).sum()


def class_means(
    features: Float[Array, "n dim"], classes: Float[Array, "n classes"]
) -> Float[Array, "classes dim"]:
    """Mean of the features, weighted by how much each row is of a class."""
    return classes.T @ features / jnp.maximum(classes.sum(0)[:, None], 1e-12)


def parted(
    synthetic: Synthetic,
) -> tuple[Float[Array, "parts height width channels"], Float[Array, "parts classes"]]:
    """Every tile as an image of its own, enlarged, and what it is taken to be."""
    images, probabilities = synthetic.images, synthetic.probabilities
    count, height, width, channels = images.shape
    tiles = probabilities.shape[1]
    side = round(tiles**0.5)
    cells = images.reshape(count, side, height // side, side, width // side, channels)
    cells = cells.swapaxes(2, 3).reshape(-1, height // side, width // side, channels)
    return resized(cells, (height, width)), probabilities.reshape(count * tiles, -1)
