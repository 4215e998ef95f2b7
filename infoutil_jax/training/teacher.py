"""Teachers: trained classifiers that attribute, score and label (host)."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infoutil_jax import models
from infoutil_jax.errors import InputError
from infoutil_jax.models import Architecture
from infoutil_jax.training import checkpoint
from infoutil_jax.training.classifier import Classifier


@dataclass(frozen=True, eq=False)
class Teacher(Classifier):
    """A trained classifier that attributes, scores and labels: ours or the user's.

    Attributes:
        predict: `predict(variables, images) -> logits`, images normalised float32
            `[batch, height, width, channels]`; hashable.
        variables: its arrays, all finite.
        mean: of each channel of its training images, 0 to 1.
        std: likewise, positive.
        image_size: height and width it takes; None for any.
        num_classes: logits it gives; None if not known.
        class_names: of the logits, in order.
        name: for people.
        stage: of its training, "early" or "converged".
        accuracy: top-1 on the test images, percent.
        known: mean over the classes of top-1 on training images, percent. Choices between
            teachers are made by it, not by test images.
        version: names what a `predict` of your own computes, for parts that are scored and kept on
            disk: change it when you change `predict`. None: nothing is resumed.
        architecture: of a backbone of ours, whose `predict` needs no version.

    Raises:
        InputError: a NaN or infinite weight, or a mean and a std that do not fit.

    Example:
        >>> def predict(weights, images):
        ...     return images.mean((1, 2)) @ weights
        >>> teacher = Teacher(predict, jax.numpy.eye(3), mean=(0.5,) * 3, std=(0.25,) * 3)
    """

    image_size: tuple[int, int] | None = None
    num_classes: int | None = None
    class_names: tuple[str, ...] | None = None
    name: str = "user"
    stage: str = "converged"
    accuracy: float | None = None
    known: float | None = None
    version: str | None = None
    architecture: Architecture | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "std"):  # an array's, too
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        if len(self.mean) != len(self.std) or not self.mean:
            raise InputError(
                f"teacher {self.name!r} has {len(self.mean)} means and {len(self.std)} standard "
                "deviations: give one of each per channel"
            )
        if min(self.std) <= 0:
            raise InputError(f"teacher {self.name!r} has std {self.std}: each must be positive")
        for path, leaf in _leaves(self.variables):
            if jnp.issubdtype(leaf.dtype, jnp.floating) and not np.isfinite(leaf).all():
                raise InputError(
                    f"teacher {self.name!r} has a weight in {path} that is NaN or infinite: "
                    "train it again, or load another checkpoint"
                )

    def is_backbone(self) -> bool:
        """Whether `predict` is the one of `architecture`, and was not replaced."""
        known = self.architecture
        return known is not None and models.outline(known)[0] == self.predict

    def digest(self) -> str:
        """SHA-256 of the variables, with names, types and shapes, in hexadecimal."""
        digest = hashlib.sha256()
        for path, leaf in _leaves(self.variables):
            digest.update(f"{path} {leaf.dtype} {leaf.shape}\n".encode())
            digest.update(np.ascontiguousarray(leaf).tobytes())
        return digest.hexdigest()


def _leaves(variables: Any) -> list[tuple[str, np.ndarray]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
    named = [(jax.tree_util.keystr(path), np.asarray(leaf)) for path, leaf in leaves]
    return sorted(named, key=lambda pair: pair[0])


def load_teacher(workdir: str | Path, stage: str = "converged") -> Teacher:
    """Loads a teacher that `train_teacher` has finished.

    Args:
        workdir: the directory that was given to `train_teacher`.
        stage: "early" or "converged".

    Raises:
        InputError: no such directory or stage, or files that cannot be read.
    """
    workdir = Path(workdir).absolute()
    config = checkpoint.read_config(workdir)
    architecture = architecture_of(config)
    predict, like = models.outline(architecture)
    variables, record = checkpoint.load_stage(workdir, stage, like)
    return Teacher(
        predict,
        variables,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        image_size=(config["image_size"][0], config["image_size"][1]),
        num_classes=config["num_classes"],
        class_names=None if config["class_names"] is None else tuple(config["class_names"]),
        name=config["backbone"],
        stage=stage,
        accuracy=record["accuracy"],
        known=record.get("known"),
        architecture=architecture,
    )


def load_teachers(workdir: str | Path) -> dict[str, Teacher]:
    """Loads every stage that `train_teacher` was told to make, by name.

    Args:
        workdir: the directory that was given to `train_teacher`.

    Raises:
        InputError: as `load_teacher`.
    """
    early = checkpoint.read_config(Path(workdir).absolute())["early_epochs"]
    stages = ("early", "converged") if early else ("converged",)
    return {stage: load_teacher(workdir, stage) for stage in stages}


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """The network that a teacher's `config.json` describes."""
    height, width = config["image_size"]
    return Architecture(
        config["backbone"],
        config["num_classes"],
        (height, width),
        channels=len(config["mean"]),
        options=tuple(sorted(config["options"].items())),
    )
