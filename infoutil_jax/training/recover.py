"""Network inversion: images optimised until a trained network sees their class in them (JAX).

The recover stage of SRe2L (Yin, Xing & Shen, NeurIPS 2023); `infoutil_jax.sre2l` is the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, Shaped, UInt8

from infoutil_jax.data import augment
from infoutil_jax.data.sources import Source
from infoutil_jax.errors import InputError
from infoutil_jax.image.resampling import resample, resampling_weights
from infoutil_jax.models.statistics import Statistics, batch_norm_inputs
from infoutil_jax.progress import Bar
from infoutil_jax.training.teacher import Teacher

# Independent streams of one seed.
_NOISE, _VIEW = range(2)
# The side from which on the authors optimise random crops rather than whole images.
_CROPPED_FROM = 64
# Iterations between two reports of the loss, each of which waits for the device.
_BLOCK = 100


@dataclass(frozen=True)
class Inversion:
    """How images are optimised. None means "chosen by the source"; see `resolve`.

    The defaults are those of the authors' code (VILA-Lab/SRe2L) for CIFAR-100. For ImageNet-1k it
    takes 4000 iterations, for Tiny-ImageNet 4000 with rate 0.1 and `bn_weight` 1.

    Attributes:
        iterations: of Adam, for each batch.
        learning_rate: of the first iteration, in units of a channel's standard deviation.
        bn_weight: of the batch normalisation term against the cross-entropy.
        first_bn_multiplier: further weight of the first layer.
        crop_scale: area of the view's random resized crop, low and high, as a fraction; (1, 1) is
            the whole image. None: (0.08, 1) for sides from 64 pixels on, and the whole image below.
        flip: mirror views at random. None: from 64 pixels on. Not for digits or letters.
        jitter: largest circular shift of a view down and to the right, in pixels. None: an eighth
            of the shorter side.
        batch_size: images optimised together, which bounds the memory and is what the batch
            normalisation term compares: it changes the result. None: one image of each class, at
            most 100. Larger batches hold several images of each class.
    """

    iterations: int = 1000
    learning_rate: float = 0.25
    bn_weight: float = 0.01
    first_bn_multiplier: float = 10.0
    crop_scale: tuple[float, float] | None = None
    flip: bool | None = None
    jitter: int | None = None
    batch_size: int | None = None

    def resolve(self, source: Source) -> Inversion:
        """The same settings with every None replaced by the default for `source`.

        Raises:
            InputError: a setting out of its range.
        """
        side = min(source.image_size)
        large = side >= _CROPPED_FROM
        settings = replace(
            self,
            crop_scale=self.crop_scale or ((0.08, 1.0) if large else (1.0, 1.0)),
            flip=large if self.flip is None else self.flip,
            jitter=side // 8 if self.jitter is None else self.jitter,
            batch_size=min(len(source.class_names), 100)
            if self.batch_size is None
            else self.batch_size,
        )
        settings._check(side)
        return settings

    def _check(self, side: int) -> None:
        for name in ("iterations", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 < self.learning_rate < np.inf:
            raise InputError(
                f"learning_rate is {self.learning_rate}; it must be positive and finite"
            )
        for name in ("bn_weight", "first_bn_multiplier"):
            if not 0 <= getattr(self, name) < np.inf:
                raise InputError(
                    f"{name} is {getattr(self, name)}; it must be finite and not negative"
                )
        scale = self.crop_scale
        if not isinstance(scale, tuple) or len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise InputError(
                f"crop_scale is {scale}; it must be a tuple of two fractions, low then high"
            )
        if not 0 <= (self.jitter or 0) < side:
            raise InputError(
                f"jitter is {self.jitter} pixels; it must be at least 0 and below the images' "
                f"shorter side, {side}"
            )


def invert(
    teacher: Teacher,
    settings: Inversion,
    image_size: tuple[int, int],
    labels: Shaped[np.ndarray, " batch"],
    ids: Shaped[np.ndarray, " batch"],
    *,
    seed: int = 0,
    bar: Bar | None = None,
) -> tuple[UInt8[np.ndarray, "batch height width channels"], Float[np.ndarray, " iterations"]]:
    """Optimises one batch of images.

    Args:
        teacher: is inverted.
        settings: of the optimisation.
        image_size: height and width in pixels.
        labels: class of each image.
        ids: number of each image, which its random draws follow, 0 to 2**32 - 1.
        seed: of noise and views.
        bar: told of finished iterations, and shown the loss.

    Returns:
        The images, and the objective on each iteration's views, before its step.

    Raises:
        InputError: the objective became NaN or infinite.
    """
    mean, std = jnp.asarray(teacher.mean, jnp.float32), jnp.asarray(teacher.std, jnp.float32)
    shape = (*image_size, teacher.channels)
    noise_keys, view_keys = (_keys(seed, stream, ids) for stream in (_NOISE, _VIEW))
    images = jax.vmap(lambda key: jax.random.normal(key, shape))(noise_keys)
    carry = images, _adam(settings).init(images), jnp.zeros(settings.iterations)
    context = teacher.variables, mean, std, view_keys, jnp.asarray(labels, jnp.int32)
    for first in range(0, settings.iterations, _BLOCK):
        stop = min(first + _BLOCK, settings.iterations)
        carry = _steps(teacher.predict, settings, context, carry, first, stop)
        loss = float(carry[2][stop - 1])
        if not np.isfinite(loss):
            raise InputError(
                f"the objective is {loss} after {stop} iterations: lower learning_rate or bn_weight"
            )
        if bar is not None:
            bar.update(stop - first, loss=loss)
    pixels = jnp.clip(jnp.round((carry[0] * std + mean) * 255), 0, 255).astype(jnp.uint8)
    return np.asarray(pixels), np.asarray(carry[2])


def objective(
    predict: Callable[..., Any],
    settings: Inversion,
    variables: Any,
    images: Float[Array, "batch height width channels"],
    labels: Int[Array, " batch"],
) -> Float[Array, ""]:
    """Mean cross-entropy plus the weighted distance of batch normalisation statistics.

    Args:
        predict: of `as_predict`.
        settings: gives the weights.
        variables: of the network.
        images: normalised.
        labels: of the images.

    Raises:
        InputError: the network has no batch normalisation.
    """
    logits, layers = batch_norm_inputs(predict, variables, images)
    losses: Array = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean() + settings.bn_weight * bn_distance(layers, settings.first_bn_multiplier)


def bn_distance(layers: Sequence[Statistics], first_multiplier: float = 1.0) -> Float[Array, ""]:
    """Sum over layers of ||mean - running mean|| + ||variance - running variance||.

    Zero, and with a gradient of zero, where both agree.

    Args:
        layers: of `batch_norm_inputs`, at least one.
        first_multiplier: of the first layer's term.
    """
    terms: list[Array] = [
        optax.safe_norm(layer.batch_mean - layer.running_mean, 0.0)
        + optax.safe_norm(layer.batch_var - layer.running_var, 0.0)
        for layer in layers
    ]
    return first_multiplier * terms[0] + sum(terms[1:], jnp.zeros(()))


def random_view(
    settings: Inversion,
    keys: Key[Array, " batch"],
    images: Float[Array, "batch height width channels"],
) -> Float[Array, "batch height width channels"]:
    """Each image's random resized crop, mirrored or not, circularly shifted.

    All three are two matrix products an image, the gradient of which is two more.

    Args:
        settings: gives scale, flip and jitter; a None of them changes nothing.
        keys: one an image.
        images: normalised.
    """
    _, height, width, _ = images.shape

    crop_scale, jitter = settings.crop_scale or (1.0, 1.0), settings.jitter or 0

    def draw(key: Array) -> tuple[Array, Array, Array]:
        box_key, flip_key, shift_key = jax.random.split(key, 3)
        box = jnp.array([0, 0, height, width])
        if crop_scale != (1, 1):
            (box,) = augment.random_boxes(box_key, 1, (height, width), crop_scale)
        flipped = bool(settings.flip) & jax.random.bernoulli(flip_key)
        return box, flipped, jax.random.randint(shift_key, (2,), 0, jitter + 1)

    boxes, flipped, shifts = jax.vmap(draw)(keys)
    rows = resampling_weights(boxes[:, 0], boxes[:, 2], height, height)
    columns = resampling_weights(boxes[:, 1], boxes[:, 3], width, width)
    columns = jnp.where(flipped[:, None, None], columns[:, ::-1], columns)
    roll = jax.vmap(partial(jnp.roll, axis=0))
    return resample(images, roll(rows, shifts[:, 0]), roll(columns, shifts[:, 1]))


# The bounds are traced, so that one compilation serves every block of iterations.
@partial(jax.jit, static_argnums=(0, 1))
def _steps(
    predict: Callable[..., Any],
    settings: Inversion,
    context: Any,
    carry: Any,
    first: Any,
    stop: Any,
) -> Any:
    variables, mean, std, keys, labels = context
    optimiser = _adam(settings)

    def step(number: Array, carry: Any) -> Any:
        images, state, losses = carry
        now = jax.vmap(jax.random.fold_in, (0, None))(keys, number)

        def loss(images: Array) -> Array:
            views = random_view(settings, now, images)
            return objective(predict, settings, variables, views, labels)

        value, gradient = jax.value_and_grad(loss)(images)
        updates, state = optimiser.update(gradient, state)
        images = jnp.clip(images + updates, -mean / std, (1 - mean) / std)
        return images, state, losses.at[number].set(value)

    return jax.lax.fori_loop(first, stop, step, carry)


def _adam(settings: Inversion) -> optax.GradientTransformation:
    rate = optax.cosine_decay_schedule(settings.learning_rate, settings.iterations)
    return optax.adam(rate, b1=0.5, b2=0.9)


def _keys(seed: int, stream: int, ids: np.ndarray) -> Key[Array, " batch"]:
    key = jax.random.fold_in(jax.random.key(seed), stream)
    return jax.vmap(partial(jax.random.fold_in, key))(jnp.asarray(ids, jnp.uint32))
