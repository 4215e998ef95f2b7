"""Swin Transformer V2, tiny (Liu et al., CVPR 2022) as torchvision has it (JAX).

Attention within windows, shifted in every other block: cosine similarity at a learned scale, plus
a bias that a small network gives to each relative position on a logarithmic scale. Initial weights
are drawn from distributions near torchvision's, not from the same.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.nn.initializers import normal, truncated_normal, xavier_uniform, zeros
from jaxtyping import Array, Float

from infoutil_jax.errors import InputError
from infoutil_jax.models.architecture import Architecture
from infoutil_jax.models.layers import Backbone, apply_all, as_float32, global_mean, same

WIDTH, DEPTHS, HEADS = 96, (2, 2, 6, 2), (3, 6, 12, 24)
POSITION_WIDTH, LARGEST_SCALE = 512, 100.0

_gelu = partial(jax.nn.gelu, approximate=False)


def _linear(inputs: int, outputs: int, dtype: Any, rngs: nnx.Rngs, bias: bool = True) -> nnx.Linear:
    return nnx.Linear(
        inputs,
        outputs,
        use_bias=bias,
        kernel_init=truncated_normal(0.02),
        bias_init=zeros,
        dtype=dtype,
        rngs=rngs,
    )


def _layer_norm(features: int, dtype: Any, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(features, epsilon=1e-5, dtype=dtype, rngs=rngs)


def position_table(window: int) -> np.ndarray:
    """Relative positions in a window, `[2w-1, 2w-1, 2]`, on the logarithmic scale (eq. 4)."""
    steps = np.arange(1 - window, window, dtype=np.float32) * 8 / max(window - 1, 1)
    scaled = np.sign(steps) * np.log2(np.abs(steps) + 1) / 3
    return np.stack(np.meshgrid(scaled, scaled, indexing="ij"), -1)


def position_index(window: int) -> np.ndarray:
    """Row of the flattened table for every pair of a window's places, `[w², w²]`."""
    places = np.stack(np.meshgrid(*[np.arange(window)] * 2, indexing="ij"), -1).reshape(-1, 2)
    apart = places[:, None] - places + window - 1
    return apart[..., 0] * (2 * window - 1) + apart[..., 1]


def shift_mask(size: tuple[int, int], window: int, shifts: tuple[int, int]) -> np.ndarray | None:
    """Which places of a shifted window attend to each other, `[windows, w², w²]`; None for all."""
    if shifts == (0, 0):
        return None
    regions = [
        np.digitize(np.arange(length), [length - window, length - shift]) if shift else [0] * length
        for length, shift in zip(size, shifts, strict=True)
    ]
    region = np.asarray(regions[0])[:, None] * 3 + np.asarray(regions[1])
    parts = region.reshape(size[0] // window, window, size[1] // window, window)
    parts = parts.swapaxes(1, 2).reshape(-1, window * window)
    together: np.ndarray = parts[:, :, None] == parts[:, None, :]
    return together


class Attention(nnx.Module):
    """Cosine attention within windows."""

    def __init__(
        self, features: int, heads: int, window: int, shift: int, dtype: Any, rngs: nnx.Rngs
    ):
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = _linear(features, 3 * features, dtype, rngs)
        self.proj = _linear(features, features, dtype, rngs)
        self.logit_scale = nnx.Param(jnp.full((heads, 1, 1), np.log(10), jnp.float32))
        self.cpb_mlp = nnx.List(
            [
                _linear(2, POSITION_WIDTH, dtype, rngs),
                nnx.relu,
                _linear(POSITION_WIDTH, heads, dtype, rngs, bias=False),
            ]
        )

    def __call__(
        self, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        """Lets the places of each window attend to each other."""
        batch, height, width, features = images.shape
        window, heads = self.window, self.heads
        padded = [-(-length // window) * window for length in (height, width)]
        margins = ((0, 0), (0, padded[0] - height), (0, padded[1] - width), (0, 0))
        images = jnp.pad(images, margins)
        # A window that spans the whole image has no neighbour to shift against.
        shifts = tuple(self.shift if length > window else 0 for length in padded)
        images = jnp.roll(images, [-shift for shift in shifts], (1, 2))

        grid = (padded[0] // window, padded[1] // window)
        places = images.reshape(batch, grid[0], window, grid[1], window, features)
        places = places.swapaxes(2, 3).reshape(batch, grid[0] * grid[1], window**2, features)
        q, k, v = jnp.split(places @ self._qkv_kernel(places.dtype) + self._qkv_bias(), 3, -1)
        q, k, v = (x.reshape(*x.shape[:-1], heads, features // heads) for x in (q, k, v))
        scale = jnp.exp(jnp.minimum(self.logit_scale[...], np.log(LARGEST_SCALE)))
        scores = jnp.einsum("bwqhc,bwkhc->bwhqk", _unit(q), _unit(k)) * scale
        scores = scores + self._position_bias()
        mask = shift_mask((padded[0], padded[1]), window, (shifts[0], shifts[1]))
        if mask is not None:
            scores = jnp.where(mask[:, None], scores, scores - 100)
        weights = jax.nn.softmax(scores).astype(v.dtype)
        out = jnp.einsum("bwhqk,bwkhc->bwqhc", weights, v)
        out = self.proj(out.reshape(batch, grid[0] * grid[1], window**2, features))

        out = out.reshape(batch, grid[0], grid[1], window, window, features).swapaxes(2, 3)
        out = jnp.roll(out.reshape(batch, *padded, features), shifts, (1, 2))
        return out[:, :height, :width]

    def _qkv_kernel(self, dtype: Any) -> Array:
        return self.qkv.kernel[...].astype(dtype)

    def _qkv_bias(self) -> Array:
        """The biases of queries and values; keys have none under cosine similarity (sec. 3.2)."""
        assert self.qkv.bias is not None
        q, _, v = jnp.split(self.qkv.bias[...], 3)
        return jnp.concatenate([q, jnp.zeros_like(q), v])

    def _position_bias(self) -> Float[Array, "heads places places"]:
        table = apply_all(self.cpb_mlp, jnp.asarray(position_table(self.window)))
        bias = table.reshape(-1, self.heads)[position_index(self.window)]
        return 16 * jax.nn.sigmoid(bias.transpose(2, 0, 1))


def _unit(vectors: Float[Array, "... features"]) -> Float[Array, "... features"]:
    wide = vectors.astype(jnp.promote_types(vectors.dtype, jnp.float32))
    square = jnp.square(wide).sum(-1, keepdims=True)
    # The root has no gradient at zero, where padding is.
    length = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    return wide / jnp.maximum(length, 1e-12)


class StochasticDepth(nnx.Module):
    """While training, an example's residual is left out by chance (Huang et al., ECCV 2016)."""

    def __init__(self, rate: float, rngs: nnx.Rngs):
        # Dropout of one number an example, shared by everything else.
        self.drop = nnx.Dropout(rate, broadcast_dims=(1, 2, 3), rngs=rngs)

    def __call__(self, residual: Float[Array, "batch height width channels"]) -> Array:
        """The residual, scaled so that its mean stays."""
        return self.drop(residual)


class Block(nnx.Module):
    """Attention and a perceptron, each normalised before it is added."""

    def __init__(
        self,
        features: int,
        heads: int,
        window: int,
        shift: int,
        drop: float,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        self.norm1 = _layer_norm(features, dtype, rngs)
        self.attn = Attention(features, heads, window, shift, dtype, rngs)
        self.norm2 = _layer_norm(features, dtype, rngs)
        wide = partial(
            nnx.Linear,
            kernel_init=xavier_uniform(),
            bias_init=normal(1e-6),
            dtype=dtype,
            rngs=rngs,
        )
        self.mlp = nnx.List([wide(features, 4 * features), _gelu, same])
        self.mlp.append(wide(4 * features, features))
        self.stochastic_depth = StochasticDepth(drop, rngs)

    def __call__(
        self, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        """The block's output."""
        images = images + self.stochastic_depth(self.norm1(self.attn(images)))
        return images + self.stochastic_depth(self.norm2(apply_all(self.mlp, images)))


class PatchMerging(nnx.Module):
    """2×2 places become one of twice the channels."""

    def __init__(self, features: int, dtype: Any, rngs: nnx.Rngs):
        self.reduction = _linear(4 * features, 2 * features, dtype, rngs, bias=False)
        self.norm = _layer_norm(2 * features, dtype, rngs)

    def __call__(
        self, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch rows columns out"]:
        """Half as high and wide, rounding up."""
        _, height, width, _ = images.shape
        images = jnp.pad(images, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
        corners = [images[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        merged: Array = self.norm(self.reduction(jnp.concatenate(corners, -1)))
        return merged


class SwinV2(Backbone):
    """Patches, four stages of blocks, norm, global mean, linear classifier; see `swin_v2_t`."""

    def __init__(
        self,
        architecture: Architecture,
        patch: int,
        window: int,
        drop: float,
        dtype: Any,
        remat: bool,
        rngs: nnx.Rngs,
    ):
        self.remat = remat
        embed = nnx.Conv(
            architecture.channels,
            WIDTH,
            (patch, patch),
            strides=patch,
            padding="VALID",
            kernel_init=truncated_normal(0.02),
            dtype=dtype,
            rngs=rngs,
        )
        stages: list[Any] = [nnx.List([embed, same, _layer_norm(WIDTH, dtype, rngs)])]
        done, total = 0, sum(DEPTHS)
        for stage, (depth, heads) in enumerate(zip(DEPTHS, HEADS, strict=True)):
            features = WIDTH << stage
            blocks = []
            for i in range(depth):
                shift = window // 2 if i % 2 else 0
                rate = drop * done / (total - 1)
                blocks.append(Block(features, heads, window, shift, rate, dtype, rngs))
                done += 1
            stages.append(nnx.List(blocks))
            if stage < len(DEPTHS) - 1:
                stages.append(PatchMerging(features, dtype, rngs))
        self.layers = nnx.List(stages)
        self.norm = _layer_norm(WIDTH << 3, dtype, rngs)
        # torchvision's name is `head`, which is a method of our backbones.
        self.fc = _linear(WIDTH << 3, architecture.num_classes, dtype, rngs)

    def features(
        self, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch rows columns out"]:
        """The last stage's maps, which Grad-CAM reads."""
        embed, *stages = self.layers
        images = apply_all(embed, images)
        for stage in stages:
            blocks = stage if isinstance(stage, nnx.List) else [stage]
            images = apply_all(blocks, images, remat=self.remat)
        maps: Array = self.norm(images)
        return maps

    def head(
        self, features: Float[Array, "batch rows columns out"]
    ) -> Float[Array, "batch classes"]:
        """Logits of the last stage's maps."""
        return as_float32(self.fc(global_mean(features)))


def swin_v2_t(
    architecture: Architecture,
    *,
    patch: int = 4,
    window: int = 8,
    drop: float = 0.2,
    dtype: Any = None,
    remat: bool = False,
    rngs: nnx.Rngs,
) -> SwinV2:
    """A Swin-V2-Tiny.

    It takes any image size: pixels that do not fill a patch are dropped, and windows that the
    image does not fill are padded with zeros.

    Args:
        architecture: what the backbone is made for; images of at least `patch` pixels a side.
        patch: pixels a side of a place (4 in print; 2 suits images of 32 and 64 pixels).
        window: places a side of a window.
        drop: probability that the last block's residual is left out while training; earlier
            blocks' in proportion.
        dtype: of the computation, `jnp.bfloat16` say; parameters are float32.
        remat: compute a block's activations again in the backward pass, to save memory.
        rngs: randomness of the initial weights and of stochastic depth.

    Returns:
        The module.

    Raises:
        InputError: a patch or window below 1, or images smaller than a patch.
    """
    image_size = architecture.image_size
    if min(patch, window) < 1:
        raise InputError(f"patch and window must be at least 1, got {patch} and {window}")
    if min(image_size) < patch:
        raise InputError(
            f"images of {image_size[0]}×{image_size[1]} pixels are smaller than one patch of "
            f"{patch}×{patch}"
        )
    return SwinV2(architecture, patch, window, drop, dtype, remat, rngs)
