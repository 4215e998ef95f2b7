"""Normalisation and augmentation on the device (JAX): pure, jittable, one key a batch.

Sizes are static, everything drawn is traced, so a change of key never recompiles. Resampling is
two small matrix products per image, one an axis, for gathers are slow on some devices.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

Images = Float[Array, "batch height width channels"]


def normalise(
    images: UInt8[Array | np.ndarray, "batch height width channels"],
    mean: Float[Array, " channels"],
    std: Float[Array, " channels"],
) -> Images:
    """(pixel / 255 - mean) / std: zero is the mean colour.

    Args:
        images: pixels, 0 to 255.
        mean: of each channel, in units of 255.
        std: likewise.
    """
    return (jnp.asarray(images).astype(jnp.float32) / 255 - mean) / std


def channel_statistics(
    images: UInt8[np.ndarray, "n height width channels"],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel's pixels, 0 to 1.

    Exact integer sums, rounded once: the same on every machine, in any order of the images. A
    constant channel gets the deviation of one grey level.
    """
    mean, std = [], []
    for channel in range(images.shape[3]):
        counts = np.bincount(images[..., channel].ravel(), minlength=256).tolist()
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

    def reflected(shift, size):
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
    """Boxes of torchvision's `RandomResizedCrop`.

    The first of ten draws that fits into the image (area uniform in `scale`, aspect ratio
    log-uniform in `ratio`, position uniform); where none fits, the largest central box whose
    aspect is in `ratio`. Hence `scale = (1, 1)` is the whole of a square image.

    Args:
        key: randomness of the batch.
        batch: number of boxes.
        image_size: height and width in pixels.
        scale: area as a fraction of the image's, low and high.
        ratio: width over height, low and high.

    Returns:
        (top, left, height, width) in pixels.
    """
    height, width = image_size
    drawn = jax.random.uniform(key, (batch, 22))
    area = height * width * (scale[0] + (scale[1] - scale[0]) * drawn[:, :10])
    low, high = np.log(ratio[0]), np.log(ratio[1])
    aspect = jnp.exp(low + (high - low) * drawn[:, 10:20])
    sizes = jnp.round(jnp.sqrt(jnp.stack([area / aspect, area * aspect], -1))).astype(int)
    fits = ((sizes > 0) & (sizes <= jnp.array([height, width]))).all(-1)
    first = jnp.argmax(fits, axis=1)
    chosen = jnp.take_along_axis(sizes, first[:, None, None], axis=1)[:, 0]
    narrowest, widest = round(width / ratio[0]), round(height * ratio[1])
    central = jnp.array([min(height, narrowest), min(width, widest)])
    found = fits.any(1, keepdims=True)
    size = jnp.where(found, chosen, central)
    room = jnp.array([height, width]) - size + 1
    corner = jnp.minimum(jnp.floor(drawn[:, 20:] * room).astype(int), room - 1)
    corner = jnp.where(found, corner, (room - 1) // 2)
    return jnp.concatenate([corner, size], axis=1)


def resampling(
    start: Int[Array, " batch"], length: Int[Array, " batch"], size: int, out: int
) -> Float[Array, "batch out size"]:
    """Matrices that resample `length` pixels from `start` on to `out` pixels.

    Bilinear, antialiased where it shrinks, and blind to pixels outside of the range, as Pillow
    and torchvision do it. Rows sum to one; the identity where `length == out`.

    Args:
        start: first pixel of the range.
        length: pixels in the range.
        size: pixels of the input.
        out: pixels of the output.
    """
    start, length = start[:, None, None], length[:, None, None]
    step = length / out
    centre = start + (jnp.arange(out)[:, None] + 0.5) * step - 0.5
    pixel = jnp.arange(size)
    weight = jnp.maximum(0, 1 - jnp.abs(pixel - centre) / jnp.maximum(step, 1))
    weight = jnp.where((pixel >= start) & (pixel < start + length), weight, 0)
    return weight / weight.sum(-1, keepdims=True)


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
    rows = resampling(boxes[:, 0], boxes[:, 2], height, size[0])
    columns = resampling(boxes[:, 1], boxes[:, 3], width, size[1])
    return resample(images, rows, columns)


def resample(
    images: Images,
    rows: Float[Array, "batch out_height height"],
    columns: Float[Array, "batch out_width width"],
) -> Float[Array, "batch out_height out_width channels"]:
    """Each image's rows and columns combined by its own two matrices (see `resampling`)."""
    images = jnp.einsum("boh,bhwc->bowc", rows, images, precision="highest")
    return jnp.einsum("bow,bhwc->bhoc", columns, images, precision="highest")


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
