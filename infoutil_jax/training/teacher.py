"""Teachers: trained classifiers that attribute, score and label (host)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from infoutil_jax import models, provenance
from infoutil_jax.errors import InputError
from infoutil_jax.method.logits import as_logits
from infoutil_jax.models import Architecture
from infoutil_jax.training import checkpoint
from infoutil_jax.training.classifier import Classifier, checked_scale

SEEN = 8
"""Images whose outputs tell whether they are probabilities."""


@dataclass(frozen=True, eq=False)
class Teacher(Classifier):
    """A trained classifier that attributes, scores and labels: ours or the user's.

    Attributes:
        predict: `predict(variables, images) -> logits`, images normalised float32
            `[batch, height, width, channels]`; hashable. It may return an object with `.logits`, a
            dict with "logits", or a tuple with one array of two dimensions: the teacher's own
            `predict` then returns the logits. Probabilities are no logits: give their logarithms.
        variables: its arrays, all finite.
        mean: of each channel of its training images, 0 to 1; one number is every channel's.
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
        turned: whether it was trained on turned images, as students of its labels then may be.
        flipped: whether it was trained on mirrored images; False: refinement, and the programs in
            the README.md of its sets, mirror none either. None: not known.

    Raises:
        InputError: a NaN or infinite weight, a mean and a std that do not fit or are of pixels
            from 0 to 255, or a `predict` that cannot be hashed.

    Examples:
        >>> def predict(weights, images):
        ...     return images.mean((1, 2)) @ weights
        >>> teacher = Teacher(predict, jax.numpy.eye(3), mean=(0.5,) * 3, std=(0.25,) * 3)
    """

    mean: Any  # as people have it; kept as a tuple of plain numbers
    std: Any
    image_size: tuple[int, int] | None = None
    num_classes: int | None = None
    class_names: tuple[str, ...] | None = None
    name: str = "user"
    stage: str = "converged"
    accuracy: float | None = None
    known: float | None = None
    version: str | None = None
    architecture: Architecture | None = None
    turned: bool = False
    flipped: bool | None = None

    def __post_init__(self) -> None:
        mean, std = checked_scale(f"teacher {self.name!r}", self.mean, self.std)
        ours = isinstance(self.predict, models.Predict)
        predict = self.predict if ours else as_logits(self.predict)
        for name, value in {"mean": mean, "std": std, "predict": predict}.items():
            object.__setattr__(self, name, value)
        try:
            hash(predict)
        except TypeError as error:
            raise InputError(
                f"the predict of teacher {self.name!r} cannot be hashed ({error}): give a "
                "function, or an object that can be, such as a frozen dataclass"
            ) from None
        for path, leaf in provenance.leaves(self.variables):
            if jnp.issubdtype(leaf.dtype, jnp.floating) and not np.isfinite(leaf).all():
                raise InputError(
                    f"teacher {self.name!r} has a weight in {path} that is NaN or infinite: "
                    "train it again, or load another checkpoint"
                )

    def of_channels(self, channels: int) -> Teacher:
        """This teacher, with its mean and deviation spelled out where one is every channel's."""
        if len(self.mean) != 1 or channels == 1 or self.architecture is not None:
            return self  # a network of ours takes as many channels as it has means
        return replace(self, mean=self.mean * channels, std=self.std * channels)

    def classes_of(self, image_shape: tuple[int, ...]) -> int:
        """How many logits it gives for an image `[height, width, channels]`; nothing is computed.

        Raises:
            InputError: it does not take such an image, or returns no logits.
        """
        one = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        try:
            logits = jax.eval_shape(self.predict, self.variables, one)
        except InputError as error:
            raise InputError(f"teacher {self.name!r} gives no logits: {error}") from None
        except Exception as error:  # whatever a function of the user's may raise
            reason = next(iter(str(error).splitlines()), "")
            raise InputError(
                f"teacher {self.name!r} does not take an image of shape {image_shape} "
                f"({type(error).__name__}: {reason})"
            ) from error
        if len(logits.shape) != 2 or logits.shape[0] != 1:
            raise InputError(
                f"teacher {self.name!r} returns logits of shape {logits.shape} for one image: they "
                "must be [1, classes]"
            )
        return int(logits.shape[1])

    def warn_of_probabilities(self, pixels: UInt8[np.ndarray, "n height width channels"]) -> None:
        """Warns where its output on some images is probabilities, which are taken for logits."""
        if self.is_backbone():
            return
        rows = np.asarray(_outputs(self.predict, self.variables, self.normalise(pixels)))
        sums = rows.sum(1, dtype=np.float64)
        if rows.shape[1] > 1 and (rows >= 0).all() and np.allclose(sums, 1, rtol=0, atol=1e-3):
            warnings.warn(
                f"teacher {self.name!r} returns probabilities (rows of at least 0 that sum to 1), "
                "which are taken for logits: leave out the softmax, or return their logarithms",
                UserWarning,
                stacklevel=2,
            )

    def is_backbone(self) -> bool:
        """Whether `predict` is the one of `architecture`, and was not replaced."""
        known = self.architecture
        return known is not None and models.outline(known)[0] == self.predict

    def is_named(self) -> bool:
        """Whether what it computes can be told by name, so that work with it can go on later.

        A `predict` of your own needs a `version` for that.
        """
        return self.version is not None or provenance.is_plain(self.predict) or self.is_backbone()

    def digest(self) -> str:
        """SHA-256 of the variables, with names, types and shapes, in hexadecimal."""
        return provenance.digest(self.variables)


@partial(jax.jit, static_argnums=0)
def _outputs(predict: Any, variables: Any, images: Any) -> Any:
    return predict(variables, images)


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
    checkpoint.check_config(workdir / "config.json", config)
    architecture = architecture_of(config)
    try:
        predict, like = models.outline(architecture)
    except Exception as error:  # whatever options of a damaged file make a network do
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{workdir / 'config.json'} describes no network: {reason}") from error
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
        turned=config.get("turn") is True,
        flipped=config.get("flip"),
    )


def load_teachers(workdir: str | Path) -> dict[str, Teacher]:
    """Loads every stage that `train_teacher` was told to make, by name.

    Args:
        workdir: the directory that was given to `train_teacher`.

    Raises:
        InputError: as `load_teacher`.
    """
    config = checkpoint.read_config(Path(workdir).absolute())
    checkpoint.check_config(Path(workdir) / "config.json", config)
    early = config["early_epochs"]
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
