"""CIFAR-10-C's snow, frost, fog and spatter (`experiments.corruptions`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from scipy import ndimage

from experiments.blurs import Images, Rng, along_a_line, zoomed
from infoutil_jax.errors import InputError

LUMA = (0.299, 0.587, 0.114)
WATER, MUD = np.array([175, 238, 238]) / 255, np.array([63, 42, 20]) / 255


def snow(x: Images, c: tuple[Any, ...], rng: Rng) -> Images:
    mean, deviation, zoom, least, radius, sigma, kept = c
    flakes = zoomed(rng.normal(mean, deviation, (*x.shape[:3], 1)), zoom)
    flakes = np.clip(np.where(flakes < least, 0, flakes), 0, 1)
    flakes = along_a_line(flakes, (radius, sigma), rng.uniform(-135, -45, len(x)))
    grey = (x * LUMA).sum(3, keepdims=True) if x.shape[3] == 3 else x
    pale = kept * x + (1 - kept) * np.maximum(x, grey * 1.5 + 0.5)
    return pale + flakes + flakes[:, ::-1, ::-1]


def fog(x: Images, c: tuple[float, float], rng: Rng) -> Images:
    thickness, decay = c
    most = x.max((1, 2, 3), keepdims=True)
    clouds = plasma(rng, len(x), max(x.shape[1:3]), decay)
    clouds = clouds[:, : x.shape[1], : x.shape[2], None]
    return (x + thickness * clouds) * most / (most + thickness)


def plasma(rng: Rng, n: int, side: int, decay: float) -> Float[np.ndarray, "n side side"]:
    """Fractal clouds by the diamond-square algorithm on a torus, 0 to 1 (Fournier et al. 1982).

    Args:
        rng: of the draws.
        n: how many.
        side: of the result, in pixels.
        decay: by which the roughness falls from each scale to the next.
    """
    size = 2 ** int(np.ceil(np.log2(side)))
    cloud, step, rough = np.zeros((n, size, size)), size, 100.0

    def rise(total: np.ndarray) -> np.ndarray:
        return np.asarray(total / 4 + rough * rng.uniform(-rough, rough, total.shape))

    while step >= 2:
        half = step // 2
        corners = cloud[:, ::step, ::step].copy()
        right, down = np.roll(corners, -1, 2), np.roll(corners, -1, 1)
        centres = rise(corners + right + down + np.roll(right, -1, 1))
        cloud[:, half::step, half::step] = centres
        cloud[:, half::step, ::step] = rise(corners + down + centres + np.roll(centres, 1, 2))
        cloud[:, ::step, half::step] = rise(corners + right + centres + np.roll(centres, 1, 1))
        step, rough = half, rough / decay
    cloud -= cloud.min((1, 2), keepdims=True)
    return (cloud / cloud.max((1, 2), keepdims=True))[:, :side, :side]


Photographs = Sequence[Float[np.ndarray, "height width 3"]]
DRAWN = 5
"""The benchmark's generator draws among the first five of its six photographs."""


@cache
def photographs_in(folder: Path) -> tuple[np.ndarray, ...]:
    """Photographs of frost at a fifth of their size, by name.

    Args:
        folder: `frost` of the package imagecorruptions has the benchmark's own.

    Raises:
        InputError: a folder without images.
    """
    files = sorted(file for file in folder.glob("*") if file.suffix in (".png", ".jpg"))
    if not files:
        raise InputError(f"{folder} has no photographs of frost (.png, .jpg)")
    return tuple(_fifth(Image.open(file).convert("RGB")) for file in files[:DRAWN])


def _fifth(photograph: Image.Image) -> np.ndarray:
    """Every fifth pixel, between its neighbours: OpenCV's linear `resize` does not average."""
    pixels = np.asarray(photograph, float)
    rows, columns = (np.arange(round(side / 5)) * 5.0 + 2 for side in pixels.shape[:2])
    return pixels[np.ix_(rows.astype(int), columns.astype(int))] / 255


def frost(x: Images, c: tuple[float, float], rng: Rng, photographs: Photographs) -> Images:
    """A part of a photograph of frost, drawn for each image, is added."""
    kept, added = c
    height, width = x.shape[1:3]
    result = np.empty_like(x)
    for image, out in zip(x, result, strict=True):
        photograph = photographs[int(rng.integers(len(photographs)))]
        room = [side - part for side, part in zip(photograph.shape, (height, width), strict=False)]
        if min(room) < 1:
            raise InputError(
                f"photographs of frost have {photograph.shape[:2]} pixels at a fifth of their "
                f"size; images of {height, width} need more"
            )
        top, left = (rng.integers(some) for some in room)
        part = photograph[top : top + height, left : left + width]
        grey = (part * LUMA).sum(2, keepdims=True) if x.shape[3] == 1 else part
        out[:] = kept * image + added * grey
    return result


def spatter(x: Images, c: tuple[Any, ...], rng: Rng) -> Images:
    """Drops of water reflect light along their rims; mud covers."""
    mean, deviation, sigma, least, c5, muddy = c
    drops = rng.normal(mean, deviation, x.shape[:3])
    drops = ndimage.gaussian_filter(drops, (0, sigma, sigma), mode="nearest")
    drops = np.where(drops < least, 0, drops)
    colour = MUD if muddy else WATER
    if x.shape[3] == 1:
        colour = (colour * LUMA).sum(keepdims=True)
    if muddy:
        cover = ndimage.gaussian_filter((drops > least) * 1.0, (0, c5, c5), mode="nearest")
        cover = np.where(cover < 0.8, 0, cover)[..., None]
        return x * (1 - cover) + cover * colour
    light = np.stack([drop * _rims((drop * 255).astype(np.uint8)) for drop in drops])
    most = light.max((1, 2), keepdims=True)
    return x + c5 * (light / np.where(most > 0, most, 1))[..., None] * colour


def _rims(drops: UInt8[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    """Bright to the lower right of edges, by their distance, 0 to 255."""
    edges = _canny(drops, 50, 150)
    far = ndimage.distance_transform_edt(~edges) if edges.any() else np.full(drops.shape, 20.0)
    blurred = ndimage.uniform_filter(np.minimum(far, 20), 3, mode="mirror")
    near = blurred.astype(np.uint8)
    counts = np.bincount(near.ravel(), minlength=256)
    below, first = counts.cumsum(), counts[counts > 0][0]
    if first < near.size:
        even = 255 * (below - first).clip(0) / (near.size - first)
        near = np.rint(even).astype(np.uint8)[near]
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    bright = ndimage.correlate(near.astype(int), emboss, mode="mirror").clip(0, 255)
    return np.rint(ndimage.uniform_filter(bright.astype(float), 3, mode="mirror"))


def _canny(x: UInt8[np.ndarray, "height width"], low: float, high: float) -> np.ndarray:
    """Canny's edges (PAMI 1986): ridges of Sobel's |dx| + |dy|, linked to what is above `high`."""
    across, down = (ndimage.sobel(x.astype(int), axis, mode="nearest") for axis in (1, 0))
    steep = np.abs(across) + np.abs(down)
    around = np.pad(steep, 1)
    slope = np.abs(down) / np.maximum(np.abs(across), 1e-9)
    tan = np.tan(np.pi / 8)
    ridge = np.zeros(x.shape, bool)
    same = (across >= 0) == (down >= 0)
    for where, (dy, dx) in (
        (slope < tan, (0, 1)),
        (slope > 1 / tan, (1, 0)),
        ((slope >= tan) & (slope <= 1 / tan) & same, (1, 1)),
        ((slope >= tan) & (slope <= 1 / tan) & ~same, (1, -1)),
    ):
        height, width = x.shape
        before = around[1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width]
        behind = around[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        ridge |= where & (steep > before) & (steep >= behind)
    weak = ridge & (steep > low)
    parts, _ = ndimage.label(weak, np.ones((3, 3)))
    strong = np.unique(parts[weak & (steep > high)])
    return np.isin(parts, strong[strong > 0])
