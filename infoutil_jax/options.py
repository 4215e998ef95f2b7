"""What can be chosen of teacher, student and recipe, with defaults by the source (host).

Plain dataclasses: the command line is made from them, experiments and notebooks fill them in.
None means "chosen by the source", and `resolve` says what was chosen.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import jax
import numpy as np

from infoutil_jax.data.sources import Source
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import RECIPES, Recipe
from infoutil_jax.models import options_of
from infoutil_jax.models.torch_weights import classes_in, read_tensors

Stage = Literal["auto", "early", "converged"]
LabelPolicy = Literal["online", "stored", "hard"]
Options = TypeVar("Options", bound="BackboneOptions")

METHODS = RECIPES

# Mirrored digits and letters are other digits and letters, or none.
NEVER_FLIPPED = ("digits", "mnist", "svhn")


@dataclass(frozen=True)
class BackboneOptions:
    """The network that is trained."""

    backbone: str | None = None
    """convnet3 to convnet6, resnet18, resnet50, resnet101, mobilenet_v2, vgg11 or swin_v2_t; by
    default a ConvNet by the image size."""
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
    """Mirror images at random; by default yes, except for digits and letters."""

    def resolve(self: Options, source: Source) -> Options:
        """The same options with every None replaced by the default for `source`."""
        side = min(source.image_size)
        depth = 3 + (side >= 48) + (side >= 96) + (side >= 192)
        name = source.spec.lower()
        backbone = self.backbone or f"convnet{depth}"
        width = 64 if jax.default_backend() == "cpu" else 128
        return replace(
            self,
            backbone=backbone,
            width=self.width or (width if backbone.startswith("convnet") else None),
            norm=self.norm or ("batch" if "norm" in options_of(backbone) else None),
            flip=not any(word in name for word in NEVER_FLIPPED)
            if self.flip is None
            else self.flip,
        )


@dataclass(frozen=True)
class TeacherOptions(BackboneOptions):
    """The teacher and its training."""

    weights: Path | None = None
    """Weights of torchvision (.safetensors, .pth) that the converged teacher starts from."""
    epochs: int | None = None
    """Epochs of the converged teacher; by default about 4,000 steps, 10 to 100 epochs; or none,
    where the weights tell as many classes apart."""
    early_epochs: int | None = None
    """Epochs of the early teacher, 0 for none; by default 10 (paper), with weights none."""
    early_schedule: Literal["constant", "same_run"] = "constant"
    """The early teacher's own run at a constant rate (paper), or the converged run's epoch."""
    early_learning_rate: float | None = None
    """Its rate (paper: 0.001 for CIFAR, 0.01 for the others); by default from the image size."""
    batch_size: int = 128
    """Images a step."""
    learning_rate: float | None = None
    """Peak of the one-cycle schedule; by default 0.1, from weights 0.01."""
    mean: tuple[float, ...] | None = None
    """Of each channel, 0 to 1; by default measured, with weights ImageNet's."""
    std: tuple[float, ...] | None = None
    """Likewise."""

    def resolve(self, source: Source) -> TeacherOptions:
        """The same options with every None replaced by the default for `source`."""
        if self.weights and not self.backbone:
            raise InputError(f"say whose weights {self.weights} holds: --backbone resnet18, say.")
        if self.batch_size < 1:
            raise InputError(f"batch_size is {self.batch_size}; it must be at least 1.")
        steps = max(1, len(source.train) // self.batch_size)
        epochs = int(np.clip(round(4000 / steps), 10, 100))
        rate = self.early_learning_rate or (0.001 if min(source.image_size) <= 32 else 0.01)
        options = super().resolve(source)
        if self.weights:
            same = classes_in(read_tensors(self.weights)) == len(source.class_names)
            epochs = 0 if same else epochs
            # What the file does not show of the network is the network's own default.
            options = replace(options, width=self.width, norm=self.norm)
        early = 0 if self.weights else 10
        return replace(
            options,
            epochs=epochs if self.epochs is None else self.epochs,
            early_epochs=early if self.early_epochs is None else self.early_epochs,
            early_learning_rate=rate,
            learning_rate=self.learning_rate or (0.01 if self.weights else 0.1),
        )


@dataclass(frozen=True)
class StudentOptions(BackboneOptions):
    """The student and its training: RDED's protocol, which the paper follows."""

    labels: LabelPolicy = "online"
    """Teacher labels on each augmented view, labels stored per crop, or classes alone."""
    epochs: int = 300
    """Passes over the distilled set."""
    batch_size: int | None = None
    """Images a step; by default 10, 50, 100 for 1, 10, 50 images a class."""
    learning_rate: float = 0.001
    """AdamW's rate."""
    temperature: float = 20.0
    """Of the soft labels."""
    cutmix: bool = True
    """Mix pairs of views."""
    autoaugment: Literal["cifar10", "imagenet"] | None = None
    """A learnt policy before everything else (the paper's Table 1)."""
    augment: bool = True
    """No: every view is the image itself, neither cut nor mirrored, shuffled or mixed."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One student each."""


@dataclass(frozen=True)
class RecipeOptions:
    """The distillation method; what a recipe does not know must keep its default."""

    recipe: str = "infoutil"
    """infoutil, infoutil_paper, infoutil_clear, infoutil_kernel, rded, random, herding, k_means,
    k_center, grad_cam, no_noise, random_crop_gradient_norm or shapley_crop_loss."""
    tiles: int | None = None
    """Crops an image: 1, 4 or 9; by default 1 up to 64 pixels and 4 above."""
    grid: int | None = None
    """Patches a side."""
    budget: int | None = None
    """Coalitions evaluated for each image that stays in doubt."""
    strategy: Literal["gaussian", "leverage", "kernel"] | None = None
    """Shapley estimator."""
    sure: float | None = None
    """Standard deviations that the best window must be ahead for an image to be done; inf: the
    budget is evaluated for all."""
    map_dtype: Literal["float32", "bfloat16"] | None = None
    """Precision of the coalitions' forward passes; by default the teacher's."""
    output: Literal["logit", "probability", "log_probability"] | None = None
    """Value of a coalition."""
    side: float | None = None
    """Side of the crop as a fraction of the image's."""
    num_crops: int | None = None
    """Crops cut from each image."""
    alpha: float | None = None
    """Standard deviation of the noise on the pooled map."""
    keep: Literal["highest", "lowest", "middle"] | None = None
    """Which scores stay."""
    cap: float | None = None
    """Quantile of a class's scores above which a crop is not eligible."""
    compete: Literal["best", "all"] | None = None
    """An image's best crop competes, or all of them."""
    among: int | None = None
    """How many times as many as are needed are chosen from; of infoutil and infoutil_kernel, at
    least how many images of a class."""

    def build(self, source: Source) -> Recipe:
        """The recipe for `source`.

        Raises:
            InputError: unknown recipe, or an option that it does not have.
        """
        if self.recipe not in METHODS:
            raise InputError(f"unknown recipe {self.recipe!r}: choose {', '.join(METHODS)}.")
        chosen = {k: v for k, v in asdict(self).items() if k != "recipe" and v is not None}
        even = not any(pixels % 2 for pixels in source.image_size)
        chosen.setdefault("tiles", 4 if min(source.image_size) > 64 and even else 1)
        try:
            return METHODS[self.recipe](**chosen)
        except TypeError:
            known = METHODS[self.recipe].__kwdefaults__ or {}
            foreign = ", ".join(
                f"--{name.replace('_', '-')}" for name in chosen if name not in known
            )
            raise InputError(f"recipe {self.recipe!r} has no option {foreign}.") from None
