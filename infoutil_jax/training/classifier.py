"""A classifier is a function, its variables, and the normalisation of its images (JAX)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Array, Float, UInt8

from infoutil_jax.data.augment import Normalisation
from infoutil_jax.errors import InputError


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network and how its images are normalised.

    Attributes:
        predict: `predict(variables, images) -> logits`, images normalised float32
            `[batch, height, width, channels]`; hashable.
        variables: its arrays, all finite.
        mean: of each channel of its training images, 0 to 1; one alone is every channel's.
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


def checked_scale(owner: str, mean: Any, std: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation as plain numbers, as many of one as of the other.

    Args:
        owner: whose they are, in messages.
        mean: of each channel, or one number for all.
        std: likewise.

    Raises:
        InputError: their numbers differ, or they are not of pixels from 0 to 1.
    """
    plain = [tuple(float(value) for value in np.ravel(given)) for given in (mean, std)]
    channels = max(map(len, plain))
    of_all = [
        one * channels if len(one) == 1 and np.ndim(given) == 0 else one
        for one, given in zip(plain, (mean, std), strict=True)
    ]
    if len(of_all[0]) != len(of_all[1]) or not channels:
        raise InputError(
            f"{owner} has {len(plain[0])} means and {len(plain[1])} standard deviations: give one "
            "of each per channel"
        )
    if not all(value > 0 for value in of_all[1]):
        raise InputError(f"{owner} has std {plain[1]}: each must be positive")
    if any(value > 1 for one in of_all for value in one):
        raise InputError(
            f"{owner} has mean {plain[0]} and std {plain[1]}; they must be of pixels from 0 to 1: "
            "divide those of pixels from 0 to 255 by 255"
        )
    if not all(value >= 0 for value in of_all[0]):
        raise InputError(f"{owner} has mean {plain[0]}: each must be a number from 0 to 1")
    return of_all[0], of_all[1]
