"""CIFAR-10-C's blurs (`experiments.corruptions`)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import ndimage

Images = Float[np.ndarray, "n height width channels"]
Rng = np.random.Generator


def gaussian_blur(x: Images, c: float, rng: Rng) -> Images:
    return ndimage.gaussian_filter(x, (0, c, c, 0), mode="nearest")


def glass_blur(x: Images, c: tuple[float, int, int], rng: Rng) -> Images:
    sigma, reach, times = c
    x = gaussian_blur(x, sigma, rng).copy()
    n, height, width, _ = x.shape
    every = np.arange(n)
    for _ in range(times):
        for row in range(height - reach, reach, -1):
            for column in range(width - reach, reach, -1):
                down, right = rng.integers(-reach, reach, (2, n))
                here = x[:, row, column].copy()
                x[:, row, column] = x[every, row + down, column + right]
                x[every, row + down, column + right] = here
    return gaussian_blur(x, sigma, rng)


def defocus_blur(x: Images, c: tuple[float, float], rng: Rng) -> Images:
    radius, alias = c
    y, z = np.mgrid[-8:9, -8:9]
    disc = (y**2 + z**2 <= radius**2).astype(float)
    kernel = ndimage.gaussian_filter(disc / disc.sum(), alias, radius=1)
    return ndimage.convolve(x, kernel[None, :, :, None], mode="mirror")


def motion_blur(x: Images, c: tuple[int, float], rng: Rng) -> Images:
    return along_a_line(x, c, rng.uniform(-45, 45, len(x)))


def along_a_line(x: Images, c: tuple[int, float], degrees: np.ndarray) -> Images:
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


def zoomed(x: Images, factor: float) -> Images:
    """The centre, enlarged to the whole."""
    height, width = x.shape[1:3]
    inner = [int(np.ceil(side / factor)) for side in (height, width)]
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    centre = x[:, top : top + inner[0], left : left + inner[1]]
    large = ndimage.zoom(centre, (1, factor, factor, 1), order=1)
    top, left = (large.shape[1] - height) // 2, (large.shape[2] - width) // 2
    return np.asarray(large[:, top : top + height, left : left + width])


def zoom_blur(x: Images, c: float, rng: Rng) -> Images:
    factors = np.arange(1, c, 0.01)
    return (x + sum(zoomed(x, factor) for factor in factors)) / (len(factors) + 1)
