"""What a result was made with, for manifests and result files (NumPy on the host)."""

from __future__ import annotations

import platform
import sys
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import numpy as np

PACKAGES = ("infoutil-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a result."""
    found = {"python": platform.python_version()}
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


def describe(value: Any) -> Any:
    """A JSON-ready account of functions with their arguments, arrays and plain values."""
    if isinstance(value, partial):
        arguments = {name: describe(item) for name, item in value.keywords.items()}
        return {"function": _name(value.func), **arguments}
    if isinstance(value, np.ndarray | jax.Array):
        return np.asarray(value).tolist()
    if isinstance(value, dict):
        return {str(name): describe(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [describe(item) for item in value]
    if callable(value):
        return {"function": _name(value)}
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", type(function).__qualname__)
