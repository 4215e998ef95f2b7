"""Where the cells of a grid over an image begin and end. NumPy on the host."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from infoutil_jax.errors import InputError


def edges(size: int, parts: int) -> Int[np.ndarray, " borders"]:
    """Pixel borders of `parts` cells along an axis of `size` pixels, the larger cells first.

    The rule of `np.array_split` and of RDED's `mix_images`: cell i spans
    `edges[i]:edges[i + 1]`, and cells differ by at most one pixel.

    Raises:
        InputError: fewer than one part, or more parts than pixels.
    """
    if not 1 <= parts <= size:
        raise InputError(f"{size} pixels cannot be cut into {parts} cells; use 1 to {size} cells")
    small, larger = divmod(size, parts)
    index = np.arange(parts + 1)
    return index * small + np.minimum(index, larger)


def cell_of_pixel(size: int, parts: int) -> Int[np.ndarray, " size"]:
    """Which cell each pixel along an axis belongs to."""
    return np.repeat(np.arange(parts), np.diff(edges(size, parts)))


def both(value: int | tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of what may be given as one number for both."""
    return (value, value) if isinstance(value, int) else value


def checked_grid(grid: int | tuple[int, int], image_size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a grid that fits images of that height and width.

    Raises:
        InputError: a patch would have no pixel.
    """
    rows, columns = both(grid)
    height, width = image_size
    if not (1 <= rows <= height and 1 <= columns <= width):
        raise InputError(
            f"a {rows}x{columns} grid does not fit images of {height}x{width} pixels: "
            "every patch needs at least one pixel."
        )
    return rows, columns
