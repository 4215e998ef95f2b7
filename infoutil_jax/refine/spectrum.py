"""Steps in the spectrum of real images instead of in pixels (JAX).

Pixels of real images hang together: most of what varies is coarse. Adam gives every coordinate the
same step, so that among pixels it fills an image with noise first. Here the coordinates are
cosines (the discrete cosine transform, of the colours' principal axes), each in units of its
standard deviation over the pool: the whitening of inputs that FRePo and KIP begin with, for any
size of image, and of the steps alone: students see images as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from infoutil_jax.data.augment import Normalisation
from infoutil_jax.method.contracts import Pool

MEASURED, VALUES = 2000, 2**24
"""Images of the pool, and of their values (64 MiB), at most, that deviations are measured on."""

Images = Float[Array, "n height width channels"]


class Spectrum(NamedTuple):
    """A linear change of coordinates: a pytree of arrays.

    Attributes:
        axes: of colour; columns are orthonormal.
        scale: standard deviation over the pool of each coefficient.
    """

    axes: Float[Array, "channels channels"]
    scale: Float[Array, "height width channels"]

    def gradient(self, pixels: Images) -> Images:
        """The gradient in coefficients, of one in pixels."""
        return self.scale * (_cosines(pixels) @ self.axes)

    def pixels(self, coefficients: Images) -> Images:
        """The change of pixels that a change of coefficients is."""
        found: Array = jax.scipy.fft.idctn(
            (coefficients * self.scale) @ self.axes.T, axes=(1, 2), norm="ortho"
        )
        return found


def measured(pool: Pool, normalise: Normalisation) -> Spectrum:
    """The spectrum of a pool, of as many of its images as may be measured, taken evenly."""
    count, each = len(pool.labels), int(np.prod(pool.images.shape[1:]))
    most = min(count, MEASURED, max(1, VALUES // each))
    rows = np.unique(np.linspace(0, count - 1, most).astype(int))
    images = jnp.asarray(normalise(pool.images[rows]))
    images -= images.mean((0, 1, 2))
    colours = images.reshape(-1, images.shape[3])
    axes = jnp.linalg.eigh(colours.T @ colours / len(colours))[1]
    return Spectrum(axes, jnp.sqrt(((_cosines(images) @ axes) ** 2).mean(0)))


def _cosines(images: Images) -> Images:
    found: Array = jax.scipy.fft.dctn(images, axes=(1, 2), norm="ortho")
    return found
