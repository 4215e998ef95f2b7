"""What the backbones share: layers with PyTorch's initial weights and torchvision's names (JAX).

Attributes are named as torchvision names them, so that a parameter's path is its name there
(`infoutil_jax.models.torch_weights`). Parameters are float32; `dtype` is what is computed in.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import variance_scaling, zeros
from jaxtyping import Array, Float

from infoutil_jax.models.convolution import conv

# Uniform in ±1/sqrt(fan in), PyTorch's default (Kaiming uniform with a = sqrt(5)): the published
# figures of the field were all obtained from it.
weight_init = variance_scaling(1 / 3, "fan_in", "uniform")


def bias_init(fan_in: int) -> Callable[..., Array]:
    """PyTorch's default for a bias: uniform in ±1/sqrt(fan in) of the layer's weights."""
    bound = 1 / math.sqrt(fan_in)
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)


# He et al. (ICCV 2015), backwards, as torchvision has it.
he_fan_out = variance_scaling(2, "fan_out", "normal")


class Backbone(nnx.Module):
    """A network in two parts, its last maps and their logits; Grad-CAM reads what is between."""

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
    """A square convolution padded as PyTorch's `padding=kernel // 2`, weights He-normal."""
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


def batch_norm(features: int, *, dtype: Any = None, rngs: nnx.Rngs) -> nnx.BatchNorm:
    """PyTorch's: epsilon 1e-5, running averages moved by a tenth."""
    return nnx.BatchNorm(features, momentum=0.9, epsilon=1e-5, dtype=dtype, rngs=rngs)


def linear(inputs: int, outputs: int, *, dtype: Any = None, rngs: nnx.Rngs) -> nnx.Linear:
    """PyTorch's: weights and biases uniform in ±1/sqrt(inputs)."""
    return nnx.Linear(
        inputs,
        outputs,
        kernel_init=weight_init,
        bias_init=bias_init(inputs),
        dtype=dtype,
        rngs=rngs,
    )


def max_pool(
    images: Float[Array, "batch height width channels"], size: int, stride: int, padding: int = 0
) -> Float[Array, "batch out_height out_width channels"]:
    """Maxima of square windows; what does not fill a window is dropped."""
    margins = ((padding, padding), (padding, padding))
    pooled: Array = nnx.max_pool(images, (size, size), (stride, stride), margins)  # type: ignore[no-untyped-call]
    return pooled


def global_mean(
    maps: Float[Array, "batch rows columns channels"],
) -> Float[Array, "batch channels"]:
    """Mean over all places."""
    return maps.mean((1, 2))


def apply_all(blocks: Sequence[Any], images: Array, *, remat: bool = False) -> Array:
    """One block after the other.

    With `remat`, activations inside a block are computed again in the backward pass, not kept.
    """
    for block in blocks:
        images = nnx.remat(_call)(block, images) if remat else block(images)
    return images


def _call(block: Callable[[Array], Array], images: Array) -> Array:
    return block(images)


def as_float32(logits: Float[Array, "batch classes"]) -> Float[Array, "batch classes"]:
    """Logits leave a network in full precision, whatever it computes in."""
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
