"""MobileNet-V2 (Sandler et al., CVPR 2018) as torchvision has it (JAX).

But for the initial weights of its classifier, which are PyTorch's usual ones.
"""

from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from infoutil_jax.models.architecture import Architecture
from infoutil_jax.models.layers import (
    Backbone,
    apply_all,
    as_float32,
    batch_norm,
    convolution,
    global_mean,
    linear,
)
from infoutil_jax.models.resnet import stem_of

# Expansion, channels, repeats and stride of each stage (Table 2 there).
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
FIRST, LAST = 32, 1280


class InvertedResidual(nnx.Module):
    """1×1 to more channels, 3×3 in each by itself, 1×1 to few; a shortcut where shapes agree."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, expansion: int, dtype: Any, rngs: nnx.Rngs
    ):
        hidden = inputs * expansion
        self.shortcut = stride == 1 and inputs == outputs
        layers: list[Any] = []
        if expansion != 1:
            layers.append(_conv_norm_relu(inputs, hidden, 1, 1, 1, dtype, rngs))
        layers += [
            _conv_norm_relu(hidden, hidden, 3, stride, hidden, dtype, rngs),
            convolution(hidden, outputs, 1, dtype=dtype, rngs=rngs),
            batch_norm(outputs, dtype=dtype, rngs=rngs),
        ]
        self.conv = nnx.List(layers)

    def __call__(
        self, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch rows columns out"]:
        """The block's output."""
        out = images
        for layer in self.conv:
            out = apply_all(layer, out) if isinstance(layer, nnx.List) else layer(out)
        return images + out if self.shortcut else out


def _conv_norm_relu(
    inputs: int, outputs: int, kernel: int, stride: int, groups: int, dtype: Any, rngs: nnx.Rngs
) -> nnx.List[Any]:
    conv = convolution(
        inputs, outputs, kernel, stride=stride, groups=groups, dtype=dtype, rngs=rngs
    )
    return nnx.List([conv, batch_norm(outputs, dtype=dtype, rngs=rngs), nnx.relu6])


class MobileNetV2(Backbone):
    """Stem, inverted residuals, global mean, dropout, linear classifier; see `mobilenet_v2`."""

    def __init__(
        self,
        architecture: Architecture,
        stem: str,
        dropout: float,
        dtype: Any,
        remat: bool,
        rngs: nnx.Rngs,
    ):
        self.remat = remat
        first = 2 if stem == "imagenet" else 1
        blocks: list[Any] = [
            _conv_norm_relu(architecture.channels, FIRST, 3, first, 1, dtype, rngs)
        ]
        inputs = FIRST
        for expansion, outputs, repeats, stride in STAGES:
            for i in range(repeats):
                step = stride if i == 0 else 1
                blocks.append(InvertedResidual(inputs, outputs, step, expansion, dtype, rngs))
                inputs = outputs
        blocks.append(_conv_norm_relu(inputs, LAST, 1, 1, 1, dtype, rngs))
        self.layers = nnx.List(blocks)
        self.classifier = nnx.List(
            [
                nnx.Dropout(dropout, rngs=rngs),
                linear(LAST, architecture.num_classes, dtype=dtype, rngs=rngs),
            ]
        )

    def features(
        self, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch rows columns out"]:
        """The last convolution's maps, which Grad-CAM reads."""
        first, *blocks, last = self.layers
        images = apply_all(blocks, apply_all(first, images), remat=self.remat)
        return apply_all(last, images)

    def head(
        self, features: Float[Array, "batch rows columns out"]
    ) -> Float[Array, "batch classes"]:
        """Logits of the last convolution's maps."""
        return as_float32(apply_all(self.classifier, global_mean(features)))


def mobilenet_v2(
    architecture: Architecture,
    *,
    stem: str | None = None,
    dropout: float = 0.2,
    dtype: Any = None,
    remat: bool = False,
    rngs: nnx.Rngs,
) -> MobileNetV2:
    """A MobileNet-V2 of width 1.

    Args:
        architecture: what the backbone is made for.
        stem: "imagenet", a first convolution of stride 2; "cifar", of stride 1 (RDED at 32 and 64
            pixels); None: by the image size.
        dropout: share of features left out before the classifier while training.
        dtype: of the computation, `jnp.bfloat16` say; parameters are float32.
        remat: compute a block's activations again in the backward pass, to save memory.
        rngs: randomness of the initial weights and of dropout.

    Returns:
        The module.

    Raises:
        InputError: an unknown stem.
    """
    chosen = stem_of(stem, architecture.image_size)
    return MobileNetV2(architecture, chosen, dropout, dtype, remat, rngs)
