"""Converts weights between torchvision's models and ours (NumPy on the host, no PyTorch).

A parameter's path in our modules is its name in torchvision, except for three renamings. Kernels
are transposed and nothing else changes, so a round trip keeps every bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from infoutil_jax.errors import InputError
from infoutil_jax.models.architecture import Architecture, BackboneOptions
from infoutil_jax.models.create import create_partly
from infoutil_jax.models.swin_v2 import SwinV2
from infoutil_jax.models.torch_files import read_tensors

LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
# Each channel's mean and standard deviation that torchvision's models are trained with.
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# What else torchvision's state holds: counters that nothing reads, tables that we compute.
IGNORED = ("num_batches_tracked", "relative_position_index", "relative_coords_table")


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
    """A backbone with the weights of a torchvision model of the same name.

    Args:
        name: resnet18, resnet50, resnet101, mobilenet_v2, vgg11, vgg11_bn or swin_v2_t.
        path: a `.safetensors`, or a `.pth` of a state dict. Only tensors are read from a `.pth`; no
            code in it ever runs.
        num_classes: outputs; if the file has another number, the classifier is drawn afresh. None:
            as many as the file has.
        image_size: as for `create`.
        channels: as for `create`.
        rngs: randomness of a fresh classifier; None for seed 0.
        **options: as for `create`; by default what the file shows (`options_in`).

    Returns:
        The module; `as_predict` gives its function and variables.

    Raises:
        InputError: the file cannot be read or holds something else, or tensors are missing,
            unexpected or of another shape.

    Example:
        >>> load_torchvision("resnet50", "resnet50.safetensors")  # doctest: +SKIP
    """
    tensors = read_tensors(path)
    found = classes_in(tensors)
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
        last = [key for key in fresh if key.endswith(".weight") and fresh[key].ndim == 2][-1]
        classifier = {last, last.removesuffix("weight") + "bias"}
        places = {"/".join(path) for path, _, name, _ in _variables(module) if name in classifier}
        drawn = to_torchvision(create_partly(architecture, places.__contains__, rngs=rngs))
        tensors = {**tensors, **{key: drawn[key] for key in classifier}}
    _check(path, name, tensors, fresh)
    load_state(module, tensors)
    return module


def options_in(name: str, tensors: Mapping[str, np.ndarray]) -> BackboneOptions:
    """Finds a backbone's options, as far as its tensors show them.

    ResNet: `width`, and `stem`, which is 7 or 3 pixels wide. VGG: `head`, of three linear layers
    or one. MobileNet's two stems have the same tensors, so it takes torchvision's.
    """
    first = tensors.get("conv1.weight")
    if name.startswith("resnet") and first is not None and first.ndim == 4:
        return {"stem": "cifar" if first.shape[-1] == 3 else "imagenet", "width": len(first)}
    if name == "mobilenet_v2":
        return {"stem": "imagenet"}
    if name.startswith("vgg"):
        return {"head": "imagenet" if "classifier.6.weight" in tensors else "small"}
    return {}


def classes_in(tensors: Mapping[str, np.ndarray]) -> int | None:
    """Rows of the last matrix, the classifier; None where there is no matrix."""
    return next((t.shape[0] for t in reversed(list(tensors.values())) if t.ndim == 2), None)


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
        raise InputError(f"{path} is no {name} of these options: of its tensors {lists}")
