"""Tiles to full images and back. NumPy on the host or JAX on the device: arrays decide.

An image holds k tiles, k a square, in a √k×√k grid, row by row. Its cells are those of
`image.grid.edges`. Where they differ in size, tiles have that of the largest, and a cell one pixel
smaller leaves out the tile's last row or column. Pixels are copied, never resampled, but by
`enlarged`.
"""

from math import isqrt
from typing import TypeVar

import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from infoutil_jax.errors import InputError
from infoutil_jax.image.grid import edges
from infoutil_jax.image.resampling import resized

Images = TypeVar("Images", Array, np.ndarray)


def tile_size(image_size: tuple[int, int], k: int) -> tuple[int, int]:
    """Height and width of each of `k` tiles: the largest cell's.

    Raises:
        InputError: `k` is not a positive square, or a side has fewer pixels than cells.
    """
    grid = _grid(k)
    height, width = (int(np.diff(edges(pixels, grid)).max()) for pixels in image_size)
    return height, width


def cells(image_size: tuple[int, int], k: int) -> Int[np.ndarray, "tiles 4"]:
    """Boxes (top, left, height, width) of the `k` cells, row by row.

    Raises:
        InputError: as `tile_size`.
    """
    grid = _grid(k)
    row, column = np.divmod(np.arange(k), grid)
    tops, lefts = (edges(pixels, grid) for pixels in image_size)
    extents = np.diff(tops)[row], np.diff(lefts)[column]
    return np.stack([tops[row], lefts[column], *extents], axis=-1)


def assemble(
    tiles: Shaped[Images, "images tiles tile_height tile_width channels"], size: tuple[int, int]
) -> Shaped[Images, "images height width channels"]:
    """Puts each row of tiles into one image of `size` (height, width).

    `assemble(split(images, k), size) == images` for every size and k.

    Raises:
        InputError: the tiles have not `tile_size(size, k)`, or k or `size` is impossible.
    """
    k, *given = tiles.shape[1:4]
    if tuple(given) != tile_size(size, k):
        raise InputError(
            f"tiles are {given[0]}x{given[1]} pixels, but {k} of them fill an image of "
            f"{size[0]}x{size[1]} only when each has {tile_size(size, k)}"
        )
    grid = _grid(k)
    rows, columns = (edges(pixels, grid) for pixels in size)
    row, column = (np.repeat(np.arange(grid), np.diff(border)) for border in (rows, columns))
    y = np.arange(size[0]) - rows[row]
    x = np.arange(size[1]) - columns[column]
    return tiles[:, row[:, None] * grid + column, y[:, None], x]


def split(
    images: Shaped[Images, "images height width channels"], k: int
) -> Shaped[Images, "images tiles tile_height tile_width channels"]:
    """Cuts each image into its `k` tiles.

    A cell one pixel smaller than the tile repeats its last row or column, so a tile never
    shows a neighbour's pixels. `split(assemble(tiles, size), k) == tiles` where cells are even.

    Raises:
        InputError: as `tile_size`.
    """
    size = images.shape[1], images.shape[2]
    height, width = tile_size(size, k)
    top, left, cell_height, cell_width = cells(size, k).T[..., None]
    y = top + np.minimum(np.arange(height), cell_height - 1)
    x = left + np.minimum(np.arange(width), cell_width - 1)
    return images[:, y[:, :, None], x[:, None, :]]


def enlarged(
    images: Float[Array, "images height width channels"], k: int
) -> Float[Array, "parts height width channels"]:
    """Each of an image's `k` tiles as an image of its own, as large as the whole (JAX).

    IDC (Kim et al., ICML 2022) and IDM (Zhao et al., CVPR 2023) store several images in one so.

    Raises:
        InputError: as `tile_size`.
    """
    size = images.shape[1], images.shape[2]
    tiles = split(images, k)
    return resized(tiles.reshape(-1, *tiles.shape[2:]), size)


def arrange(
    images_per_class: int, tiles: int, tile_order: str = "consecutive"
) -> Int[np.ndarray, "images tiles"]:
    """The ranks of a class that share an image: `arrange(...)[j]` for image j.

    With n images: "consecutive" puts ranks j·tiles, j·tiles + 1, ... into image j (InfoUtil,
    Algorithm 1); "strided" ranks j, n + j, 2n + j, ... (RDED), so every image has one of the best.

    Raises:
        InputError: an unknown order, or a count below one.
    """
    if images_per_class < 1 or tiles < 1:
        raise InputError(f"{images_per_class} images of {tiles} tiles; both must be at least 1")
    ranks = np.arange(images_per_class * tiles)
    if tile_order == "consecutive":
        return ranks.reshape(images_per_class, tiles)
    if tile_order == "strided":
        return ranks.reshape(tiles, images_per_class).T
    raise InputError(f'tile_order is "{tile_order}"; choose "consecutive" or "strided"')


def _grid(k: int) -> int:
    grid = isqrt(max(k, 0))
    if k < 1 or grid * grid != k:
        raise InputError(f"{k} tiles do not form a square grid; use 1, 4, 9, ...")
    return grid
