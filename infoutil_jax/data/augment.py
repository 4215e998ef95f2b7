"""Normalisation and augmentation on the device (JAX): pure, jittable, one key a batch.

Sizes are static, everything drawn is traced, so a change of key never recompiles. Resampling is
two small matrix products per image, one an axis, for gathers are slow on some devices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from infoutil_jax.data.streamed import Pixels
from infoutil_jax.image.boxes import TRIES, random_resized_boxes
from infoutil_jax.image.resampling import resample, resampling_weights

Images = Float[Array, "batch height width channels"]


class Normalisation(NamedTuple):
    """Makes pixels what a classifier takes: zero is the mean colour.

    A pytree: as an argument of a compiled program, one program serves all classifiers of one
    architecture.

    Attributes:
        mean: of each channel, 0 to 1.
        std: likewise, positive.
    """

    mean: Float[Array, " channels"]
    std: Float[Array, " channels"]

    @classmethod
    def of(cls, mean: Sequence[float], std: Sequence[float]) -> Normalisation:
        """From plain numbers."""
        return cls(jnp.array(mean, jnp.float32), jnp.array(std, jnp.float32))

    def __call__(
        self, pixels: UInt8[Array | np.ndarray, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        """(pixel / 255 - mean) / std, of pixels from 0 to 255."""
        return (jnp.asarray(pixels).astype(jnp.float32) / 255 - self.mean) / self.std


def channel_statistics(
    images: UInt8[Pixels, "n height width channels"],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel's pixels, 0 to 1.

    Exact integer sums, rounded once: the same on every machine, in any order of the images. A
    constant channel gets the deviation of one grey level.
    """
    mean, std, levels = [], [], np.zeros((images.shape[3], 256), np.int64)
    for start in range(0, len(images), 256):
        block = np.asarray(images[start : start + 256])
        for channel in range(images.shape[3]):
            levels[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
    for counts in levels.tolist():
        n = sum(counts)
        total = sum(level * count for level, count in enumerate(counts))
        squares = sum(level * level * count for level, count in enumerate(counts))
        mean.append(total / (255 * n))
        variance = (n * squares - total * total) / (255 * 255 * n * n)
        std.append(max(math.sqrt(variance), 1 / 255))
    return tuple(mean), tuple(std)


def horizontal_flip(key: Key[Array, ""], images: Images) -> tuple[Images, Bool[Array, " batch"]]:
    """Mirrors each image left to right with probability one half.

    Returns:
        The images, and which of them were mirrored.
    """
    flipped = jax.random.bernoulli(key, 0.5, (images.shape[0],))
    return jnp.where(flipped[:, None, None, None], images[:, :, ::-1], images), flipped


def quarter_turns(key: Key[Array, ""], images: Images) -> tuple[Images, Int[Array, " batch"]]:
    """Turns each image by one of the turns that keep its shape, each as likely as the others.

    These are 0 to 3 quarters of a square image, and 0 or 2 of another one: what is seen from above
    has no upright.

    Args:
        key: randomness of the batch.
        images: of any scale.

    Returns:
        The images, and how many quarters each was turned, counterclockwise as in `np.rot90`.
    """
    square = images.shape[1] == images.shape[2]
    turns = jax.random.randint(key, images.shape[:1], 0, 4 if square else 2)
    if not square:
        turns = 2 * turns
    half = images[:, ::-1, ::-1]
    which = turns[:, None, None, None]
    turned = jnp.where(which == 2, half, images)
    if square:
        quarter = images.swapaxes(1, 2)[:, ::-1]
        turned = jnp.where(which == 1, quarter, turned)
        turned = jnp.where(which == 3, quarter[:, ::-1, ::-1], turned)
    return turned, turns


def before_turns(
    window: Int[Array, "4"], turns: Int[Array, " batch"], image_size: tuple[int, int]
) -> Int[Array, "batch 4"]:
    """What of each image, before `quarter_turns`, a window of the turned image shows.

    Args:
        window: (top, left, height, width) in pixels of the turned image.
        turns: of each image, as `quarter_turns` returns them.
        image_size: height and width in pixels.

    Returns:
        (top, left, height, width) in pixels of each image.
    """
    top, left, height, width = window
    bottom, right = image_size[0] - top - height, image_size[1] - left - width
    by_turns = jnp.array(
        [
            [top, left, height, width],
            [left, bottom, width, height],
            [bottom, right, height, width],
            [right, top, width, height],
        ]
    )
    return by_turns[turns]


def pad_crop(
    key: Key[Array, ""],
    images: Float[Array, "batch height width channels"]
    | UInt8[Array, "batch height width channels"],
    padding: int = 4,
) -> Array:
    """Pads by reflection and crops at random back to the image's size.

    Args:
        key: randomness of the batch.
        images: of any type, larger than `padding` in height and width.
        padding: pixels on each side, and so the largest shift.
    """
    batch, height, width, _ = images.shape
    shifts = jax.random.randint(key, (2, batch, 1), -padding, padding + 1)

    def reflected(shift: Array, size: int) -> Array:
        position = jnp.abs(jnp.arange(size) + shift)
        return size - 1 - jnp.abs(size - 1 - position)

    rows, columns = reflected(shifts[0], height), reflected(shifts[1], width)
    return images[jnp.arange(batch)[:, None, None], rows[:, :, None], columns[:, None, :]]


def shuffle_tiles(
    key: Key[Array, ""], images: Images, tiles: int
) -> tuple[Images, Int[Array, "batch tiles"]]:
    """Permutes the tiles of each image's square grid.

    Args:
        key: randomness of the batch.
        images: height and width divisible by the square root of `tiles`.
        tiles: a square number, counted by rows.

    Returns:
        The images, and the permutation: place t of the result holds tile `permutation[:, t]`.
    """
    batch, height, width, channels = images.shape
    side = round(tiles**0.5)
    keys = jax.random.split(key, batch)
    permutation = jax.vmap(lambda k: jax.random.permutation(k, tiles))(keys)
    cells = images.reshape(batch, side, height // side, side, width // side, channels)
    cells = cells.swapaxes(2, 3).reshape(batch, tiles, height // side, width // side, channels)
    cells = jnp.take_along_axis(cells, permutation[:, :, None, None, None], axis=1)
    cells = cells.reshape(batch, side, side, height // side, width // side, channels)
    return cells.swapaxes(2, 3).reshape(images.shape), permutation


def random_boxes(
    key: Key[Array, ""],
    batch: int,
    image_size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Int[Array, "batch 4"]:
    """`image.boxes.random_resized_boxes` for a batch, drawn from one key.

    `scale = (1, 1)` gives the whole of a square image.

    Args:
        key: randomness of the batch.
        batch: number of boxes.
        image_size: height and width in pixels.
        scale: area as a share of the image's, low and high.
        ratio: width over height, low and high.

    Returns:
        (top, left, height, width) in pixels.
    """
    chance = jax.random.uniform(key, (batch, 2 * TRIES + 2))
    return random_resized_boxes(chance, image_size, scale, ratio)


def resized_crop(
    images: Images, boxes: Int[Array, "batch 4"], size: tuple[int, int]
) -> Float[Array, "batch out_height out_width channels"]:
    """Cuts a box out of each image and resizes it.

    Args:
        images: of any scale.
        boxes: (top, left, height, width) in pixels.
        size: height and width of the result.
    """
    _, height, width, _ = images.shape
    rows = resampling_weights(boxes[:, 0], boxes[:, 2], height, size[0])
    columns = resampling_weights(boxes[:, 1], boxes[:, 3], width, size[1])
    return resample(images, rows, columns)


def random_resized_crop(
    key: Key[Array, ""],
    images: Images,
    scale: tuple[float, float],
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    size: tuple[int, int] | None = None,
) -> tuple[Float[Array, "batch out_height out_width channels"], Int[Array, "batch 4"]]:
    """A random box of each image, resized: torchvision's `RandomResizedCrop`.

    Args:
        key: randomness of the batch.
        images: of any scale.
        scale: area as a fraction of the image's, low and high.
        ratio: width over height, low and high.
        size: height and width of the result; the images' own by default.

    Returns:
        The crops, and their boxes (see `random_boxes`).
    """
    _, height, width, _ = images.shape
    boxes = random_boxes(key, images.shape[0], (height, width), scale, ratio)
    return resized_crop(images, boxes, size or (height, width)), boxes


def cutmix(
    key: Key[Array, ""], images: Images, alpha: float = 1.0
) -> tuple[Images, Int[Array, " batch"], Float[Array, ""], Int[Array, "4"]]:
    """Pastes one box of each image's partner into it (Yun et al. 2019, section 3.1).

    One box and one share for the whole batch, as in the authors' code and in RDED. The box has
    1 - Beta(alpha, alpha) of the area, its centre anywhere in the image, and is cut at the edges.

    Args:
        key: randomness of the batch.
        images: of any scale.
        alpha: of the Beta distribution.

    Returns:
        mixed: the images with boxes pasted in.
        permutation: image i's partner is `permutation[i]`.
        share: of the image's own pixels in the result, exactly, 0 to 1.
        box: (top, left, height, width) in pixels.
    """
    batch, height, width, _ = images.shape
    order_key, share_key, centre_key = jax.random.split(key, 3)
    permutation = jax.random.permutation(order_key, batch)
    if alpha == 1:  # the uniform distribution, which compiles much faster
        drawn = jax.random.uniform(share_key)
    else:
        drawn = jax.random.beta(share_key, alpha, alpha)
    size = jnp.array([height, width])
    half = (jnp.sqrt(1 - drawn) * size).astype(int) // 2
    centre = jnp.floor(jax.random.uniform(centre_key, (2,)) * size).astype(int)
    low, high = jnp.clip(centre - half, 0, size), jnp.clip(centre + half, 0, size)
    rows, columns = jnp.arange(height)[:, None, None], jnp.arange(width)[:, None]
    inside = (rows >= low[0]) & (rows < high[0]) & (columns >= low[1]) & (columns < high[1])
    mixed = jnp.where(inside, images[permutation], images)
    share = 1 - jnp.prod(high - low) / (height * width)
    return mixed, permutation, share, jnp.concatenate([low, high - low])
