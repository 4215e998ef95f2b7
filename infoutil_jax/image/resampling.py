"""Boxes cut out of images and resized: antialiased bilinear resampling. JAX, runs per image.

Two small matrix products an image, one an axis: gathers are slow on some devices.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Integer, Num

from infoutil_jax.errors import InputError

Image = (
    Integer[Array | np.ndarray, "batch height width channels"]
    | Float[Array | np.ndarray, "batch height width channels"]
)


def resampling_weights(
    start: Int[Array, "*boxes"],
    extent: Int[Array, "*boxes"],
    pixels: int,
    samples: int,
    dtype: DTypeLike = jnp.float32,
) -> Float[Array, "*boxes samples pixels"]:
    """How much each of an axis's `pixels` counts in each of `samples`.

    Bilinear, antialiased where it shrinks, and blind to pixels outside of the range, as Pillow and
    torchvision have it. Rows sum to one; the identity where `extent == samples`.

    Args:
        start: first pixel of the range.
        extent: pixels in the range.
        pixels: of the axis.
        samples: pixels of the result.
        dtype: of the weights.
    """
    start, extent = (value[..., None, None].astype(dtype) for value in (start, extent))
    scale = extent / samples
    pixel = jnp.arange(pixels, dtype=dtype)[None, :] + 0.5 - start
    centre = (jnp.arange(samples, dtype=dtype)[:, None] + 0.5) * scale
    # Shrinking widens the triangle to cover every source pixel; enlarging keeps it one wide.
    weight = jnp.maximum(1 - jnp.abs(pixel - centre) / jnp.maximum(scale, 1), 0)
    weight = jnp.where((pixel > 0) & (pixel < extent), weight, 0)
    return weight / weight.sum(-1, keepdims=True)


def extract(
    images: Image, boxes: Int[Array | np.ndarray, "batch crops 4"], size: tuple[int, int]
) -> Num[Array, "batch crops new_height new_width channels"]:
    """Cuts each image's boxes out and resizes them to `size`; the dtype stays the images'.

    As Pillow's `image.crop(box).resize(size, BILINEAR)`: nothing around a box bleeds in. A box
    that has `size` already is copied exactly. Integers give rounded integers of their type. Boxes
    may be traced; compiled once per `size`.

    Args:
        images: pixels, or floats of any scale.
        boxes: (top, left, height, width) in pixels.
        size: height and width of the result.

    Raises:
        InputError: `size` is not positive, or a NumPy box is empty or leaves its image. Boxes on
            the device are not waited for: those outside the image give undefined pixels.
    """
    if min(size) < 1:
        raise InputError(f"size is {size}; give a positive height and width")
    if isinstance(boxes, np.ndarray):
        start, extent = boxes[..., :2], boxes[..., 2:]
        inside = (start >= 0) & (extent >= 1) & (start + extent <= images.shape[1:3])
        for image, crop in np.argwhere(~inside.all(-1))[:1]:
            raise InputError(
                f"box {crop} of image {image}, {boxes[image, crop].tolist()} (top, left, height, "
                f"width), does not lie in the {images.shape[1]}x{images.shape[2]} image"
            )
    result: Num[Array, "batch crops new_height new_width channels"] = _extract(images, boxes, size)
    return result


@partial(jax.jit, static_argnames="size")
def _extract(images: Array, boxes: Array, size: tuple[int, int]) -> Array:
    dtype = images.dtype
    work = jnp.promote_types(dtype, jnp.float32)
    rows = resampling_weights(boxes[..., 0], boxes[..., 2], images.shape[1], size[0], work)
    columns = resampling_weights(boxes[..., 1], boxes[..., 3], images.shape[2], size[1], work)
    # Full precision: the default of GPUs and TPUs would round pixels that must be copied.
    crops = jnp.einsum(
        "bmiy,byxc,bmjx->bmijc",
        rows,
        images.astype(work),
        columns,
        precision=lax.Precision.HIGHEST,
        optimize="optimal",
    )
    if jnp.issubdtype(dtype, jnp.integer):
        kind = jnp.iinfo(dtype)
        crops = jnp.clip(jnp.floor(crops + 0.5), float(kind.min), float(kind.max))
    return crops.astype(dtype)


def resample(
    images: Float[Array, "batch height width channels"],
    rows: Float[Array, "batch new_height height"],
    columns: Float[Array, "batch new_width width"],
) -> Float[Array, "batch new_height new_width channels"]:
    """Combines each image's rows and columns by its own two matrices (`resampling_weights`)."""
    images = jnp.einsum("boh,bhwc->bowc", rows, images, precision="highest")
    return jnp.einsum("bow,bhwc->bhoc", columns, images, precision="highest")


def resized(
    images: Float[Array, "batch height width channels"], size: tuple[int, int]
) -> Float[Array, "batch new_height new_width channels"]:
    """Whole images at another height and width; as they are where they have it.

    By JAX's own weights, which `resampling_weights` agrees with where a box is the whole image.
    """
    if images.shape[1:3] == size:
        return images
    result: Float[Array, "batch new_height new_width channels"] = jax.image.resize(
        images, (len(images), *size, images.shape[-1]), "linear"
    )
    return result


def centred(
    images: Float[Array | np.ndarray, "batch height width channels"], size: tuple[int, int]
) -> Float[Array, "batch new_height new_width channels"]:
    """Images in the centre of larger ones of zeros, the mean colour: RDED's `pad`."""
    missing = [size[axis] - images.shape[axis + 1] for axis in (0, 1)]
    margins = [(m // 2, m - m // 2) for m in missing]
    return jnp.pad(images, ((0, 0), *margins, (0, 0)))
