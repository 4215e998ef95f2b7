"""Converts weights between torchvision's models and ours (NumPy on the host, no PyTorch).

A parameter's path in our modules is its name in torchvision, except for three renamings. Kernels
are transposed and nothing else changes, so a round trip keeps every bit.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from infoutil_jax.errors import InputError
from infoutil_jax.models import layouts
from infoutil_jax.models.architecture import Architecture, BackboneOptions
from infoutil_jax.models.create import create_partly
from infoutil_jax.models.swin_v2 import SwinV2
from infoutil_jax.models.torch_files import read_tensors

LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
# Each channel's mean and standard deviation that torchvision's models are trained with.
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# What else a state holds: counters that nothing reads, tables that we compute, zeros.
IGNORED = (
    *("num_batches_tracked", "relative_position_index", "relative_coords_table"),
    *("attn_mask", "k_bias"),
)
_CLASSIFIER = re.compile(r"(fc|head|classifier|classifier\.\d)\.weight")
# A backbone's first layer: of ResNet, of MobileNet-V2 and Swin V2, of VGG, of ConvNet.
FIRST = ("conv1.weight", "features.0.0.weight", "features.0.weight", "block0.conv.weight")


def load_torchvision(
    name: str,
    path: str | Path,
    *,
    num_classes: int | None = None,
    image_size: int | tuple[int, int] = 224,
    channels: int = 3,
    rngs: nnx.Rngs | None = None,
    **options: Unpack[BackboneOptions],
) -> nnx.Module:
    """A backbone with the weights of a file: torchvision's, timm's, Hugging Face's or a ConvNet's.

    Args:
        name: resnet18, resnet50, resnet101, mobilenet_v2, vgg11, vgg11_bn, swin_v2_t or convnet3
            to convnet6.
        path: a `.safetensors`, `.npz`, or a `.pth` of a state dict or a training's checkpoint. Only
            tensors are read from a `.pth`; no code in it ever runs.
        num_classes: outputs; if the file has another number, the classifier is drawn afresh. None:
            as many as the file has.
        image_size: as for `create`.
        channels: as for `create`; where the file has others, its first layer is summed (for one) or
            repeated in turn, and a warning says so.
        rngs: randomness of a fresh classifier; None for seed 0.
        **options: as for `create`; by default what the file shows (`options_in`).

    Returns:
        The module; `as_predict` gives its function and variables.

    Raises:
        InputError: the file cannot be read or holds something else, or tensors are missing,
            unexpected or of another shape.

    Examples:
        >>> load_torchvision("resnet50", "resnet50.safetensors")  # doctest: +SKIP
    """
    tensors = read_tensors(path)
    found = classes_in(tensors)
    first = next((key for key in FIRST if key in tensors), None)
    if first and tensors[first].ndim == 4 and (have := tensors[first].shape[1]) != channels:
        tensors = {**tensors, first: of_channels(tensors[first], channels)}
        warnings.warn(
            f"{path} takes images of {have} channels: its first layer is "
            f"{'summed' if channels == 1 else 'repeated in turn'} for {channels}",
            UserWarning,
            stacklevel=2,
        )
    architecture = Architecture.of(
        name,
        num_classes=num_classes or found or 1000,
        image_size=image_size,
        channels=channels,
        **(options_in(name, tensors) | options),
    )
    rngs = rngs or nnx.Rngs(0)
    module = create_partly(architecture, lambda path: False, rngs=rngs)
    fresh = to_torchvision(module)
    if found is not None and num_classes not in (None, found):
        last = classifier_in(fresh) or ""
        classifier = {last, last.removesuffix("weight") + "bias"}
        places = {"/".join(path) for path, _, name, _ in _variables(module) if name in classifier}
        drawn = to_torchvision(create_partly(architecture, places.__contains__, rngs=rngs))
        tensors = {**tensors, **{key: drawn[key] for key in classifier}}
    _check(path, name, tensors, fresh)
    load_state(module, tensors)
    return module


def options_in(name: str, tensors: Mapping[str, np.ndarray]) -> BackboneOptions:
    """Finds a backbone's options, as far as its tensors show them.

    ResNet: `width`, and `stem`, which is 7 or 3 pixels wide. ConvNet: `width` and `norm`. VGG:
    `head`, of three linear layers or one. Swin V2: `window`, where the file has the table of
    positions, else our default. MobileNet's two stems have the same tensors, so it takes
    torchvision's.
    """
    first = tensors.get("conv1.weight")
    if name.startswith("resnet") and first is not None and first.ndim == 4:
        return {"stem": "cifar" if first.shape[-1] == 3 else "imagenet", "width": len(first)}
    first = tensors.get("block0.conv.weight")
    if name.startswith("convnet") and first is not None:
        if "block0.norm.running_mean" in tensors:
            return {"width": len(first), "norm": "batch"}
        learnt = "block0.norm.weight" in tensors
        return {"width": len(first), "norm": "instance" if learnt else "none"}
    if name == "mobilenet_v2":
        return {"stem": "imagenet"}
    if name.startswith("vgg"):
        return {"head": "imagenet" if "classifier.6.weight" in tensors else "small"}
    tables = (key for key in tensors if key.endswith("relative_coords_table"))
    if name == "swin_v2_t" and (table := next(tables, None)):
        return {"window": (tensors[table].shape[-2] + 1) // 2}
    return {}


def classifier_in(tensors: Mapping[str, np.ndarray]) -> str | None:
    """Name of the classifier's matrix; None where there is none."""
    names = [key for key in tensors if _CLASSIFIER.fullmatch(key) and tensors[key].ndim == 2]
    return max(names, default=None)


def classes_in(tensors: Mapping[str, np.ndarray]) -> int | None:
    """Rows of the classifier's matrix; None where there is none."""
    name = classifier_in(tensors)
    return None if name is None else len(tensors[name])


def of_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """A first layer's kernel `[out, in, rows, columns]`, for images of other channels.

    For one channel it is summed, which on grey images is the same; for others it is repeated in
    turn, at a scale that keeps the sum of what comes out. As timm does.
    """
    have = kernel.shape[1]
    if channels == 1:
        summed: np.ndarray = kernel.sum(1, keepdims=True)
        return summed
    repeated: np.ndarray = kernel[:, np.arange(channels) % have]
    scaled: np.ndarray = repeated * np.asarray(have / channels, kernel.dtype)
    return scaled


def load_state(module: nnx.Module, tensors: Mapping[str, np.ndarray]) -> None:
    """Overwrites a module's parameters and statistics with torchvision's tensors, in place."""
    for _, variable, name, there in _variables(module):
        value = tensors[name]
        if there:
            value = value.transpose((2, 3, 1, 0) if value.ndim == 4 else (1, 0))
        variable[...] = jnp.asarray(np.ascontiguousarray(value), variable[...].dtype)


def to_torchvision(module: nnx.Module) -> dict[str, np.ndarray]:
    """A module's parameters and statistics under torchvision's names, in its layout.

    In PyTorch: `model.load_state_dict({k: torch.tensor(v) for k, v in tensors.items()},
    strict=False)`; only counters and tables are missing, which PyTorch's module makes itself.
    `safetensors.numpy.save_file(tensors, path)` writes a file that `load_torchvision` reads.

    Args:
        module: made by `create` or `load_torchvision`.
    """
    tensors = {}
    for _, variable, name, transposed in _variables(module):
        value = np.asarray(jax.device_get(variable[...]))
        if transposed:
            value = value.transpose((3, 2, 0, 1) if value.ndim == 4 else (1, 0))
        tensors[name] = np.ascontiguousarray(value)
    return tensors


def _variables(module: nnx.Module) -> list[tuple[list[str], Any, str, bool]]:
    """Lists each variable with its path, its name in torchvision, and whether it is transposed."""
    named = []
    state = nnx.state(module, nnx.Any(nnx.Param, nnx.BatchStat))
    for path, _ in nnx.to_flat_state(state):
        parts = [str(part) for part in path]
        variable: Any = module
        for part in path:
            variable = variable[part] if isinstance(part, int) else getattr(variable, str(part))
        if parts[0] == "layers":
            parts[0] = "features"
        if parts[0] == "fc" and isinstance(module, SwinV2):
            parts[0] = "head"
        *owner, leaf = parts
        there = ".".join([*owner, LEAVES.get(leaf, leaf)])
        named.append(([str(part) for part in path], variable, there, leaf == "kernel"))
    return named


def _check(
    path: str | Path, name: str, tensors: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]
) -> None:
    """Raises an InputError that lists the tensors that do not fit."""
    given = {key for key in tensors if key.rpartition(".")[2] not in IGNORED}
    shapes = [
        f"{key} {list(tensors[key].shape)} instead of {list(wanted[key].shape)}"
        for key in wanted
        if key in tensors and tensors[key].shape != wanted[key].shape
    ]
    faults = {
        "missing": [key for key in wanted if key not in tensors],
        "unexpected": sorted(given - wanted.keys()),
        "of another shape": shapes,
    }
    if any(faults.values()):
        lists = "; ".join(
            f"{len(keys)} {what} ({', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''})"
            for what, keys in faults.items()
            if keys
        )
        raise InputError(
            f"{path} is no {name} of these options: of its tensors {lists}; known are "
            f"{layouts.KNOWN}"
        )
