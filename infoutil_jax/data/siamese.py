"""Differentiable augmentation, one draw for a whole batch (JAX).

A refined image must help under the views that students see, and distances between real and refined
images mean something only under the same view. So one key gives one transformation, which is
applied to all images of a call: differentiable siamese augmentation (Zhao & Bilen, ICML 2021).
Students take each image in a view of its own (`training.protocol`).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from infoutil_jax.errors import InputError

Images = Float[Array, "batch height width channels"]


@dataclass(frozen=True)
class Siamese:
    """One random view for all images of a call, differentiable in them.

    DSA's code draws one kind of change a call, scale and rotation among them; this makes all that
    are asked for at once, and knows neither. A contrast of 0.5 is 0.75 to 1.25 here, there 0.5 to
    1.5.

    Attributes:
        flip: mirror half of the calls left to right.
        shift: longest shift, as a share of each side; what comes in is the mean colour.
        colour: strength of brightness, saturation and contrast, in that order; 0 for none.
        cutout: side of a square in the mean colour, as a share of each side; 0 for none.

    Raises:
        InputError: a number out of its range.
    """

    flip: bool = True
    shift: float = 0.125
    colour: tuple[float, float, float] = (1.0, 2.0, 0.5)
    cutout: float = 0.5

    def __post_init__(self) -> None:
        shares = {"shift": self.shift, "cutout": self.cutout}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise InputError(f"{name} is {share}; it must be from 0 to 1")
        if not all(0 <= strength <= 2 for strength in self.colour):
            raise InputError(f"colour is {self.colour}; each must be from 0 to 2")

    def __call__(self, key: Key[Array, ""], images: Images) -> Images:
        """The images, normalised, in the view that the key draws; the same for every call."""
        keys = jax.random.split(key, 4)
        if any(self.colour):
            images = _coloured(keys[0], images, self.colour)
        if self.shift:
            images = _shifted(keys[1], images, self.shift)
        if self.cutout:
            images = _cut_out(keys[2], images, self.cutout)
        if self.flip:
            images = jnp.where(jax.random.bernoulli(keys[3]), images[:, :, ::-1], images)
        return images


PLAIN = Siamese(flip=False, shift=0.0, colour=(0.0, 0.0, 0.0), cutout=0.0)
"""Images as they are."""


def _coloured(key: Key[Array, ""], images: Images, strength: tuple[float, float, float]) -> Images:
    """Brightness is added, saturation and contrast scale what departs from a mean."""
    drawn = jax.random.uniform(key, (3,))
    brightness, saturation, contrast = strength
    images = images + brightness * (drawn[0] - 0.5)
    grey = images.mean(3, keepdims=True)
    images = grey + (images - grey) * (1 + saturation * (drawn[1] - 0.5))
    mean = images.mean((1, 2, 3), keepdims=True)
    return mean + (images - mean) * (1 + contrast * (drawn[2] - 0.5))


def _shifted(key: Key[Array, ""], images: Images, share: float) -> Images:
    _, height, width, _ = images.shape
    most = round(share * height), round(share * width)
    padded = jnp.pad(images, ((0, 0), (most[0],) * 2, (most[1],) * 2, (0, 0)))
    top = jax.random.randint(key, (2,), 0, 2 * jnp.array(most) + 1)
    start = (jnp.zeros((), top.dtype), top[0], top[1], jnp.zeros((), top.dtype))
    return jax.lax.dynamic_slice(padded, start, images.shape)


def _cut_out(key: Key[Array, ""], images: Images, share: float) -> Images:
    _, height, width, _ = images.shape
    size = jnp.array([height, width])
    centre = jax.random.uniform(key, (2,)) * size
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)[None]
    half = share * size / 2
    inside = (jnp.abs(rows + 0.5 - centre[0]) < half[0]) & (
        jnp.abs(columns + 0.5 - centre[1]) < half[1]
    )
    return jnp.where(inside[..., None], 0.0, images)
