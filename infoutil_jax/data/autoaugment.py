"""AutoAugment (Cubuk et al., CVPR 2019, arXiv 1805.09501) on the device (JAX).

The learnt policies, with magnitudes as torchvision reads them; operations as Pillow computes them
on 8-bit images, nearest neighbours and black outside. One key a batch, one policy an image.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8

from infoutil_jax.errors import InputError

Image = Float[Array, "height width channels"]
Scalar = Float[Array, ""]

# Tables 7 (CIFAR-10) and 9 (ImageNet) of the paper. A sub-policy is two operations, each with its
# probability in tenths and its magnitude, 0 to 9.
POLICIES = {
    "cifar10": """
        Invert 1 0 Contrast 2 6; Rotate 7 2 TranslateX 3 9; Sharpness 8 1 Sharpness 9 3;
        ShearY 5 8 TranslateY 7 9; AutoContrast 5 0 Equalize 9 0; ShearY 2 7 Posterize 3 7;
        Color 4 3 Brightness 6 7; Sharpness 3 9 Brightness 7 9; Equalize 6 0 Equalize 5 0;
        Contrast 6 7 Sharpness 6 5; Color 7 7 TranslateX 5 8; Equalize 3 0 AutoContrast 4 0;
        TranslateY 4 3 Sharpness 2 6; Brightness 9 6 Color 2 8; Solarize 5 2 Invert 0 0;
        Equalize 2 0 AutoContrast 6 0; Equalize 2 0 Equalize 6 0; Color 9 9 Equalize 6 0;
        AutoContrast 8 0 Solarize 2 8; Brightness 1 3 Color 7 0; Solarize 4 5 AutoContrast 9 0;
        TranslateY 9 9 TranslateY 7 9; AutoContrast 9 0 Solarize 8 3; Equalize 8 0 Invert 1 0;
        TranslateY 7 9 AutoContrast 9 0""",
    "imagenet": """
        Posterize 4 8 Rotate 6 9; Solarize 6 5 AutoContrast 6 0; Equalize 8 0 Equalize 6 0;
        Posterize 6 7 Posterize 6 6; Equalize 4 0 Solarize 2 4; Equalize 4 0 Rotate 8 8;
        Solarize 6 3 Equalize 6 0; Posterize 8 5 Equalize 10 0; Rotate 2 3 Solarize 6 8;
        Equalize 6 0 Posterize 4 6; Rotate 8 8 Color 4 0; Rotate 4 9 Equalize 6 0;
        Equalize 0 0 Equalize 8 0; Invert 6 0 Equalize 10 0; Color 6 4 Contrast 10 8;
        Rotate 8 8 Color 10 2; Color 8 8 Solarize 8 7; Sharpness 4 7 Invert 6 0;
        ShearX 6 5 Equalize 10 0; Color 4 0 Equalize 6 0; Equalize 4 0 Solarize 2 4;
        Solarize 6 5 AutoContrast 6 0; Invert 6 0 Equalize 10 0; Color 6 4 Contrast 10 8;
        Equalize 8 0 Equalize 6 0""",
}


@partial(jax.jit, static_argnames="policy")
def autoaugment(
    key: Key[Array, ""],
    images: UInt8[Array, "batch height width channels"],
    policy: str = "imagenet",
) -> UInt8[Array, "batch height width channels"]:
    """Changes each image by a sub-policy that is drawn for it.

    Args:
        key: randomness of the batch.
        images: pixels; of any channel count ("Color" changes nothing unless there are three).
        policy: "cifar10" or "imagenet".

    Raises:
        InputError: unknown policy.
    """
    if policy not in POLICIES:
        raise InputError(f"AutoAugment policy {policy!r} is unknown: choose {', '.join(POLICIES)}")
    operations, chances, levels = _table(policy)
    chosen = jax.random.randint(key, (len(images),), 0, len(operations))
    drawn = jax.random.uniform(jax.random.fold_in(key, 1), (2, 2, len(images)))

    def one(image: Array, chosen: Array, drawn: Array) -> Array:
        image = image.astype(jnp.float32)
        for turn in range(2):
            sign = jnp.where(drawn[1, turn] < 0.5, -1.0, 1.0)
            branches = [
                partial(operation, sign=sign, level=levels[chosen, turn])
                for operation in OPERATIONS.values()
            ]
            changed = jax.lax.switch(operations[chosen, turn], branches, image)
            image = jnp.where(drawn[0, turn] < chances[chosen, turn], changed, image)
        return image.astype(jnp.uint8)

    changed: Array = jax.vmap(one, (0, 0, 2))(images, chosen, drawn)
    return changed


def _table(policy: str) -> tuple[Array, Array, Array]:
    """Operation, probability and level of both turns of every sub-policy: `[sub-policies, 2]`."""
    words = np.array([part.split() for part in POLICIES[policy].split(";")]).reshape(-1, 2, 3)
    names = list(OPERATIONS)
    operations = [[names.index(name) for name in pair] for pair in words[..., 0]]
    chances, levels = words[..., 1].astype(float) / 10, words[..., 2].astype(float)
    return jnp.array(operations), jnp.array(chances), jnp.array(levels)


def blend(image: Image, other: Float[Array, "..."], factor: Float[Array, ""]) -> Image:
    """Blends: `other` at factor 0, the image at 1, extrapolated beyond; rounded down to levels."""
    return jnp.floor(jnp.clip(other + factor * (image - other), 0, 255))


def grey(image: Image) -> Float[Array, "height width grey"]:
    """ITU-R 601 luma in Pillow's integers; an image without three channels stays as it is."""
    if image.shape[-1] != 3:
        return image
    weighed = image.astype(jnp.int32) @ jnp.array([19595, 38470, 7471])
    return ((weighed + 0x8000) >> 16).astype(jnp.float32)[..., None]


def smooth(image: Image) -> Image:
    """Pillow's SMOOTH: weighs a pixel five times, its eight neighbours once; keeps borders."""
    height, width, _ = image.shape
    if min(height, width) < 3:
        return image
    shifted = [image[i : height - 2 + i, j : width - 2 + j] for i in range(3) for j in range(3)]
    inner = jnp.floor((sum(shifted) + 4 * image[1:-1, 1:-1]) / 13 + 0.5)
    return image.at[1:-1, 1:-1].set(inner)


def affine(image: Image, matrix: Float[Array, "2 3"]) -> Image:
    """Takes pixel (x, y) from `matrix @ (x, y, 1)`, at pixel centres; outside is black."""
    height, width, _ = image.shape
    rows, columns = jnp.indices((height, width)) + 0.5
    x, y = (jnp.floor(a * columns + b * rows + c).astype(int) for a, b, c in matrix)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return jnp.where(inside[..., None], image[y % height, x % width], 0.0)


def _shear_x(image: Image, sign: Scalar, level: Scalar) -> Image:
    return affine(image, jnp.array([[1, sign * level / 30, 0], [0, 1, 0]]))


def _shear_y(image: Image, sign: Scalar, level: Scalar) -> Image:
    return affine(image, jnp.array([[1, 0, 0], [sign * level / 30, 1, 0]]))


def _translate_x(image: Image, sign: Scalar, level: Scalar) -> Image:
    shift = jnp.floor(150 / 331 * image.shape[1] * level / 9)
    return affine(image, jnp.array([[1, 0, -sign * shift], [0, 1, 0]]))


def _translate_y(image: Image, sign: Scalar, level: Scalar) -> Image:
    shift = jnp.floor(150 / 331 * image.shape[0] * level / 9)
    return affine(image, jnp.array([[1, 0, 0], [0, 1, -sign * shift]]))


def _rotate(image: Image, sign: Scalar, level: Scalar) -> Image:
    angle = -sign * jnp.deg2rad(30 * level / 9)
    turn = jnp.array([[jnp.cos(angle), jnp.sin(angle)], [-jnp.sin(angle), jnp.cos(angle)]])
    centre = jnp.array([image.shape[1] / 2, image.shape[0] / 2])
    shift = centre - jnp.matmul(turn, centre, precision="highest")
    return affine(image, jnp.concatenate([turn, shift[:, None]], axis=1))


def _enhance(degenerate: Callable[[Image], Array]) -> Callable[..., Image]:
    def operation(image: Image, sign: Scalar, level: Scalar) -> Image:
        return blend(image, degenerate(image), 1 + sign * level / 10)

    return operation


def _posterize(image: Image, sign: Scalar, level: Scalar) -> Image:
    del sign
    step = 2.0 ** jnp.round(level / 2.25)
    return jnp.floor(image / step) * step


def _solarize(image: Image, sign: Scalar, level: Scalar) -> Image:
    del sign
    return jnp.where(image >= 255 - 255 * level / 9, 255 - image, image)


def _auto_contrast(image: Image, sign: Scalar, level: Scalar) -> Image:
    del sign, level
    levels = image.astype(jnp.int32)
    low, high = levels.min((0, 1)), levels.max((0, 1))
    return jnp.where(high > low, (levels - low) * 255 // jnp.maximum(high - low, 1), image)


def _equalize(image: Image, sign: Scalar, level: Scalar) -> Image:
    del sign, level
    levels = image.astype(jnp.int32)
    channel = jnp.arange(image.shape[-1])
    counts = jnp.zeros((256, image.shape[-1]), jnp.int32).at[levels, channel].add(1)
    darker = jnp.cumsum(counts, axis=0) - counts
    step = darker[levels.max((0, 1)), channel] // 255  # over all but the brightest level
    table = jnp.clip((step // 2 + darker) // jnp.maximum(step, 1), 0, 255)
    return jnp.where(step > 0, table[levels, channel].astype(jnp.float32), image)


def _invert(image: Image, sign: Scalar, level: Scalar) -> Image:
    del sign, level
    return 255 - image


# Name -> (image, sign, level 0 to 9) -> image, of pixels 0 to 255.
OPERATIONS: dict[str, Callable[..., Image]] = {
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": _translate_x,
    "TranslateY": _translate_y,
    "Rotate": _rotate,
    "Brightness": _enhance(lambda image: jnp.zeros(())),
    "Color": _enhance(grey),
    "Contrast": _enhance(lambda image: jnp.floor(grey(image).mean() + 0.5)),
    "Sharpness": _enhance(smooth),
    "Posterize": _posterize,
    "Solarize": _solarize,
    "AutoContrast": _auto_contrast,
    "Equalize": _equalize,
    "Invert": _invert,
}
