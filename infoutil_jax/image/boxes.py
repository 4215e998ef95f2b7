"""Random boxes in images. JAX.

A box is (top, left, height, width) in pixels of the image.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from infoutil_jax.errors import InputError

TRIES = 10
"""Sizes that are drawn for a box before the central one is taken."""


def check_scale(scale: tuple[float, float]) -> None:
    """Checks a range of shares of an image's area.

    Raises:
        InputError: it is none.
    """
    if not 0 < scale[0] <= scale[1] <= 1:
        raise InputError(f"scale is {scale}; give two shares of the area, 0 < low <= high <= 1")


def random_resized_boxes(
    chance: Float[Array, "*boxes draws"],
    image_size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float] = (1.0, 1.0),
) -> Int32[Array, "*boxes 4"]:
    """The boxes of torchvision's `RandomResizedCrop`, from numbers that are drawn already.

    Of ten sizes, whose area is uniform in `scale` and whose aspect ratio is log-uniform in
    `ratio`, the first that fits into the image is taken, at a uniform position; where none fits,
    the largest central box whose aspect ratio is in `ratio`.

    Args:
        chance: uniform in [0, 1): ten areas, then ten aspect ratios unless `ratio` is one number,
            then two positions.
        image_size: height and width in pixels.
        scale: area as a share of the image's, low and high.
        ratio: width over height, low and high.
    """
    height, width = image_size
    area = (scale[0] + (scale[1] - scale[0]) * chance[..., :TRIES]) * (height * width)
    if ratio == (1.0, 1.0):
        sides = jnp.round(jnp.sqrt(area))
        sizes = jnp.stack([sides, sides], -1).astype(jnp.int32)
    else:
        low, high = np.log(ratio[0]), np.log(ratio[1])
        aspect = jnp.exp(low + (high - low) * chance[..., TRIES : 2 * TRIES])
        sizes = jnp.round(jnp.sqrt(jnp.stack([area / aspect, area * aspect], -1)))
        sizes = sizes.astype(jnp.int32)
    whole = jnp.array([height, width], jnp.int32)
    fits = ((sizes > 0) & (sizes <= whole)).all(-1)
    first = jnp.argmax(fits, axis=-1)[..., None, None]
    found = fits.any(-1, keepdims=True)
    narrowest, widest = round(width / ratio[0]), round(height * ratio[1])
    central = jnp.array([min(height, narrowest), min(width, widest)], jnp.int32)
    size = jnp.where(found, jnp.take_along_axis(sizes, first, axis=-2)[..., 0, :], central)
    room = whole - size
    # Rounding must not place a box one pixel outside.
    place = jnp.minimum(jnp.floor(chance[..., -2:] * (room + 1)).astype(jnp.int32), room)
    return jnp.concatenate([jnp.where(found, place, room // 2), size], axis=-1)
