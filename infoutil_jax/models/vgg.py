"""VGG-11 (Simonyan & Zisserman, ICLR 2015) of torchvision, with batch norm or without (JAX)."""

from typing import Any, Literal, get_args

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from infoutil_jax.blocks import flattened
from infoutil_jax.errors import InputError
from infoutil_jax.models.architecture import Architecture
from infoutil_jax.models.layers import (
    Backbone,
    apply_all,
    as_float32,
    batch_norm,
    convolution,
    global_mean,
    linear,
    max_pool,
)

Head = Literal["imagenet", "small"]
LAYERS = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool")
HIDDEN, SIDE = 4096, 7


def _halve(images: Array) -> Array:
    return max_pool(images, 2, 2)


class VGG(Backbone):
    """Convolutions and pools, then linear layers; see `vgg`."""

    def __init__(
        self,
        architecture: Architecture,
        norm: bool,
        head: str,
        dropout: float,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        self.small = head == "small"
        layers: list[Any] = []
        inputs = architecture.channels
        for width in LAYERS:
            if isinstance(width, str):
                layers.append(_halve)
                continue
            layers.append(convolution(inputs, width, 3, bias=True, dtype=dtype, rngs=rngs))
            if norm:
                layers.append(batch_norm(width, dtype=dtype, rngs=rngs))
            layers.append(nnx.relu)
            inputs = width
        self.layers = nnx.List(layers)
        self.classifier = nnx.List(
            [linear(inputs, architecture.num_classes, dtype=dtype, rngs=rngs)]
            if self.small
            else [
                linear(inputs * SIDE * SIDE, HIDDEN, dtype=dtype, rngs=rngs),
                nnx.relu,
                nnx.Dropout(dropout, rngs=rngs),
                linear(HIDDEN, HIDDEN, dtype=dtype, rngs=rngs),
                nnx.relu,
                nnx.Dropout(dropout, rngs=rngs),
                linear(HIDDEN, architecture.num_classes, dtype=dtype, rngs=rngs),
            ]
        )

    def features(
        self, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch rows columns out"]:
        """The last pool's maps, which Grad-CAM reads."""
        return apply_all(self.layers, images)

    def head(
        self, features: Float[Array, "batch rows columns out"]
    ) -> Float[Array, "batch classes"]:
        """Logits of the last pool's maps."""
        if self.small:
            return as_float32(apply_all(self.classifier, global_mean(features)))
        # Channels first, as the published weights of the first linear layer have them.
        pooled = adaptive_mean(features, SIDE).transpose(0, 3, 1, 2)
        return as_float32(apply_all(self.classifier, flattened(pooled)))


def adaptive_mean(
    maps: Float[Array, "batch rows columns channels"], side: int
) -> Float[Array, "batch side side channels"]:
    """PyTorch's `AdaptiveAvgPool2d`: means of windows that cover the maps, whatever their size."""
    rows, columns = (_windows(length, side) for length in maps.shape[1:3])
    return jnp.einsum("ir,jc,brck->bijk", rows, columns, maps, precision="highest").astype(
        maps.dtype
    )


def _windows(length: int, side: int) -> np.ndarray:
    """Weights `[side, length]` of means over pixels floor(i L / n) to ceil((i + 1) L / n)."""
    place, pixel = np.arange(side)[:, None], np.arange(length)
    inside = (pixel >= place * length // side) & (pixel < -(-(place + 1) * length // side))
    weights: np.ndarray = (inside / inside.sum(1, keepdims=True)).astype(np.float32)
    return weights


def vgg(
    norm: bool,
    architecture: Architecture,
    *,
    head: str | None = None,
    dropout: float = 0.5,
    dtype: Any = None,
    rngs: nnx.Rngs,
) -> VGG:
    """A VGG of eight convolutions.

    Args:
        norm: whether batch normalisation follows each convolution; the paper has none.
        architecture: what the backbone is made for; images of at least 32 pixels a side.
        head: "imagenet", three linear layers on 7×7 places; "small", one on the mean of all
            places; None: small up to 64 pixels.
        dropout: share of features left out between the linear layers while training.
        dtype: of the computation, `jnp.bfloat16` say; parameters are float32.
        rngs: randomness of the initial weights and of dropout.

    Returns:
        The module.

    Raises:
        InputError: the images are too small, or the head is unknown.
    """
    image_size = architecture.image_size
    if head is not None and head not in get_args(Head):
        raise InputError(f"head {head!r} is unknown: choose one of {', '.join(get_args(Head))}")
    if min(image_size) < 32:
        raise InputError(
            f"images of {image_size[0]}×{image_size[1]} pixels are too small for VGG-11, which "
            "halves them 5 times: give images of at least 32×32"
        )
    chosen = head or ("small" if min(image_size) <= 64 else "imagenet")
    return VGG(architecture, norm, chosen, dropout, dtype, rngs)
