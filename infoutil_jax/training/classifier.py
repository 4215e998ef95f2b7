"""A classifier is a function, its variables, and the normalisation of its images (JAX)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Array, Float, UInt8

from infoutil_jax.data.augment import Normalisation


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
        return self.normalisation(pixels)

    @property
    def normalisation(self) -> Normalisation:
        """The same as a pytree, for a compiled program to take as an argument."""
        return Normalisation.of(self.mean, self.std)
