"""From patch maps to boxes to crops. JAX, runs per image; only `edges` is NumPy on the host.

Boxes are int32 `(top, left, height, width)` in pixels of the source image. Every draw uses the
image's own key (already folded with its example id), so batches and their order change nothing.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Int32, Key, Num, UInt8

from infoutil_jax.errors import InputError


def edges(size: int, parts: int) -> Int[np.ndarray, " borders"]:
    """Pixel borders of `parts` cells along an axis of `size` pixels, `size % parts` larger first.

    The rule of `np.array_split` and of RDED's `mix_images`: cell i spans
    `edges[i]:edges[i + 1]`, cells differ by at most one pixel.

    Raises:
        InputError: fewer than one part, or more parts than pixels.
    """
    if not 1 <= parts <= size:
        raise InputError(f"{size} pixels cannot be cut into {parts} cells; use 1 to {size} cells")
    small, larger = divmod(size, parts)
    index = np.arange(parts + 1)
    return index * small + np.minimum(index, larger)


@partial(jax.jit, static_argnames="window")
def pool_maps(
    maps: Float[Array | np.ndarray, "batch rows columns"], window: int | tuple[int, int] = 2
) -> Float[Array, "batch pooled_rows pooled_columns"]:
    """Mean of each map over every `window` (side, or height and width) of patches, stride 1.

    Returns:
        `[batch, rows - window + 1, columns - window + 1]`.

    Raises:
        InputError: the window is empty or larger than the map.
    """
    height, width = (window, window) if isinstance(window, int) else window
    _, rows, columns = maps.shape
    if not (1 <= height <= rows and 1 <= width <= columns):
        raise InputError(
            f"the window {height}x{width} does not fit a map of {rows}x{columns} patches"
        )
    total = lax.reduce_window(
        jnp.asarray(maps), 0.0, lax.add, (1, height, width), (1, 1, 1), "VALID"
    )
    return total / (height * width)


@partial(jax.jit, static_argnames=("image_size", "num_crops", "window", "side", "alpha"))
def shapley_boxes(
    keys: Key[Array, " batch"],
    maps: Float[Array | np.ndarray, "batch rows columns"],
    image_size: tuple[int, int],
    *,
    num_crops: int = 5,
    window: int | tuple[int, int] | None = None,
    side: float | None = None,
    alpha: float = 2.0,
) -> Int32[Array, "batch crops 4"]:
    """Boxes around the most informative part of each image: stage 1 of InfoUtil.

    The map is average-pooled; crop j adds Gaussian noise of standard deviation
    `alpha * std(pooled map)` drawn from `fold_in(key, j)`, except the last crop, which has none;
    the maximum (the first, if tied) says which window of patches. A box has `side` of the
    image's height and width (rounded, at least one pixel) and the window's centre, and is moved
    into the image where it would stick out. Where the grid divides the image and `side` is not
    given, the box is the window exactly: for a 4×4 grid half the side, at multiples of a quarter.

    Args:
        keys: one key per image.
        maps: worth of each patch; any grid.
        image_size: height and width in pixels.
        num_crops: boxes per image.
        window: patches pooled, a side or (height, width); by default half the grid per axis.
        side: the box's share of the image's side, in (0, 1]; by default window / grid.
        alpha: noise, in standard deviations of the pooled map; 0 makes all crops the last.

    Raises:
        InputError: an argument out of range.
    """
    grid = maps.shape[1:]
    if window is None:
        window = (max(1, grid[0] // 2), max(1, grid[1] // 2))
    elif isinstance(window, int):
        window = (window, window)
    _check(num_crops, image_size)
    if side is not None and not 0 < side <= 1:
        raise InputError(f"side is {side}; a share of the image's side lies in (0, 1]")
    if alpha < 0:
        raise InputError(f"alpha is {alpha}; a standard deviation is not negative")

    pooled = pool_maps(maps, window)
    spread = alpha * pooled.std(axis=(1, 2))

    def draw(key: Key[Array, ""], crop: Int[Array, ""]) -> Float[Array, "rows columns"]:
        return jax.random.normal(jax.random.fold_in(key, crop), pooled.shape[1:], pooled.dtype)

    crops = jnp.arange(num_crops)
    noise = jax.vmap(jax.vmap(draw, (None, 0)), (0, None))(keys, crops)
    noise *= spread[:, None, None, None] * (crops < num_crops - 1)[:, None, None]
    best = (pooled[:, None] + noise).reshape(len(keys), num_crops, -1).argmax(-1)
    cell = jnp.unravel_index(best, pooled.shape[1:])

    starts, sizes = [], []
    for axis in (0, 1):
        pixels, parts, span = image_size[axis], grid[axis], window[axis]
        border = edges(pixels, parts)
        size = max(1, round(pixels * (span / parts if side is None else side)))
        start = np.clip((border[:-span] + border[span:] - size) // 2, 0, pixels - size)
        starts.append(jnp.asarray(start, jnp.int32)[cell[axis]])
        sizes.append(jnp.full_like(starts[-1], size))
    return jnp.stack([*starts, *sizes], axis=-1)


@partial(jax.jit, static_argnames=("image_size", "mass"))
def mass_boxes(
    keys: Key[Array, " batch"],
    maps: Float[Array | np.ndarray, "batch rows columns"],
    image_size: tuple[int, int],
    *,
    mass: float = 0.9,
) -> Int32[Array, "batch 1 4"]:
    """The smallest window that keeps a share `mass` of what speaks for the image.

    What speaks for it is the positive part of its map. A window spans the same share of the grid
    on both axes; of each size the best place competes, as in `shapley_boxes`, and the smallest
    size whose place holds `mass` of the sum is cut out. Where nothing is positive that is the
    whole image. InfoUtil's windows are of one size: half the side, whatever that leaves out.

    Args:
        keys: not used; nothing is drawn.
        maps: worth of each patch; any grid.
        image_size: height and width in pixels.
        mass: share to keep, in (0, 1]; at 1 nothing that speaks for the image is lost.

    Raises:
        InputError: an argument out of range.
    """
    if not 0 < mass <= 1:
        raise InputError(f"mass is {mass}; a share of the map's positive sum lies in (0, 1]")
    rows, columns = maps.shape[1:]
    steps = max(rows, columns)
    windows = [(-(-rows * n // steps), -(-columns * n // steps)) for n in range(1, steps + 1)]
    worth = jnp.maximum(maps, 0)
    needed = mass * worth.sum((1, 2))
    boxes, enough = [], []
    for window in windows:
        best = partial(shapley_boxes, num_crops=1, window=window, alpha=0.0)
        boxes.append(best(keys, worth, image_size))
        kept = pool_maps(worth, window).max((1, 2)) * (window[0] * window[1])
        # Rounding must not ask for more than everything, nor zero mass for the first patch.
        enough.append((kept >= needed * (1 - 1e-6)) & (needed > 0))
    smallest = jnp.where(jnp.stack(enough).any(0), jnp.stack(enough).argmax(0), steps - 1)
    return jnp.stack(boxes)[smallest, jnp.arange(len(keys))]


@partial(jax.jit, static_argnames=("image_size", "num_crops", "scale"))
def random_resized_boxes(
    keys: Key[Array, " batch"],
    maps: object,
    image_size: tuple[int, int],
    *,
    num_crops: int = 5,
    scale: tuple[float, float] = (0.08, 1.0),
) -> Int32[Array, "batch crops 4"]:
    """Square boxes of random area and place: RDED's candidates, before its resize.

    torchvision's `RandomResizedCrop` with ratio (1, 1): an area is drawn uniformly between
    `scale[0]` and `scale[1]` of the image's; the side is its rounded root; if that does not fit
    (on images that are not square), another is drawn, ten times in all, then the central square
    of the shorter side is taken. `maps` is not used. Crop j draws from `fold_in(key, j)`.

    Raises:
        InputError: an argument out of range.
    """
    del maps
    height, width = image_size
    _check(num_crops, image_size)
    if not 0 < scale[0] <= scale[1] <= 1:
        raise InputError(f"scale is {scale}; give two shares of the area, 0 < low <= high <= 1")

    def draw(key: Key[Array, ""], crop: Int[Array, ""]) -> Int32[Array, "4"]:
        chance = jax.random.uniform(jax.random.fold_in(key, crop), (12,))
        area = scale[0] + (scale[1] - scale[0]) * chance[:10]
        sides = jnp.round(jnp.sqrt(area * (height * width))).astype(jnp.int32)
        fits = (sides >= 1) & (sides <= min(height, width))
        side = jnp.where(fits.any(), sides[fits.argmax()], min(height, width))
        room = jnp.array([height, width]) - side
        place = jnp.floor(chance[10:] * (room + 1)).astype(jnp.int32)
        top, left = jnp.where(fits.any(), place, room // 2)
        return jnp.stack([top, left, side, side]).astype(jnp.int32)

    return jax.vmap(jax.vmap(draw, (None, 0)), (0, None))(keys, jnp.arange(num_crops))


def whole_image_boxes(
    keys: Key[Array, " batch"], maps: object, image_size: tuple[int, int]
) -> Int32[Array, "batch 1 4"]:
    """One box per image, the image itself: then only the score decides. `maps` is not used."""
    del maps
    _check(1, image_size)
    return jnp.tile(jnp.array([0, 0, *image_size], jnp.int32), (len(keys), 1, 1))


def and_whole_image_boxes(
    keys: Key[Array, " batch"],
    maps: Float[Array | np.ndarray, "batch rows columns"],
    image_size: tuple[int, int],
    *,
    crop: Callable[..., Array],
) -> Int32[Array, "batch crops 4"]:
    """The boxes of `crop`, and the image itself as the last."""
    whole = whole_image_boxes(keys, maps, image_size)
    return jnp.concatenate([crop(keys, maps, image_size), whole], axis=1)


def _check(num_crops: int, image_size: tuple[int, int]) -> None:
    if num_crops < 1:
        raise InputError(f"num_crops is {num_crops}; at least 1 crop is cut from each image")
    if min(image_size) < 1:
        raise InputError(f"image_size is {image_size}; give a positive height and width")


def extract(
    images: UInt8[Array | np.ndarray, "batch height width channels"]
    | Float[Array | np.ndarray, "batch height width channels"],
    boxes: Int[Array | np.ndarray, "batch crops 4"],
    size: tuple[int, int],
) -> Num[Array, "batch crops new_height new_width channels"]:
    """Cut each image's boxes out and resize them to `size`, of the images' dtype.

    Antialiased bilinear resampling as Pillow's `image.crop(box).resize(size, BILINEAR)`: weights
    cover pixels inside the box only, so nothing around it bleeds in. A box that has `size`
    already is copied exactly. uint8 images give rounded uint8 crops. Boxes may be traced;
    compiled once per `size`.

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
    return _extract(images, boxes, size)


@partial(jax.jit, static_argnames="size")
def _extract(images: Array, boxes: Array, size: tuple[int, int]) -> Array:
    dtype = images.dtype
    work = jnp.promote_types(dtype, jnp.float32)
    weigh: Callable = partial(_weights, dtype=work)
    rows = weigh(boxes[..., 0], boxes[..., 2], images.shape[1], size[0])
    columns = weigh(boxes[..., 1], boxes[..., 3], images.shape[2], size[1])
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
        crops = jnp.clip(jnp.floor(crops + 0.5), 0, 255)
    return crops.astype(dtype)


def _weights(start: Array, extent: Array, pixels: int, samples: int, dtype: jnp.dtype) -> Array:
    """Share of each of `pixels` in each of `samples` along one axis: `[..., samples, pixels]`."""
    start, extent = (value[..., None, None].astype(dtype) for value in (start, extent))
    scale = extent / samples
    pixel = jnp.arange(pixels, dtype=dtype)[None, :] + 0.5 - start
    centre = (jnp.arange(samples, dtype=dtype)[:, None] + 0.5) * scale
    # Shrinking widens the triangle to cover every source pixel; enlarging keeps it one wide.
    weight = jnp.maximum(1 - jnp.abs(pixel - centre) / jnp.maximum(scale, 1), 0)
    weight = jnp.where((pixel > 0) & (pixel < extent), weight, 0)
    return weight / weight.sum(-1, keepdims=True)
