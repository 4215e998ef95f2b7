"""ConvNet-3 to ConvNet-6: the small network of the dataset distillation literature (JAX).

Each block is a 3×3 convolution with bias, a normalisation, ReLU and a 2×2 average pool; a linear
layer reads the flattened last block (Gidaris & Komodakis 2018; Zhao et al. 2021).
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

from flax import nnx
from jaxtyping import Array, Float

from infoutil_jax.blocks import flattened
from infoutil_jax.errors import InputError
from infoutil_jax.models.architecture import Architecture
from infoutil_jax.models.convolution import conv
from infoutil_jax.models.layers import (
    Backbone,
    as_float32,
    batch_norm,
    bias_init,
    linear,
    same,
    weight_init,
)

Norm = Literal["batch", "instance", "none"]


def average_pool(
    images: Float[Array, "batch height width channels"],
) -> Float[Array, "batch half_height half_width channels"]:
    """Means of 2×2 pixels; an odd last row or column is dropped.

    A reshape and a mean: its gradient is a broadcast, where that of a window reduction is slow.
    """
    batch, height, width, channels = images.shape
    height, width = height // 2, width // 2
    cells = images[:, : 2 * height, : 2 * width].reshape(batch, height, 2, width, 2, channels)
    return cells.mean((2, 4))


class Block(nnx.Module):
    """Convolution, normalisation, ReLU, pool."""

    def __init__(self, channels: int, width: int, norm: str, dtype: Any, rngs: nnx.Rngs):
        self.conv = nnx.Conv(
            channels,
            width,
            (3, 3),
            padding="SAME",
            kernel_init=weight_init,
            bias_init=bias_init(9 * channels),
            dtype=dtype,
            conv_general_dilated=conv,
            rngs=rngs,
        )
        self.norm: Callable[[Array], Array]
        if norm == "batch":
            self.norm = batch_norm(width, dtype=dtype, rngs=rngs)
        elif norm == "instance":
            self.norm = nnx.InstanceNorm(width, epsilon=1e-5, dtype=dtype, rngs=rngs)
        else:
            self.norm = same

    def __call__(
        self, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch half_height half_width out"]:
        """One block's output, half as high and wide."""
        return average_pool(nnx.relu(self.norm(self.conv(images))))


class ConvNet(Backbone):
    """Blocks and a linear classifier; see `convnet`."""

    def __init__(
        self,
        depth: int,
        architecture: Architecture,
        width: int,
        norm: str,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        self.depth = depth
        for i in range(depth):
            inputs = width if i else architecture.channels
            setattr(self, f"block{i}", Block(inputs, width, norm, dtype, rngs))
        height, breadth = architecture.image_size
        features = width * (height >> depth) * (breadth >> depth)
        self.classifier = linear(features, architecture.num_classes, dtype=dtype, rngs=rngs)

    def features(
        self, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch rows columns out"]:
        """The last block's maps, which Grad-CAM reads."""
        for i in range(self.depth):
            images = getattr(self, f"block{i}")(images)
        return images

    def head(
        self, features: Float[Array, "batch rows columns out"]
    ) -> Float[Array, "batch classes"]:
        """Logits of the last block's maps."""
        return as_float32(self.classifier(flattened(features)))


def convnet(
    depth: int,
    architecture: Architecture,
    *,
    width: int = 128,
    norm: str = "batch",
    dtype: Any = None,
    rngs: nnx.Rngs,
) -> ConvNet:
    """A ConvNet of `depth` blocks with `width` channels each.

    Args:
        depth: blocks; each halves the image's height and width, rounding down.
        architecture: what the backbone is made for; images of at least `2**depth` pixels a side.
        width: channels of every block.
        norm: batch normalisation (epsilon 1e-5, running averages with momentum 0.9), instance
            normalisation with learned scale and shift, or none.
        dtype: of the computation, `jnp.bfloat16` say; parameters are float32.
        rngs: randomness of the initial weights.

    Returns:
        The module.

    Raises:
        InputError: the images are too small for the depth, or norm or width is invalid.
    """
    image_size = architecture.image_size
    if norm not in get_args(Norm):
        raise InputError(f"norm {norm!r} is unknown: choose one of {', '.join(get_args(Norm))}")
    if width < 1:
        raise InputError(f"a ConvNet's width must be at least 1, got {width}")
    if min(image_size) < 2**depth:
        raise InputError(
            f"images of {image_size[0]}×{image_size[1]} pixels are too small for "
            f"convnet{depth}, which halves them {depth} times: choose a smaller depth or "
            f"images of at least {2**depth}×{2**depth}"
        )
    return ConvNet(depth, architecture, width, norm, dtype, rngs)
