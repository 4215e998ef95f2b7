"""Where the paper's datasets come from, and what is taken of them without an accelerator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Dataset:
    """Where a dataset of the paper comes from, and at what size the paper uses it."""

    title: str
    source: str
    image_size: int
    per_class: int
    """Training images a class on a machine without an accelerator."""
    width: int = 64
    """Of teacher and student, likewise."""
    small_size: int | None = None
    """Side in pixels, likewise."""
    policy: Literal["cifar10", "imagenet"] = "imagenet"
    """Of AutoAugment."""


DATASETS: dict[str, Dataset] = {
    "digits": Dataset("scikit-learn's digits", "digits", 8, 200, 32),
    "cifar10": Dataset("CIFAR-10", "tfds:cifar10", 32, 1000, policy="cifar10"),
    "cifar100": Dataset("CIFAR-100", "tfds:cifar100", 32, 500, policy="cifar10"),
    "imagenette": Dataset("ImageNette", "tfds:imagenette/160px-v2", 128, 500, 16, 64),
    "imagewoof": Dataset("ImageWoof", "tfds:imagewang/160px", 128, 500, 16, 64),
    "tiny_imagenet": Dataset("Tiny-ImageNet", "folder:tiny-imagenet-200", 64, 500),
    "imagenet100": Dataset("ImageNet-100", "folder:imagenet-100", 224, 300, 32, 64),
    "imagenet1k": Dataset("ImageNet-1K", "tfds:imagenet2012", 224, 300, 32, 64),
}
