"""CIFAR-10-C's corruptions of images, by our own code (Hendrycks & Dietterich, ICLR 2019).

Constants are those of the benchmark's generator for images of 32 pixels a side, in pixels whatever
the side. Three kinds differ from it: `glass_blur` exchanges pixels (the generator's exchange copies
one of them), `motion_blur` and `snow` blur along a line by interpolation (the generator asks
ImageMagick). Frost needs the benchmark's photographs of it, which are not ours. NumPy on the host.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from scipy import ndimage

from experiments.blurs import (
    Images,
    Rng,
    defocus_blur,
    gaussian_blur,
    glass_blur,
    motion_blur,
    zoom_blur,
)
from experiments.weather import Photographs, fog, frost, snow, spatter
from infoutil_jax.errors import InputError

SEVERITIES = (1, 2, 3, 4, 5)


def corrupted(
    images: UInt8[np.ndarray, "n height width channels"],
    kind: str,
    severity: int,
    seed: int = 0,
    photographs: Photographs = (),
) -> UInt8[np.ndarray, "n height width channels"]:
    """Images under one corruption; the same arguments give the same bytes.

    Args:
        images: grey or RGB pixels.
        kind: a name of `KINDS`.
        severity: 1 to 5.
        seed: of what is drawn.
        photographs: of frost, RGB in 0 to 1 (`weather.photographs_in`); only frost needs them.

    Raises:
        InputError: an unknown kind or severity, a kind that needs colour, or frost without
            photographs, or with some that are smaller than the images.
    """
    if kind not in KINDS:
        raise InputError(f"corruption {kind!r} is unknown: choose {', '.join(KINDS)}")
    if severity not in SEVERITIES:
        raise InputError(f"severity is {severity}; it should be 1 to 5")
    if images.shape[3] != 3 and (kind == "saturate" or images.shape[3] != 1):
        raise InputError(f"{kind} of images of {images.shape[3]} channels: it needs RGB, or grey")
    if kind == "frost" and not photographs:
        raise InputError(
            "frost needs photographs of frost: those of the benchmark are in the package "
            "imagecorruptions, folder frost"
        )
    function, constants = KINDS[kind]
    if kind == "frost":
        function = partial(function, photographs=photographs)
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
    "defocus_blur": (defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))),
    "gaussian_blur": (gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1.0)),
    "glass_blur": (
        glass_blur,
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    ),
    "motion_blur": (motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    "zoom_blur": (zoom_blur, (1.06, 1.11, 1.16, 1.21, 1.26)),
    "snow": (
        snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
    ),
    "fog": (fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "brightness": (_brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (_contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "saturate": (_saturate, ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))),
    "elastic_transform": (
        _elastic_transform,
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    ),
    "pixelate": (_pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg_compression": (_jpeg_compression, (80, 65, 58, 50, 40)),
    "frost": (frost, ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))),
    "spatter": (
        spatter,
        (
            (0.62, 0.1, 0.7, 0.7, 0.5, False),
            (0.65, 0.1, 0.8, 0.7, 0.5, False),
            (0.65, 0.3, 1, 0.69, 0.5, False),
            (0.65, 0.1, 0.7, 0.69, 0.6, True),
            (0.65, 0.1, 0.5, 0.68, 0.6, True),
        ),
    ),
}
"""Each kind's function and its constants, by severity. What is drawn depends on a kind's place."""
