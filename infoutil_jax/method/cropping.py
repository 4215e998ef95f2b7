"""From patch maps to boxes. JAX, runs per image.

A cropper is a `contracts.Crop`: `(keys, maps, (height, width)) -> boxes`. Boxes are int32
`(top, left, height, width)` in pixels of the source image. Every draw uses the image's own key
(already folded with its example id), so batches and their order change nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Int32, Key

from infoutil_jax.errors import InputError
from infoutil_jax.image.boxes import TRIES, check_scale, random_resized_boxes
from infoutil_jax.image.grid import both, edges
from infoutil_jax.method.contracts import Crop
from infoutil_jax.shapley import half_of

Maps = Float[Array | np.ndarray, "batch rows columns"]
Keys = Key[Array, " batch"]
Boxes = Int32[Array, "batch crops 4"]


@partial(jax.jit, static_argnames="window")
def pool_maps(
    maps: Maps, window: int | tuple[int, int] = 2
) -> Float[Array, "batch pooled_rows pooled_columns"]:
    """Mean of each map over every `window` (side, or height and width) of patches, stride 1.

    Returns:
        `[batch, rows - window + 1, columns - window + 1]`.

    Raises:
        InputError: the window is empty or larger than the map.
    """
    height, width = both(window)
    _, rows, columns = maps.shape
    if not (1 <= height <= rows and 1 <= width <= columns):
        raise InputError(
            f"the window {height}x{width} does not fit a map of {rows}x{columns} patches"
        )
    total = lax.reduce_window(
        jnp.asarray(maps), 0.0, lax.add, (1, height, width), (1, 1, 1), "VALID"
    )
    result: Float[Array, "batch pooled_rows pooled_columns"] = total / (height * width)
    return result


@dataclass(frozen=True)
class ShapleyBoxes:
    """Boxes around the most informative part of each image: stage 1 of InfoUtil.

    The map is average-pooled. Crop j adds Gaussian noise of standard deviation
    `alpha * std(pooled map)`, drawn from `fold_in(key, j)`; the last crop adds none. The maximum
    (the first, if tied) says which window of patches is cut out. A box has `side` of the image's
    height and width (rounded, at least one pixel) and the window's centre; where it would stick
    out of the image it is moved inside. Where the grid divides the image and `side` is not given,
    the box is exactly the window: for a 4×4 grid half the side, at multiples of a quarter.

    Attributes:
        num_crops: boxes per image.
        window: patches that are pooled, a side or (height, width); by default half the grid.
        side: the box's share of the image's side, in (0, 1]; by default window / grid.
        alpha: noise, in standard deviations of the pooled map; 0 makes all crops the last.

    Raises:
        InputError: an argument out of range.
    """

    num_crops: int = 5
    window: int | tuple[int, int] | None = None
    side: float | None = None
    alpha: float = 2.0

    def __post_init__(self) -> None:
        _check_count(self.num_crops)
        if self.side is not None and not 0 < self.side <= 1:
            raise InputError(f"side is {self.side}; a share of the image's side lies in (0, 1]")
        if not self.alpha >= 0:
            raise InputError(f"alpha is {self.alpha}; a standard deviation is not negative")

    def __call__(self, keys: Keys, maps: Maps, image_size: tuple[int, int], /) -> Boxes:
        """(top, left, height, width) of `num_crops` boxes for each map, of any grid."""
        result: Boxes = _shapley_boxes(self, image_size, keys, maps)
        return result

    def windows(
        self, grid: tuple[int, int], image_size: tuple[int, int]
    ) -> Int32[np.ndarray, "rows columns 4"]:
        """The box of each place of the pooled map: all that any image can be cut to.

        Raises:
            InputError: the window is empty or larger than the grid.
        """
        window = half_of(grid) if self.window is None else both(self.window)
        starts, sizes = [], []
        for pixels, parts, span in zip(image_size, grid, window, strict=True):
            if not 1 <= span <= parts:
                raise InputError(
                    f"the window {window[0]}x{window[1]} does not fit a map of "
                    f"{grid[0]}x{grid[1]} patches"
                )
            border = edges(pixels, parts)
            size = max(1, round(pixels * (span / parts if self.side is None else self.side)))
            starts.append(np.clip((border[:-span] + border[span:] - size) // 2, 0, pixels - size))
            sizes.append(size)
        places = np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1)
        return np.concatenate([places, np.broadcast_to(sizes, places.shape)], -1).astype(np.int32)


@partial(jax.jit, static_argnums=(0, 1))
def _shapley_boxes(
    boxes: ShapleyBoxes, image_size: tuple[int, int], keys: Keys, maps: Maps
) -> Boxes:
    _check_size(image_size)
    grid, num_crops = (maps.shape[1], maps.shape[2]), boxes.num_crops
    window = half_of(grid) if boxes.window is None else both(boxes.window)
    pooled = pool_maps(maps, window)
    spread = boxes.alpha * pooled.std(axis=(1, 2))

    def draw(key: Key[Array, ""], crop: Int[Array, ""]) -> Float[Array, "rows columns"]:
        return jax.random.normal(jax.random.fold_in(key, crop), pooled.shape[1:], pooled.dtype)

    crops, places = jnp.arange(num_crops), math.prod(pooled.shape[1:])
    noise = jax.vmap(jax.vmap(draw, (None, 0)), (0, None))(keys, crops)
    noise *= spread[:, None, None, None] * (crops < num_crops - 1)[:, None, None]
    best = (pooled[:, None] + noise).reshape(len(keys), num_crops, places).argmax(-1)
    return jnp.asarray(boxes.windows(grid, image_size).reshape(places, 4))[best]


@dataclass(frozen=True)
class EveryWindow:
    """Every box that `ShapleyBoxes` can cut out of an image, whatever its map.

    Attributes:
        boxes: which boxes these are.
    """

    boxes: ShapleyBoxes

    def __call__(self, keys: Keys, maps: Maps, image_size: tuple[int, int], /) -> Boxes:
        """The same boxes for each image, by rows."""
        _check_size(image_size)
        windows = self.boxes.windows((maps.shape[1], maps.shape[2]), image_size)
        return jnp.tile(jnp.asarray(windows.reshape(1, -1, 4)), (len(keys), 1, 1))


@dataclass(frozen=True)
class MassBoxes:
    """Cuts the smallest window that holds `mass` of the sum of the map's positive part.

    What speaks for an image is the positive part of its map. A window spans the same share of the
    grid on both axes. Of each size the best place competes, as in `ShapleyBoxes`; the smallest
    size whose best place holds `mass` of the sum is cut out. Where nothing is positive that is
    the whole image. InfoUtil's own windows all have one size, half the side, whatever they leave
    out.

    Attributes:
        mass: share to keep, in (0, 1]; at 1 nothing that speaks for the image is lost.

    Raises:
        InputError: a mass out of range.
    """

    mass: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.mass <= 1:
            raise InputError(
                f"mass is {self.mass}; a share of the map's positive sum lies in (0, 1]"
            )

    def __call__(self, keys: Keys, maps: Maps, image_size: tuple[int, int], /) -> Boxes:
        """One box for each map, of any grid; nothing is drawn."""
        rows, columns = maps.shape[1:]
        steps = max(rows, columns)
        windows = [(-(-rows * n // steps), -(-columns * n // steps)) for n in range(1, steps + 1)]
        worth = jnp.maximum(maps, 0)
        needed = self.mass * worth.sum((1, 2))
        boxes, enough = [], []
        for window in windows:
            best = ShapleyBoxes(num_crops=1, window=window)  # the last crop: nothing is drawn
            boxes.append(best(keys, worth, image_size))
            kept = pool_maps(worth, window).max((1, 2)) * (window[0] * window[1])
            # Rounding must not ask for more than everything, nor zero mass for the first patch.
            enough.append((kept >= needed * (1 - 1e-6)) & (needed > 0))
        smallest = jnp.where(jnp.stack(enough).any(0), jnp.stack(enough).argmax(0), -1)
        return jnp.stack(boxes)[smallest, jnp.arange(len(keys))]


@dataclass(frozen=True)
class RandomResizedBoxes:
    """Square boxes of random area and place: RDED's candidates, before its resize.

    torchvision's `RandomResizedCrop` with ratio (1, 1). Crop j draws from `fold_in(key, j)`; the
    maps are not used.

    Attributes:
        num_crops: boxes per image.
        scale: area as a share of the image's, low and high.
        least_side: pixels that a box has on each side at least, as far as the image has them.

    Raises:
        InputError: an argument out of range.
    """

    num_crops: int = 5
    scale: tuple[float, float] = (0.08, 1.0)
    least_side: int = 1

    def __post_init__(self) -> None:
        _check_count(self.num_crops)
        check_scale(self.scale)
        if self.least_side < 1:
            raise InputError(f"least_side is {self.least_side}; it must be at least 1")

    def __call__(self, keys: Keys, maps: object, image_size: tuple[int, int], /) -> Boxes:
        """(top, left, height, width) of `num_crops` boxes for each key."""
        result: Boxes = _random_resized_boxes(self, image_size, keys)
        return result


@partial(jax.jit, static_argnums=(0, 1))
def _random_resized_boxes(
    boxes: RandomResizedBoxes, image_size: tuple[int, int], keys: Keys
) -> Boxes:
    _check_size(image_size)
    low, high = boxes.scale
    least = boxes.least_side**2 / (image_size[0] * image_size[1])
    scale = (min(max(low, least), high), high)

    def draw(key: Key[Array, ""], crop: Int[Array, ""]) -> Int32[Array, "4"]:
        chance = jax.random.uniform(jax.random.fold_in(key, crop), (TRIES + 2,))
        return random_resized_boxes(chance, image_size, scale)

    return jax.vmap(jax.vmap(draw, (None, 0)), (0, None))(keys, jnp.arange(boxes.num_crops))


@dataclass(frozen=True)
class WholeImage:
    """One box per image, the image itself: then only the score decides."""

    def __call__(self, keys: Keys, maps: object, image_size: tuple[int, int], /) -> Boxes:
        """(0, 0, height, width) for each key."""
        _check_size(image_size)
        return jnp.tile(jnp.array([0, 0, *image_size], jnp.int32), (len(keys), 1, 1))


@dataclass(frozen=True, init=False)
class Union:
    """The boxes of several croppers, one after the other.

    Examples:
        >>> from infoutil_jax import cropping
        >>> crop = cropping.Union(cropping.RandomResizedBoxes(num_crops=4), cropping.WholeImage())
    """

    croppers: tuple[Crop, ...]

    def __init__(self, *croppers: Crop):
        if not croppers:
            raise InputError("a union of no croppers cuts nothing; give at least one")
        object.__setattr__(self, "croppers", croppers)

    def __call__(self, keys: Keys, maps: Maps, image_size: tuple[int, int], /) -> Boxes:
        """The boxes of the first cropper, then those of the second, and so on."""
        return jnp.concatenate(
            [crop(keys, jnp.asarray(maps), image_size) for crop in self.croppers], axis=1
        )


def _check_count(num_crops: int) -> None:
    if num_crops < 1:
        raise InputError(f"num_crops is {num_crops}; at least 1 crop is cut from each image")


def _check_size(image_size: tuple[int, int]) -> None:
    if min(image_size) < 1:
        raise InputError(f"image_size is {image_size}; give a positive height and width")
