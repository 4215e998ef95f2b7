"""CIFAR-10-C's corruptions of images, by our own code (Hendrycks & Dietterich, ICLR 2019).

Constants are those of the benchmark's generator for images of 32 pixels a side, in pixels whatever
the side. Three kinds differ from it: `glass_blur` exchanges pixels (the generator's exchange copies
one of them), `motion_blur` and `snow` blur along a line by interpolation (the generator asks
ImageMagick). Frost, which needs photographs of frost, and spatter are left out. NumPy on the host.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from scipy import ndimage

from infoutil_jax.errors import InputError

Images = Float[np.ndarray, "n height width channels"]
Rng = np.random.Generator
SEVERITIES = (1, 2, 3, 4, 5)
LUMA = (0.299, 0.587, 0.114)


def corrupted(
    images: UInt8[np.ndarray, "n height width channels"], kind: str, severity: int, seed: int = 0
) -> UInt8[np.ndarray, "n height width channels"]:
    """Images under one corruption; the same arguments give the same bytes.

    Args:
        images: grey or RGB pixels.
        kind: a name of `KINDS`.
        severity: 1 to 5.
        seed: of what is drawn.

    Raises:
        InputError: an unknown kind or severity, or a kind that needs colour.
    """
    if kind not in KINDS:
        raise InputError(f"corruption {kind!r} is unknown: choose {', '.join(KINDS)}")
    if severity not in SEVERITIES:
        raise InputError(f"severity is {severity}; it should be 1 to 5")
    if images.shape[3] != 3 and (kind == "saturate" or images.shape[3] != 1):
        raise InputError(f"{kind} of images of {images.shape[3]} channels: it needs RGB, or grey")
    function, constants = KINDS[kind]
    rng = np.random.default_rng([seed, list(KINDS).index(kind), severity])
    result = function(images / 255.0, constants[severity - 1], rng)
    # Cut off, not rounded, as the benchmark's files were.
    return (np.clip(result, 0, 1) * 255 + 1e-6).astype(np.uint8)


def _gaussian_noise(x: Images, c: float, rng: Rng) -> Images:
    return x + rng.normal(scale=c, size=x.shape)


def _shot_noise(x: Images, c: float, rng: Rng) -> Images:
    return rng.poisson(x * c) / c


def _impulse_noise(x: Images, c: float, rng: Rng) -> Images:
    salt = rng.integers(0, 2, x.shape).astype(float)
    return np.where(rng.random(x.shape) < c, salt, x)


def _speckle_noise(x: Images, c: float, rng: Rng) -> Images:
    return x + x * rng.normal(scale=c, size=x.shape)


def _gaussian_blur(x: Images, c: float, rng: Rng) -> Images:
    return ndimage.gaussian_filter(x, (0, c, c, 0), mode="nearest")


def _glass_blur(x: Images, c: tuple[float, int, int], rng: Rng) -> Images:
    sigma, reach, times = c
    x = _gaussian_blur(x, sigma, rng).copy()
    n, height, width, _ = x.shape
    every = np.arange(n)
    for _ in range(times):
        for row in range(height - reach, reach, -1):
            for column in range(width - reach, reach, -1):
                down, right = rng.integers(-reach, reach, (2, n))
                here = x[:, row, column].copy()
                x[:, row, column] = x[every, row + down, column + right]
                x[every, row + down, column + right] = here
    return _gaussian_blur(x, sigma, rng)


def _defocus_blur(x: Images, c: tuple[float, float], rng: Rng) -> Images:
    radius, alias = c
    y, z = np.mgrid[-8:9, -8:9]
    disc = (y**2 + z**2 <= radius**2).astype(float)
    kernel = ndimage.gaussian_filter(disc / disc.sum(), alias, radius=1)
    return ndimage.convolve(x, kernel[None, :, :, None], mode="mirror")


def _motion_blur(x: Images, c: tuple[int, float], rng: Rng) -> Images:
    return _along_a_line(x, c, rng.uniform(-45, 45, len(x)))


def _along_a_line(x: Images, c: tuple[int, float], degrees: np.ndarray) -> Images:
    """Half a Gaussian's weights, of pixels ever farther along a direction of each image's own."""
    radius, sigma = c
    far = np.arange(2 * radius + 1)
    weights = np.exp(-0.5 * (far / sigma) ** 2)
    weights /= weights.sum()
    directions = np.stack([np.sin(np.radians(degrees)), np.cos(np.radians(degrees))], 1)
    result = np.zeros_like(x)
    for image, direction, out in zip(x, directions, result, strict=True):
        for step, weight in zip(far, weights, strict=True):
            if weight > 1e-4:
                shift = (*(-step * direction), 0)
                out += weight * ndimage.shift(image, shift, order=1, mode="nearest")
    return result


def _zoomed(x: Images, factor: float) -> Images:
    """The centre, enlarged to the whole."""
    height, width = x.shape[1:3]
    inner = [int(np.ceil(side / factor)) for side in (height, width)]
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    centre = x[:, top : top + inner[0], left : left + inner[1]]
    large = ndimage.zoom(centre, (1, factor, factor, 1), order=1)
    top, left = (large.shape[1] - height) // 2, (large.shape[2] - width) // 2
    return np.asarray(large[:, top : top + height, left : left + width])


def _zoom_blur(x: Images, c: float, rng: Rng) -> Images:
    factors = np.arange(1, c, 0.01)
    return (x + sum(_zoomed(x, factor) for factor in factors)) / (len(factors) + 1)


def _snow(x: Images, c: tuple[Any, ...], rng: Rng) -> Images:
    mean, deviation, zoom, least, radius, sigma, kept = c
    flakes = _zoomed(rng.normal(mean, deviation, (*x.shape[:3], 1)), zoom)
    flakes = np.clip(np.where(flakes < least, 0, flakes), 0, 1)
    flakes = _along_a_line(flakes, (radius, sigma), rng.uniform(-135, -45, len(x)))
    grey = (x * LUMA).sum(3, keepdims=True) if x.shape[3] == 3 else x
    pale = kept * x + (1 - kept) * np.maximum(x, grey * 1.5 + 0.5)
    return pale + flakes + flakes[:, ::-1, ::-1]


def _fog(x: Images, c: tuple[float, float], rng: Rng) -> Images:
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


def _contrast(x: Images, c: float, rng: Rng) -> Images:
    mean = x.mean((1, 2), keepdims=True)
    return (x - mean) * c + mean


def _brightness(x: Images, c: float, rng: Rng) -> Images:
    """HSV's value, the largest channel, rises; hue and saturation stay."""
    value = x.max(3, keepdims=True)
    brighter = np.minimum(value + c, 1)
    return np.where(value > 0, x * brighter / np.where(value > 0, value, 1), brighter)


def _saturate(x: Images, c: tuple[float, float], rng: Rng) -> Images:
    """HSV's saturation changes; of grey the hue is red."""
    value, least = x.max(3, keepdims=True), x.min(3, keepdims=True)
    colour = value > least
    below = np.where(colour, (value - x) / np.where(colour, value - least, 1), [0, 1, 1])
    saturation = np.where(colour, (value - least) / np.where(value > 0, value, 1), 0)
    return value - value * np.clip(saturation * c[0] + c[1], 0, 1) * below


def _by_pillow(x: Images, change: Callable[[Image.Image], Image.Image]) -> Images:
    pixels = np.rint(x * 255).astype(np.uint8)
    flat = pixels[..., 0] if x.shape[3] == 1 else pixels
    changed = [np.asarray(change(Image.fromarray(one))) for one in flat]
    return np.stack(changed).reshape(x.shape) / 255


def _jpeg_compression(x: Images, c: int, rng: Rng) -> Images:
    def change(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=c)
        return Image.open(file)

    return _by_pillow(x, change)


def _pixelate(x: Images, c: float, rng: Rng) -> Images:
    height, width = x.shape[1:3]

    def change(image: Image.Image) -> Image.Image:
        small = image.resize((int(width * c), int(height * c)), Image.Resampling.BOX)
        return small.resize((width, height), Image.Resampling.BOX)

    return _by_pillow(x, change)


def _elastic_transform(x: Images, c: tuple[float, float, float], rng: Rng) -> Images:
    """Three points move, and the rest affinely; then each pixel, as its neighbours do."""
    size = np.array(x.shape[1:3])
    strength, sigma, reach = np.array(c) * size.min()
    centre, third = size // 2, size.min() // 3
    points = centre + third * np.array([[1, 1], [1, -1], [-1, -1]])
    grid = np.moveaxis(np.mgrid[: size[0], : size[1]], 0, -1).astype(float)
    result = np.empty_like(x)
    for image, out in zip(x, result, strict=True):
        moved = points + rng.uniform(-reach, reach, points.shape)
        back = np.linalg.solve(np.c_[moved, np.ones(3)], points)
        image = _sampled(image, np.c_[grid.reshape(-1, 2), np.ones(size.prod())] @ back, "mirror")
        shift = rng.uniform(-1, 1, (2, *size))
        shift = ndimage.gaussian_filter(shift, (0, sigma, sigma), truncate=3) * strength
        out[:] = _sampled(image, grid.reshape(-1, 2) + shift.reshape(2, -1).T, "reflect")
    return result


def _sampled(image: np.ndarray, places: np.ndarray, mode: str) -> np.ndarray:
    bands = [
        ndimage.map_coordinates(image[..., band], places.T, order=1, mode=mode)
        for band in range(image.shape[2])
    ]
    return np.stack(bands, 1).reshape(image.shape)


Kind = tuple[Callable[..., Images], tuple[Any, ...]]
KINDS: dict[str, Kind] = {
    "gaussian_noise": (_gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": (_shot_noise, (500, 250, 100, 75, 50)),
    "impulse_noise": (_impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "speckle_noise": (_speckle_noise, (0.06, 0.1, 0.12, 0.16, 0.2)),
    "defocus_blur": (_defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))),
    "gaussian_blur": (_gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1.0)),
    "glass_blur": (
        _glass_blur,
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    ),
    "motion_blur": (_motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    "zoom_blur": (_zoom_blur, (1.06, 1.11, 1.16, 1.21, 1.26)),
    "snow": (
        _snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
    ),
    "fog": (_fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "brightness": (_brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (_contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "saturate": (_saturate, ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))),
    "elastic_transform": (
        _elastic_transform,
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    ),
    "pixelate": (_pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg_compression": (_jpeg_compression, (80, 65, 58, 50, 40)),
}
"""Each kind's function and its constants, by severity."""
