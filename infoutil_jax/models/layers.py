"""Layers that the backbones share, with PyTorch's initial weights (JAX).

Attributes are named as torchvision names them, so that a parameter's path is its name there
(`infoutil_jax.models.torch_weights`). Parameters are float32; a layer computes in `dtype`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.nn.initializers import variance_scaling, zeros
from jaxtyping import Array, Float

from infoutil_jax.models.convolution import conv

# Uniform in ±1/sqrt(fan in), PyTorch's default (Kaiming uniform with a = sqrt(5)), from which all
# published figures of the field start.
weight_init = variance_scaling(1 / 3, "fan_in", "uniform")

MOMENTUM = 0.9
"""Of running averages of batch normalisation: the share of the old."""


def bias_init(fan_in: int) -> Callable[..., Array]:
    """PyTorch's default for a bias: uniform in ±1/sqrt(fan in) of the layer's weights."""
    bound = 1 / math.sqrt(fan_in)
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)


# He et al. (ICCV 2015) for the backward pass, torchvision's choice.
he_fan_out = variance_scaling(2, "fan_out", "normal")


class Backbone(nnx.Module):
    """A network in two parts: `features` makes the maps that Grad-CAM reads, `head` the logits."""

    def __call__(
        self, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch classes"]:
        """Logits of normalised images."""
        return self.head(self.features(images))

    def features(
        self, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch rows columns out"]:
        """The last maps."""
        raise NotImplementedError

    def head(
        self, features: Float[Array, "batch rows columns out"]
    ) -> Float[Array, "batch classes"]:
        """Logits of the last maps."""
        raise NotImplementedError


def convolution(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
    dtype: Any = None,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """Makes a square convolution with He-normal weights and PyTorch's `padding=kernel // 2`."""
    margin = kernel // 2
    return nnx.Conv(
        inputs,
        outputs,
        (kernel, kernel),
        strides=stride,
        padding=((margin, margin), (margin, margin)),
        feature_group_count=groups,
        use_bias=bias,
        kernel_init=he_fan_out,
        bias_init=zeros,
        dtype=dtype,
        conv_general_dilated=conv,
        rngs=rngs,
    )


class BatchNorm(nnx.BatchNorm):
    """Flax's over all axes but the last, whose running averages have a gradient.

    NNX stops it, Linen does not. An image that is optimised through what a network does after it
    has seen it needs it: it changes by what all others are normalised.
    """

    def __call__(
        self, x: Array, use_running_average: bool | None = None, *, mask: Array | None = None
    ) -> Array:
        """Normalised by the batch, or in evaluation mode by the running averages."""
        given = self.use_running_average if use_running_average is None else use_running_average
        if given:
            found: Array = super().__call__(x, True, mask=mask)
            return found
        assert self.scale is not None and self.bias is not None  # as `batch_norm` makes it
        x, scale, bias = self.promote_dtype((x, self.scale[...], self.bias[...]), dtype=self.dtype)
        others = tuple(range(x.ndim - 1))
        wide = jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32))
        mean, square = (each.mean(others, where=mask) for each in (wide, lax.square(wide)))
        var = jnp.maximum(0.0, square - lax.square(mean))
        for average, new in ((self.mean, mean), (self.var, var)):
            # Assigned by `average[...] =`, as Flax does it, each layer takes as long to trace as
            # all before it (findings/flax_variable_assignment.sh).
            moved = self.momentum * average[...] + (1 - self.momentum) * new
            average.set_value(moved.astype(average[...].dtype))
        return ((x - mean) * (lax.rsqrt(var + self.epsilon) * scale) + bias).astype(x.dtype)


def batch_norm(features: int, *, dtype: Any = None, rngs: nnx.Rngs) -> BatchNorm:
    """Makes PyTorch's batch norm: epsilon 1e-5, running averages that move by a tenth."""
    return BatchNorm(features, momentum=MOMENTUM, epsilon=1e-5, dtype=dtype, rngs=rngs)


def linear(inputs: int, outputs: int, *, dtype: Any = None, rngs: nnx.Rngs) -> nnx.Linear:
    """Makes PyTorch's linear layer: weights and biases uniform in ±1/sqrt(inputs)."""
    return nnx.Linear(
        inputs,
        outputs,
        kernel_init=weight_init,
        bias_init=bias_init(inputs),
        dtype=dtype,
        rngs=rngs,
    )


def same(images: Array) -> Array:
    """What stands where a layer is left out: one function, so that networks' structures agree."""
    return images


def max_pool(
    images: Float[Array, "batch height width channels"], size: int, stride: int, padding: int = 0
) -> Float[Array, "batch out_height out_width channels"]:
    """Maxima of square windows; pixels that do not fill a window are dropped."""
    margins = ((padding, padding), (padding, padding))
    pooled: Array = nnx.max_pool(images, (size, size), (stride, stride), margins)
    return pooled


def global_mean(
    maps: Float[Array, "batch rows columns channels"],
) -> Float[Array, "batch channels"]:
    """Mean over all places."""
    return maps.mean((1, 2))


def apply_all(blocks: Sequence[Any], images: Array, *, remat: bool = False) -> Array:
    """Applies one block after the other.

    With `remat`, the backward pass computes the activations inside a block again.
    """
    for block in blocks:
        images = nnx.remat(_call)(block, images) if remat else block(images)
    return images


def _call(block: Callable[[Array], Array], images: Array) -> Array:
    return block(images)


def as_float32(logits: Float[Array, "batch classes"]) -> Float[Array, "batch classes"]:
    """Casts logits to at least float32, whatever type the network computes in."""
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
