"""Where datasets come from, the paper's and others, and what is taken without an accelerator."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from infoutil_jax import models
from infoutil_jax.data.sources import Source
from infoutil_jax.training.evaluation import TestView

if TYPE_CHECKING:
    from experiments.run import Experiment

TEST_VIEW: TestView = "centre"
"""What students of the tables see of a test image: RDED's view, whatever the tiles."""


@dataclass(frozen=True)
class Dataset:
    """Where a dataset comes from, and at what size it is used: the paper's, where it has it."""

    title: str
    source: str
    image_size: int
    per_class: int
    """Training images a class on a machine without an accelerator."""
    width: int = 64
    """Of teacher and student, likewise."""
    small_size: int | None = None
    """Side in pixels, likewise."""
    epochs: int | None = 20
    """Of the converged teacher, likewise; None: as many as `infoutil` trains it for."""
    flip: bool | None = None
    """Whether images are mirrored; None: as `infoutil` has it."""
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
    # As a newcomer has them: few images, of other things than objects.
    "rsscn7": Dataset("RSSCN7", "folder:rsscn7_96", 96, 320, 32, 64, None),
    "chest_xray": Dataset("chest X-rays", "folder:chest_xray_96", 96, 500, 32, 64, None, True),
    "hymenoptera": Dataset("hymenoptera", "folder:hymenoptera", 128, 122, 32, 64, None),
}


def validating(source: Source, share: float = 0.2, seed: int = 0) -> Source:
    """A source whose test images are a share of the training images, which lose them."""
    rng, labels = np.random.default_rng(seed), source.train.labels
    drawn = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    cut = np.sort(np.concatenate([ids[: max(1, round(share * len(ids)))] for ids in drawn]))
    rest = np.setdiff1d(np.arange(len(labels)), cut)
    about = f"{source.fingerprint()} {share} {seed}".encode()
    return replace(
        source,
        train=source.train.take(rest),
        test=source.train.take(cut),
        _fingerprint=hashlib.sha256(about).hexdigest(),
    )


def width_of(experiment: Experiment, backbone: str) -> int | None:
    """Channels of a backbone, where it has the option.

    A ResNet's are those of its first stage, of which the last has eight times as many.
    """
    if "width" not in models.options_of(backbone):
        return None
    if experiment.width and backbone == experiment.backbone:
        return experiment.width
    residual = backbone.startswith("resnet")
    if experiment.small:
        return 16 if residual else DATASETS[experiment.dataset].width
    return 64 if residual else 128
