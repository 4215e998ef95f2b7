"""What a result was made with, for manifests and result files (NumPy on the host)."""

from __future__ import annotations

import hashlib
import platform
import sys
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from infoutil_jax.data.sources import Source
from infoutil_jax.training.teacher import Teacher

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


def inputs(source: Source, teacher: Teacher, label_teacher: Teacher) -> dict[str, Any]:
    """What a distilled set was made from and with: the part every method's manifest shares."""
    return {
        "source": {
            "name": source.name,
            "fingerprint": source.fingerprint(),
            "train_images": len(source.train),
            "skipped": list(source.skipped),
        },
        "teacher": _teacher(teacher),
        "label_teacher": _teacher(label_teacher),
        "versions": versions(),
        "hardware": hardware(),
    }


def _teacher(teacher: Teacher) -> dict[str, Any]:
    return {
        "name": teacher.name,
        "stage": teacher.stage,
        "digest": teacher.digest(),
        "accuracy": teacher.accuracy,
        "mean": list(teacher.mean),
        "std": list(teacher.std),
    }


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def describe(value: Any) -> Any:
    """A JSON-ready account of functions with their arguments, arrays and plain values.

    Arrays of more than 64 entries are told by type, shape and the SHA-256 of their bytes in C
    order.
    """
    if isinstance(value, partial):
        arguments = {name: describe(item) for name, item in value.keywords.items()}
        return {"function": _name(value.func), **arguments}
    if isinstance(value, np.ndarray | jax.Array):
        array = np.asarray(value)
        if array.size <= LARGEST_LIST:
            return array.tolist()
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        return {"dtype": str(array.dtype), "shape": list(array.shape), "sha256": digest}
    if isinstance(value, dict):
        return {str(name): describe(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [describe(item) for item in value]
    if callable(value):
        return {"function": _name(value)}
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", type(function).__qualname__)
