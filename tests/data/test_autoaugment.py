"""AutoAugment: every operation against Pillow on real photographs, the policies, the draws."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from infoutil_jax.data.autoaugment import OPERATIONS, POLICIES, autoaugment
from infoutil_jax.errors import InputError


def affine(picture, a, b, c, d, e, f):
    return picture.transform(picture.size, Image.Transform.AFFINE, (a, b, c, d, e, f))


def shift(picture, side, level):
    return int(150 / 331 * side * level / 9)


PILLOW = {
    "ShearX": lambda p, s, m: affine(p, 1, s * m / 30, 0, 0, 1, 0),
    "ShearY": lambda p, s, m: affine(p, 1, 0, 0, s * m / 30, 1, 0),
    "TranslateX": lambda p, s, m: affine(p, 1, 0, -s * shift(p, p.width, m), 0, 1, 0),
    "TranslateY": lambda p, s, m: affine(p, 1, 0, 0, 0, 1, -s * shift(p, p.height, m)),
    "Rotate": lambda p, s, m: p.rotate(s * 30 * m / 9),
    "Brightness": lambda p, s, m: ImageEnhance.Brightness(p).enhance(1 + s * m / 10),
    "Color": lambda p, s, m: ImageEnhance.Color(p).enhance(1 + s * m / 10),
    "Contrast": lambda p, s, m: ImageEnhance.Contrast(p).enhance(1 + s * m / 10),
    "Sharpness": lambda p, s, m: ImageEnhance.Sharpness(p).enhance(1 + s * m / 10),
    "Posterize": lambda p, s, m: ImageOps.posterize(p, 8 - round(m / 2.25)),
    "Solarize": lambda p, s, m: ImageOps.solarize(p, 255 - 255 * m / 9),
    "AutoContrast": lambda p, s, m: ImageOps.autocontrast(p),
    "Equalize": lambda p, s, m: ImageOps.equalize(p),
    "Invert": lambda p, s, m: ImageOps.invert(p),
}


@pytest.fixture(scope="module")
def pictures():
    """Of even and odd sides, and one of a single colour."""
    files = sorted((Path(__file__).parents[1] / "fixtures" / "imagenette").rglob("*.jpg"))[:2]
    first, second = (np.asarray(Image.open(file).convert("RGB")) for file in files)
    plain = np.full((9, 9, 3), (10, 200, 30), np.uint8)
    return [first[:32, :32], second[:31, :40], plain]


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_operations_are_pillows(name, sign, pictures):
    for picture in pictures:
        for level in (0.0, 2.0, 5.0, 9.0):
            drawn = {"sign": jnp.float32(sign), "level": jnp.float32(level)}
            ours = OPERATIONS[name](jnp.asarray(picture, jnp.float32), **drawn)
            theirs = np.asarray(PILLOW[name](Image.fromarray(picture), sign, level))
            different = np.abs(np.asarray(ours) - theirs).max(-1)
            # Where coordinates fall between two pixels, float32 may take the other: a row at most.
            # Where a level does, it may be one off; Pillow's stretched white is often 254.
            assert (different > 1).mean() <= 1 / min(picture.shape[:2]), (picture.shape, level)
            if name != "AutoContrast":
                assert (different > 0).mean() <= 0.05, (picture.shape, level)


def test_policies_are_25_pairs_of_operations_that_exist():
    for policy in POLICIES.values():
        pairs = [part.split() for part in policy.split(";")]
        assert len(pairs) == 25 and all(len(pair) == 6 for pair in pairs)
        assert {name for pair in pairs for name in pair[::3]} <= OPERATIONS.keys()
        assert all(0 <= int(word) <= 10 for pair in pairs for word in (*pair[1:3], *pair[4:]))


@pytest.mark.parametrize("policy", POLICIES)
def test_same_key_same_images_another_key_others(policy, pictures):
    images = jnp.tile(pictures[0], (64, 1, 1, 1))
    changed = autoaugment(jax.random.key(0), images, policy)
    assert changed.shape == images.shape and changed.dtype == jnp.uint8
    np.testing.assert_array_equal(changed, autoaugment(jax.random.key(0), images, policy))
    assert (changed != autoaugment(jax.random.key(1), images, policy)).any()
    # Each image draws for itself: one picture 64 times becomes many.
    assert len({bytes(image) for image in np.asarray(changed)}) > 20


def test_operations_come_as_often_as_their_probabilities_say(pictures):
    # Of CIFAR-10's sub-policies, those that can only invert: the first (0.1) and the 24th (0.1).
    images = jnp.tile(pictures[2], (20_000, 1, 1, 1))
    changed = np.asarray(autoaugment(jax.random.key(0), images, "cifar10"))
    inverted = (changed == 255 - pictures[2]).all((1, 2, 3)).mean()
    # Contrast of a single colour changes it (0.2); equalising and stretching it do not. Solarize at
    # level 5 and 8 inverts but some channels.
    assert inverted == pytest.approx((0.1 * 0.8 + 0.1) / 25, abs=0.0025)


def test_one_channel_and_an_unknown_policy(digits):
    images, _ = digits.train.arrays()
    changed = autoaugment(jax.random.key(0), jnp.asarray(images[:16]), "cifar10")
    assert changed.shape == (16, 8, 8, 1)
    with pytest.raises(InputError, match="policy 'svhn' is unknown: choose cifar10, imagenet"):
        autoaugment(jax.random.key(0), jnp.asarray(images[:2]), "svhn")
