"""Steps in the spectrum of real images instead of in pixels (JAX).

Pixels of real images hang together: most of what varies is coarse. Adam gives every coordinate the
same step, so that among pixels it fills an image with noise first. Here the coordinates are
cosines (the discrete cosine transform, of the colours' principal axes), each in units of its
standard deviation over the pool: the whitening of inputs that FRePo and KIP begin with, for any
size of image, and of the steps alone: students see images as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from infoutil_jax.data.augment import Normalisation
from infoutil_jax.image import mosaic
from infoutil_jax.image.resampling import resized
from infoutil_jax.method.contracts import Pool

MEASURED, VALUES = 2000, 2**24
"""Images of the pool, and of their values (64 MiB), at most, that deviations are measured on."""

Images = Float[Array, "n height width channels"]


class Spectrum(NamedTuple):
    """A linear change of coordinates: a pytree of arrays.

    Attributes:
        axes: of colour; columns are orthonormal.
        scale: standard deviation over the pool of each coefficient, of whole images or of tiles:
            larger images are taken tile by tile.
    """

    axes: Float[Array, "channels channels"]
    scale: Float[Array, "tile_height tile_width channels"]

    def gradient(self, pixels: Images) -> Images:
        """The gradient in coefficients, of one in pixels."""
        return self._by_tile(lambda tiles: self.scale * (_cosines(tiles) @ self.axes), pixels)

    def pixels(self, coefficients: Images) -> Images:
        """The change of pixels that a change of coefficients is."""

        def back(tiles: Array) -> Array:
            found: Array = jax.scipy.fft.idctn(
                (tiles * self.scale) @ self.axes.T, axes=(1, 2), norm="ortho"
            )
            return found

        return self._by_tile(back, coefficients)

    def _by_tile(self, change: Callable[[Array], Array], images: Images) -> Images:
        size = images.shape[1], images.shape[2]
        tiles = mosaic.split(images, (size[0] // self.scale.shape[0]) ** 2)
        changed = change(tiles.reshape(-1, *tiles.shape[2:]))
        return mosaic.assemble(changed.reshape(tiles.shape), size)


def measured(pool: Pool, normalise: Normalisation, tiles: int = 1) -> Spectrum:
    """The spectrum of a pool, of as many of its images as may be measured, taken evenly.

    Args:
        pool: real images.
        normalise: makes them what networks take.
        tiles: of an image, each of which is to have the spectrum of whole images of its size.
    """
    count, each = len(pool.labels), int(np.prod(pool.images.shape[1:]))
    most = min(count, MEASURED, max(1, VALUES // each))
    rows = np.unique(np.linspace(0, count - 1, most).astype(int))
    images = jnp.asarray(normalise(pool.images[rows]))
    images = resized(images, mosaic.tile_size((images.shape[1], images.shape[2]), tiles))
    images -= images.mean((0, 1, 2))
    colours = images.reshape(-1, images.shape[3])
    axes = jnp.linalg.eigh(colours.T @ colours / len(colours))[1]
    return Spectrum(axes, jnp.sqrt(((_cosines(images) @ axes) ** 2).mean(0)))


def _cosines(images: Images) -> Images:
    found: Array = jax.scipy.fft.dctn(images, axes=(1, 2), norm="ortho")
    return found
