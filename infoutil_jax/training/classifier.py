"""A classifier is a function, its variables, and the normalisation of its images (JAX)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from infoutil_jax.data import augment


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network and how its images are normalised.

    Attributes:
        predict: `predict(variables, images) -> logits`, images normalised float32
            `[batch, height, width, channels]`; hashable.
        variables: its arrays, all finite.
        mean: of each channel of its training images, 0 to 1.
        std: likewise, positive.
    """

    predict: Callable[..., Array]
    variables: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def channels(self) -> int:
        """Channels of the images it takes."""
        return len(self.mean)

    def normalise(
        self, pixels: UInt8[Array | np.ndarray, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        """Pixels, 0 to 255, as `predict` takes them: (pixel / 255 - mean) / std."""
        return augment.normalise(pixels, *self.scale())

    def scale(self) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
        """Mean and standard deviation as arrays, for a compiled program to take as arguments.

        So one program serves all classifiers of one architecture.
        """
        return jnp.array(self.mean, jnp.float32), jnp.array(self.std, jnp.float32)
