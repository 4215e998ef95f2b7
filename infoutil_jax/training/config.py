"""What can be chosen of teachers and students, with defaults by the data (host).

Plain dataclasses: the command line is made from them, experiments and notebooks fill them in, and
training takes them whole. None means "chosen by the data"; `resolve` tells what is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, cast, get_args

import jax
import numpy as np

from infoutil_jax import ranges
from infoutil_jax.data.sources import Source
from infoutil_jax.errors import InputError
from infoutil_jax.models import options_of
from infoutil_jax.models.architecture import BackboneOptions
from infoutil_jax.models.torch_files import read_tensors
from infoutil_jax.models.torch_weights import classes_in
from infoutil_jax.training.evaluation import TestView

Config = TypeVar("Config", bound="BackboneConfig")
LabelPolicy = Literal["online", "stored", "hard"]
Policy = Literal["cifar10", "imagenet"]
EarlySchedule = Literal["constant", "same_run"]
EarlyOptimiser = Literal["adamw", "sgd"]

# Mirrored digits and letters are other digits and letters, or none; a mirrored chest has its heart
# on the other side.
NEVER_FLIPPED = ("digits", "mnist", "svhn", "xray", "x-ray", "x_ray", "radiograph")


class Facts(NamedTuple):
    """What the defaults depend on.

    Attributes:
        image_size: height and width in pixels.
        num_images: training images.
        num_classes: number of classes.
        name: of the source, however its place is spelt; empty if not known.
    """

    image_size: tuple[int, int]
    num_images: int
    num_classes: int
    name: str = ""

    @classmethod
    def of(cls, source: Source) -> Facts:
        """The facts of a source."""
        return cls(source.image_size, len(source.train), len(source.class_names), source.name)


@dataclass(frozen=True)
class BackboneConfig:
    """The network that is trained."""

    backbone: str | None = None
    """convnet3 to convnet6, resnet18, resnet50, resnet101, mobilenet_v2, vgg11, vgg11_bn or
    swin_v2_t; by default a ConvNet by the image size."""
    width: int | None = None
    """Channels; of a ConvNet by default 128, or 64 where JAX finds no accelerator."""
    norm: Literal["batch", "instance", "none"] | None = None
    """Normalisation after each convolution; by default batch, where there is a choice."""
    stem: Literal["imagenet", "cifar"] | None = None
    """First layers of ResNet and MobileNet-V2; by default cifar up to 64 pixels."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """What is computed in; parameters are float32."""
    remat: bool | None = None
    """Compute activations again in the backward pass, to save memory (the deep ones)."""
    flip: bool | None = None
    """Mirror images at random; by default yes, except where the source is called after digits or
    X-rays."""
    turn: bool = False
    """Turn images at random, square ones by quarter turns, others by half turns: for what is seen
    from above, say."""

    def __post_init__(self) -> None:
        ranges.check(self, epochs=ranges.RANGES["epochs"]._replace(least=0))

    def resolve(self: Config, source: Source) -> Config:
        """The same config, each None that depends on the source replaced by its default.

        Raises:
            InputError: settings that do not fit together.
        """
        return self.complete(Facts.of(source))

    def complete(self: Config, facts: Facts) -> Config:
        """As `resolve`, from the facts alone."""
        side = min(facts.image_size)
        depth = 3 + (side >= 48) + (side >= 96) + (side >= 192)
        name = facts.name.lower()
        backbone = f"convnet{depth}" if self.backbone is None else self.backbone
        width = 64 if jax.default_backend() == "cpu" else 128
        return replace(
            self,
            backbone=backbone,
            width=width if self.width is None and backbone.startswith("convnet") else self.width,
            norm="batch" if self.norm is None and "norm" in options_of(backbone) else self.norm,
            flip=not any(word in name for word in NEVER_FLIPPED)
            if self.flip is None
            else self.flip,
        )

    def options(self) -> BackboneOptions:
        """The backbone's own options, as `models.create` takes them: those that are not None."""
        options = {
            "width": self.width,
            "norm": self.norm,
            "stem": self.stem,
            "dtype": self.dtype,
            "remat": self.remat,
        }
        chosen = {name: value for name, value in options.items() if value is not None}
        return cast(BackboneOptions, chosen)


@dataclass(frozen=True)
class TeacherConfig(BackboneConfig):
    """The teacher and its training."""

    weights: Path | None = None
    """Weights of torchvision (.safetensors, .pth) that the converged teacher starts from."""
    epochs: int | None = None
    """Epochs of the converged teacher; by default about 4,000 steps, 10 to 100 epochs; or none,
    where the weights tell as many classes apart."""
    early_epochs: int | None = None
    """Epochs of the early teacher, 0 for none; by default 10 (paper), of few images as many as make
    320 steps, with weights none."""
    early_schedule: EarlySchedule = "constant"
    """The early teacher's own run at a constant rate (paper), or the converged run's epoch."""
    early_optimiser: EarlyOptimiser = "adamw"
    """Optimiser of the early teacher's own run."""
    early_learning_rate: float | None = None
    """Rate of that run; by default 0.01, but 0.001 up to 32 pixels, as in the paper, or where a
    step has fewer than 128 images."""
    batch_size: int | None = None
    """Images a step; the remainder of an epoch is left out. By default 128, of few images fewer: a
    power of two, at least 16, by which an epoch has 32 steps."""
    learning_rate: float | None = None
    """Peak of the one-cycle schedule; by default 0.1 for 128 images a step, from weights 0.01, and
    in proportion for fewer."""
    weight_decay: float = 5e-4
    """On all parameters."""
    mean: tuple[float, ...] | None = None
    """Of each channel, 0 to 1; by default measured, with weights ImageNet's."""
    std: tuple[float, ...] | None = None
    """Likewise."""

    def complete(self, facts: Facts) -> TeacherConfig:
        """As `resolve`, from the facts alone."""
        if self.weights and self.backbone is None:
            raise InputError(f"say whose weights {self.weights} holds: --backbone resnet18, say.")
        self._check_choices()
        few = 2 ** int(np.log2(max(1, facts.num_images // 32)))
        batch_size = int(np.clip(few, 16, 128)) if self.batch_size is None else self.batch_size
        steps = max(1, facts.num_images // batch_size)
        epochs = int(np.clip(round(4000 / steps), 10, 100))
        config = super().complete(facts)
        if self.weights:
            same = classes_in(read_tensors(self.weights)) == facts.num_classes
            epochs = 0 if same else epochs
            # What the file does not show of the network is the network's own default.
            config = replace(config, width=self.width, norm=self.norm)
        epochs = epochs if self.epochs is None else self.epochs
        own_run = self.early_schedule == "constant"
        early_epochs = 0 if self.weights else max(10, -(-320 // steps) * own_run)
        early_epochs = early_epochs if self.early_epochs is None else self.early_epochs
        if self.early_schedule == "same_run" and early_epochs >= max(epochs, 1):
            raise InputError(
                f"the early teacher is to be epoch {early_epochs} of a run of {epochs} epochs, the "
                "last of which is the converged one: lower early_epochs, or choose "
                "early_schedule='constant'"
            )
        early_rate = 0.001 if min(facts.image_size) <= 32 or batch_size < 128 else 0.01
        rate = (0.01 if self.weights else 0.1) * min(1.0, batch_size / 128)
        return replace(
            config,
            epochs=epochs,
            early_epochs=early_epochs,
            batch_size=batch_size,
            early_learning_rate=early_rate
            if self.early_learning_rate is None
            else self.early_learning_rate,
            learning_rate=rate if self.learning_rate is None else self.learning_rate,
        )

    def _check_choices(self) -> None:
        self.__post_init__()  # whatever has been set since
        if self.epochs == 0 and not self.weights:
            raise InputError("epochs is 0; it must be at least 1")
        ranges.check_choice("early_schedule", self.early_schedule, get_args(EarlySchedule))
        ranges.check_choice("early_optimiser", self.early_optimiser, get_args(EarlyOptimiser))


@dataclass(frozen=True)
class StudentConfig(BackboneConfig):
    """The student and its training: RDED's protocol, which the paper follows."""

    labels: LabelPolicy | None = None
    """Teacher labels on each augmented view, labels stored per crop, or classes alone; by default
    online, or what the set asks for."""
    epochs: int = 300
    """Passes over the distilled set."""
    batch_size: int | None = None
    """Images a step; by default 10, 50, 100 for 1, 10, 50 images a class."""
    learning_rate: float = 0.001
    """AdamW's rate."""
    weight_decay: float = 0.01
    """On tensors of two or more dimensions."""
    temperature: float | None = None
    """Of the soft labels; by default 20, or of stored ones what the set asks for."""
    partition: bool | None = None
    """Take each tile for an image of its own, enlarged to the whole size, as IDC and IDM do; by
    default no, but where the set asks for it."""
    crop_scale: tuple[float, float] | None = None
    """Area of the random resized crop, low and high; by default 1 / sqrt(tiles) to 1."""
    cutmix: bool | None = None
    """Mix pairs of views; by default yes, but where the set asks for none."""
    shuffle: bool = True
    """Change the places of an image's tiles."""
    autoaugment: Policy | None = None
    """A learnt policy before everything else (the paper's Table 1)."""
    dsa: bool = False
    """Change the colours of each view and cut a square out of it, as DSA does for students of the
    matching methods; RDED's do neither."""
    test_view: TestView | None = None
    """All of each test image, or its centre, enlarged as in RDED; by default the centre where
    students see crops, all where they see all of an image: with one tile, or without augment."""
    augment: bool = True
    """No: every view is the image itself, neither cut, mirrored, turned, shuffled, mixed nor
    recoloured."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One student each: of its weights, order and augmentation."""
    seeds_at_once: int = 1
    """Students trained side by side. Their convolutions become grouped ones: measure first."""
    evaluate_every: int | None = None
    """Epochs between evaluations, for the best one; by default only the last is evaluated."""

    def __post_init__(self) -> None:
        ranges.check(self)
        scale = self.crop_scale
        if scale is not None and not (len(scale) == 2 and scale[0] <= scale[1]):
            raise InputError(f"crop_scale is {scale}; it must be two shares, low then high")

    def complete(self, facts: Facts) -> StudentConfig:
        """As `resolve`, from the facts alone."""
        self.__post_init__()  # whatever has been set since
        if not self.seeds:
            raise InputError("no seed was given: each one is a student, give at least one")
        if self.labels is not None:
            ranges.check_choice("label policy", self.labels, get_args(LabelPolicy))
        if self.test_view is not None:
            ranges.check_choice("test view", self.test_view, get_args(TestView))
        if self.autoaugment is not None:
            ranges.check_choice("autoaugment policy", self.autoaugment, get_args(Policy))
        return replace(
            super().complete(facts),
            **self._protocol({}),
            temperature=20.0 if self.temperature is None else self.temperature,
            partition=bool(self.partition),
        )

    def asked(self, training: Mapping[str, Any]) -> StudentConfig:
        """The same config, with what a set asks for where nothing was chosen.

        Args:
            training: what the set's manifest says of students.
        """
        protocol = self._protocol(training)
        temperature, partition = self.temperature, self.partition
        if temperature is None and protocol["labels"] == "stored":
            temperature = training.get("temperature")
        if partition is None:
            partition = training.get("partition")
        return replace(self, **protocol, temperature=temperature, partition=partition)

    def like(self, training: Mapping[str, Any]) -> StudentConfig:
        """As `asked`, for other sets that are compared with that one: labels and CutMix alone."""
        return replace(self, **self._protocol(training))

    def _protocol(self, training: Mapping[str, Any]) -> dict[str, Any]:
        """How students learn, whatever they learn from."""
        labels, cutmix = self.labels, self.cutmix
        return {
            "labels": training.get("labels", "online") if labels is None else labels,
            "cutmix": training.get("cutmix", True) if cutmix is None else cutmix,
        }

    def effective(self) -> StudentConfig:
        """The same config with what `augment=False` means spelled out."""
        if self.augment:
            return self
        return replace(
            self,
            flip=False,
            turn=False,
            crop_scale=(1.0, 1.0),
            cutmix=False,
            shuffle=False,
            autoaugment=None,
            dsa=False,
        )
