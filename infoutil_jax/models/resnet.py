"""ResNet-18, -50 and -101 (He et al., CVPR 2016) as torchvision has them, "v1.5" (JAX).

The stride of a bottleneck is in its 3×3 convolution (Goyal et al., 2017), not in the first 1×1.
"""

from typing import Any, Literal, get_args

from flax import nnx
from jaxtyping import Array, Float

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

Stem = Literal["imagenet", "cifar"]
BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def stem_of(stem: str | None, image_size: tuple[int, int]) -> str:
    """The given stem, or by default that of small images up to 64 pixels.

    Raises:
        InputError: an unknown stem.
    """
    if stem is not None and stem not in get_args(Stem):
        raise InputError(f"stem {stem!r} is unknown: choose one of {', '.join(get_args(Stem))}")
    return stem or ("cifar" if min(image_size) <= 64 else "imagenet")


class BasicBlock(nnx.Module):
    """Two 3×3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, dtype: Any, rngs: nnx.Rngs):
        self.conv1 = convolution(inputs, width, 3, stride=stride, dtype=dtype, rngs=rngs)
        self.bn1 = batch_norm(width, dtype=dtype, rngs=rngs)
        self.conv2 = convolution(width, width, 3, dtype=dtype, rngs=rngs)
        self.bn2 = batch_norm(width, dtype=dtype, rngs=rngs)
        self.downsample = _shortcut(inputs, width, stride, dtype, rngs)

    def __call__(
        self, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch rows columns out"]:
        """The block's output."""
        out = nnx.relu(self.bn1(self.conv1(images)))
        out = self.bn2(self.conv2(out))
        return nnx.relu(out + apply_all(self.downsample, images))


class Bottleneck(nnx.Module):
    """1×1, 3×3 and 1×1 convolutions and a shortcut; four times as wide at its ends."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, dtype: Any, rngs: nnx.Rngs):
        outputs = width * self.expansion
        self.conv1 = convolution(inputs, width, 1, dtype=dtype, rngs=rngs)
        self.bn1 = batch_norm(width, dtype=dtype, rngs=rngs)
        self.conv2 = convolution(width, width, 3, stride=stride, dtype=dtype, rngs=rngs)
        self.bn2 = batch_norm(width, dtype=dtype, rngs=rngs)
        self.conv3 = convolution(width, outputs, 1, dtype=dtype, rngs=rngs)
        self.bn3 = batch_norm(outputs, dtype=dtype, rngs=rngs)
        self.downsample = _shortcut(inputs, outputs, stride, dtype, rngs)

    def __call__(
        self, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch rows columns out"]:
        """The block's output."""
        out = nnx.relu(self.bn1(self.conv1(images)))
        out = nnx.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return nnx.relu(out + apply_all(self.downsample, images))


def _shortcut(inputs: int, outputs: int, stride: int, dtype: Any, rngs: nnx.Rngs) -> nnx.List[Any]:
    """The identity, as no layer at all, where nothing changes its shape."""
    if stride == 1 and inputs == outputs:
        return nnx.List([])
    projection = convolution(inputs, outputs, 1, stride=stride, dtype=dtype, rngs=rngs)
    return nnx.List([projection, batch_norm(outputs, dtype=dtype, rngs=rngs)])


class ResNet(Backbone):
    """Stem, four stages of blocks, global mean, linear classifier; see `resnet`."""

    def __init__(
        self,
        depth: int,
        architecture: Architecture,
        width: int,
        stem: str,
        dtype: Any,
        remat: bool,
        rngs: nnx.Rngs,
    ):
        block = BasicBlock if depth == 18 else Bottleneck
        self.stem, self.remat = stem, remat
        kernel, stride = (7, 2) if stem == "imagenet" else (3, 1)
        self.conv1 = convolution(
            architecture.channels, width, kernel, stride=stride, dtype=dtype, rngs=rngs
        )
        self.bn1 = batch_norm(width, dtype=dtype, rngs=rngs)
        inputs = width
        for stage, count in enumerate(BLOCKS[depth]):
            outputs = width << stage
            blocks = []
            for i in range(count):
                stride = 2 if stage and i == 0 else 1
                blocks.append(block(inputs, outputs, stride, dtype, rngs))
                inputs = outputs * block.expansion
            setattr(self, f"layer{stage + 1}", nnx.List(blocks))
        self.fc = linear(inputs, architecture.num_classes, dtype=dtype, rngs=rngs)

    def features(
        self, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch rows columns out"]:
        """The last stage's maps, which Grad-CAM reads."""
        images = nnx.relu(self.bn1(self.conv1(images)))
        if self.stem == "imagenet":
            images = max_pool(images, 3, 2, padding=1)
        for stage in range(1, 5):
            images = apply_all(getattr(self, f"layer{stage}"), images, remat=self.remat)
        return images

    def head(
        self, features: Float[Array, "batch rows columns out"]
    ) -> Float[Array, "batch classes"]:
        """Logits of the last stage's maps."""
        return as_float32(self.fc(global_mean(features)))


def resnet(
    depth: int,
    architecture: Architecture,
    *,
    width: int = 64,
    stem: str | None = None,
    dtype: Any = None,
    remat: bool = False,
    rngs: nnx.Rngs,
) -> ResNet:
    """A ResNet of 18, 50 or 101 layers.

    Args:
        depth: layers.
        architecture: what the backbone is made for.
        width: channels of the stem and the first stage (64 in print).
        stem: "imagenet", a 7×7 convolution of stride 2 and a max-pool; "cifar", a 3×3
            convolution of stride 1 (RDED at 32 and 64 pixels); None: by the image size.
        dtype: of the computation, `jnp.bfloat16` say; parameters are float32.
        remat: compute a block's activations again in the backward pass, to save memory.
        rngs: randomness of the initial weights.

    Returns:
        The module.

    Raises:
        InputError: an unknown stem, or a width below 1.
    """
    if width < 1:
        raise InputError(f"a ResNet's width must be at least 1, got {width}")
    chosen = stem_of(stem, architecture.image_size)
    return ResNet(depth, architecture, width, chosen, dtype, remat, rngs)
