"""What a result was made with, for manifests and result files (NumPy on the host)."""

from __future__ import annotations

import hashlib
import inspect
import math
import platform
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import numpy as np

PACKAGES = (
    *("infoutil-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow"),
    *("scikit-learn", "scipy"),
)
LARGEST_LIST = 64  # entries of an array that a manifest spells out


def code(package: Path) -> str:
    """SHA-256 of a package's sources."""
    files = sorted(package.rglob("*.py"), key=lambda file: file.relative_to(package).parts)
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


CODE = code(Path(__file__).parent)  # as it was imported, whatever is edited meanwhile


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a result.

    As a checkout changes under one version, "code" is the SHA-256 of this package's sources.
    """
    found = {"python": platform.python_version(), "code": CODE}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def hardware() -> dict[str, Any]:
    """The devices JAX computes on, and the host's processor."""
    devices = jax.devices()
    return {
        "backend": jax.default_backend(),
        "device": devices[0].device_kind,
        "devices": len(devices),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def leaves(tree: Any) -> list[tuple[str, np.ndarray]]:
    """The arrays of a tree by their places in it, sorted by these."""
    found, _ = jax.tree_util.tree_flatten_with_path(tree)
    named = [(jax.tree_util.keystr(path), np.asarray(leaf)) for path, leaf in found]
    return sorted(named, key=lambda pair: pair[0])


def digest(tree: Any) -> str:
    """SHA-256 of a tree's arrays, with names, types and shapes, in hexadecimal."""
    whole = hashlib.sha256()
    for path, leaf in leaves(tree):
        whole.update(f"{path} {leaf.dtype} {leaf.shape}\n".encode())
        whole.update(np.ascontiguousarray(leaf).tobytes())
    return whole.hexdigest()


def describe(value: Any) -> Any:
    """Describes functions and objects with their arguments, arrays and plain values, for JSON.

    Arrays of more than 64 entries are told by type, shape and the SHA-256 of their bytes in C
    order.
    """
    if isinstance(value, partial):
        held = {"arguments": describe(value.args)} if value.args else {}
        named = {name: describe(item) for name, item in value.keywords.items()}
        return {"function": _name(value.func), **held, **named}
    if is_dataclass(value) and not isinstance(value, type):
        held = {one.name: describe(getattr(value, one.name)) for one in fields(value)}
        return {"function" if callable(value) else "kind": _name(value), **held}
    if isinstance(value, np.ndarray | jax.Array):
        array = np.asarray(value)
        if array.size <= LARGEST_LIST:
            return array.tolist()
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        return {"dtype": str(array.dtype), "shape": list(array.shape), "sha256": digest}
    if isinstance(value, Mapping):
        return {str(name): describe(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [describe(item) for item in value]
    if callable(value):
        return {"function": _name(value)}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def is_plain(value: Any) -> bool:
    """Whether `describe` tells all there is to know of a value, given this package's code.

    True of plain values and arrays, of this package's own functions, and of its frozen dataclasses
    of such; False of any function or object of a user's, for whatever it does may change under
    its name.
    """
    if value is None or isinstance(value, str | int | float | bool | np.ndarray | jax.Array):
        return True
    if isinstance(value, partial):
        return all(map(is_plain, (value.func, *value.args, *value.keywords.values())))
    if isinstance(value, Mapping):
        return all(map(is_plain, value.values()))
    if isinstance(value, tuple | list):
        return all(map(is_plain, value))
    if is_dataclass(value) and not isinstance(value, type):
        held = [getattr(value, one.name) for one in fields(value)]
        return _is_ours(type(value)) and all(map(is_plain, held))
    # A function made inside another may hold anything.
    return inspect.isfunction(value) and _is_ours(value) and "<locals>" not in value.__qualname__


def _is_ours(definition: Any) -> bool:
    return str(definition.__module__).partition(".")[0] == __name__.partition(".")[0]


def _name(function: Any) -> str:
    name: str = getattr(function, "__qualname__", type(function).__qualname__)
    return name
