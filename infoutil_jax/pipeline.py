"""From raw images to accuracies: teacher, distilled set, student, with defaults by the source.

The options are plain dataclasses: the command line is made from them, experiments and notebooks
fill them in. None means "chosen by the source", and `resolve` says what was chosen.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import jax
import numpy as np

from infoutil_jax import provenance
from infoutil_jax.checks import check_budget, check_teacher
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.sources import Source
from infoutil_jax.distill import distill
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import RECIPES, Recipe
from infoutil_jax.report import overview
from infoutil_jax.training.student import StudentResult, train_student
from infoutil_jax.training.teacher import Teacher, channel_statistics, train_teacher

Stage = Literal["auto", "early", "converged"]
LabelPolicy = Literal["online", "stored", "hard"]
Options = TypeVar("Options", bound="BackboneOptions")

# Mirrored digits and letters are other digits and letters, or none.
NEVER_FLIPPED = ("digits", "mnist", "svhn")


@dataclass(frozen=True)
class BackboneOptions:
    """The network that is trained."""

    backbone: str | None = None
    """convnet3 to convnet6; by default from the image size."""
    width: int | None = None
    """Channels of every layer; by default 128, or 64 where JAX finds no accelerator."""
    norm: Literal["batch", "instance", "none"] = "batch"
    """Normalisation after each convolution."""
    flip: bool | None = None
    """Mirror images at random; by default yes, except for digits and letters."""

    def resolve(self: Options, source: Source) -> Options:
        """The same options with every None replaced by the default for `source`."""
        side = min(source.image_size)
        depth = 3 + (side >= 48) + (side >= 96) + (side >= 192)
        name = source.spec.lower()
        return replace(
            self,
            backbone=self.backbone or f"convnet{depth}",
            width=self.width or (64 if jax.default_backend() == "cpu" else 128),
            flip=not any(word in name for word in NEVER_FLIPPED)
            if self.flip is None
            else self.flip,
        )


@dataclass(frozen=True)
class TeacherOptions(BackboneOptions):
    """The teacher and its training."""

    epochs: int | None = None
    """Epochs of the converged teacher; by default about 4,000 steps, 10 to 100 epochs."""
    early_epochs: int = 10
    """Epochs of the early teacher (paper: 10)."""
    early_schedule: Literal["constant", "same_run"] = "constant"
    """The early teacher's own run at a constant rate (paper), or the converged run's epoch."""
    early_learning_rate: float | None = None
    """Its rate (paper: 0.001 for CIFAR, 0.01 for the others); by default from the image size."""
    batch_size: int = 128
    """Images a step."""
    learning_rate: float = 0.1
    """Peak of the one-cycle schedule."""

    def resolve(self, source: Source) -> TeacherOptions:
        """The same options with every None replaced by the default for `source`."""
        steps = max(1, len(source.train) // self.batch_size)
        epochs = self.epochs or int(np.clip(round(4000 / steps), 10, 100))
        rate = self.early_learning_rate or (0.001 if min(source.image_size) <= 32 else 0.01)
        options = super().resolve(source)
        return replace(options, epochs=epochs, early_learning_rate=rate)


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
    seeds: tuple[int, ...] = (0, 1, 2)
    """One student each."""


@dataclass(frozen=True)
class RecipeOptions:
    """The distillation method; what a recipe does not know must keep its default."""

    recipe: str = "infoutil"
    """infoutil, infoutil_paper, rded or random."""
    tiles: int | None = None
    """Crops an image: 1, 4 or 9; by default 1 up to 64 pixels and 4 above."""
    grid: int | None = None
    """Patches a side."""
    budget: int | None = None
    """Coalitions evaluated for each image."""
    strategy: Literal["gaussian", "leverage", "kernel"] | None = None
    """Shapley estimator."""
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

    def build(self, source: Source) -> Recipe:
        """The recipe for `source`.

        Raises:
            InputError: unknown recipe, or an option that it does not have.
        """
        if self.recipe not in RECIPES:
            raise InputError(f"unknown recipe {self.recipe!r}: choose {', '.join(RECIPES)}.")
        chosen = {k: v for k, v in asdict(self).items() if k != "recipe" and v is not None}
        chosen.setdefault("tiles", 1 if min(source.image_size) <= 64 else 4)
        try:
            return RECIPES[self.recipe](**chosen)
        except TypeError:
            known = RECIPES[self.recipe].__kwdefaults__ or {}
            foreign = ", ".join(
                f"--{name.replace('_', '-')}" for name in chosen if name not in known
            )
            raise InputError(f"recipe {self.recipe!r} has no option {foreign}.") from None


def teach(
    source: Source,
    workdir: str | Path,
    options: TeacherOptions = TeacherOptions(),
    *,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Teacher]:
    """Train (or resume, or just load) the teacher in `workdir`.

    Returns:
        {"early": ..., "converged": ...}
    """
    options = options.resolve(source)
    images, labels = source.train.arrays()
    test_images, test_labels = source.test.arrays()
    return train_teacher(
        images,
        labels,
        test_images,
        test_labels,
        workdir=workdir,
        num_classes=len(source.class_names),
        class_names=source.class_names,
        seed=seed,
        progress=progress,
        **asdict(options),
    )


def pick(teachers: dict[str, Teacher], stage: Stage, images_per_class: int) -> Teacher:
    """The teacher of a stage; "auto" is the paper's rule: early up to 10 images a class."""
    if stage == "auto":
        stage = "early" if images_per_class <= 10 else "converged"
    return teachers[stage]


def study(
    distilled: DistilledDataset,
    source: Source,
    teacher: Teacher | None,
    options: StudentOptions = StudentOptions(),
    *,
    progress: bool = True,
) -> StudentResult:
    """Train students on a distilled set and test them on the source's test images.

    Args:
        distilled: the set.
        source: gives the test images.
        teacher: labels the views under the policy "online".
        options: the protocol.
        progress: show a progress line.

    Raises:
        InputError: the set, the source and the teacher do not fit.
    """
    if distilled.class_names != source.class_names:
        raise InputError(
            f"{distilled.path} has the classes {', '.join(distilled.class_names)} but "
            f"{source.spec} has {', '.join(source.class_names)}."
        )
    if teacher is not None:
        check_teacher(teacher, source)
    normalisation = distilled.manifest["label_teacher"]
    return _student(
        distilled.images,
        distilled.labels,
        source,
        options,
        soft_labels=distilled.soft_labels,
        tiles=distilled.soft_labels.shape[1],
        teacher=teacher,
        mean=normalisation["mean"],
        std=normalisation["std"],
        progress=progress,
    )


def study_everything(
    source: Source, options: StudentOptions = StudentOptions(), *, progress: bool = True
) -> StudentResult:
    """Train students on all training images with hard labels: what distillation is up against."""
    images, labels = source.train.arrays()
    mean, std = channel_statistics(images)
    options = replace(options, labels="hard")
    return _student(images, labels, source, options, mean=mean, std=std, progress=progress)


def _student(images, labels, source: Source, options: StudentOptions, **arguments: Any):
    resolved = asdict(options.resolve(source))
    test_images, test_labels = source.test.arrays()
    return train_student(
        images,
        labels,
        test_images,
        test_labels,
        num_classes=len(source.class_names),
        label_policy=resolved.pop("labels"),
        **resolved,
        **arguments,
    )


def run(
    source: Source,
    workdir: str | Path,
    *,
    images_per_class: int | None = None,
    recipe: RecipeOptions = RecipeOptions(),
    teacher: TeacherOptions = TeacherOptions(),
    student: StudentOptions = StudentOptions(),
    scoring_stage: Stage = "converged",
    label_stage: Stage = "auto",
    seed: int = 0,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> dict:
    """Teacher, distilled set, student and a summary, from a source alone.

    Writes `teacher/`, `distilled/`, `overview.png` and `summary.json` under `workdir`; a teacher
    that is there already is used. `images_per_class` is by default 10, or as many as the smallest
    class fills.

    Returns:
        The summary.
    """
    workdir = Path(workdir)
    built = recipe.build(source)
    if images_per_class is None:
        smallest = int(np.bincount(source.train.labels).min())
        images_per_class = max(1, min(10, smallest // built.tiles))
    pool = max(300, images_per_class * built.tiles)
    check_budget(source, built, images_per_class, pool)
    teachers = teach(source, workdir / "teacher", teacher, seed=seed, progress=progress)
    labeller = pick(teachers, label_stage, images_per_class)
    say(f"teacher: {teachers['converged'].accuracy:.1f}% top-1")
    distilled = distill(
        source,
        pick(teachers, scoring_stage, images_per_class),
        built,
        images_per_class=images_per_class,
        workdir=workdir / "distilled",
        label_teacher=labeller,
        pool=pool,
        seed=seed,
        overwrite=True,
        progress=progress,
    )
    overview(distilled, source, workdir / "overview.png")
    result = study(distilled, source, labeller, student, progress=progress)
    summary = {
        "source": source.spec,
        "image_size": list(source.image_size),
        "classes": list(source.class_names),
        "skipped": list(source.skipped),
        "recipe": asdict(recipe),
        "images_per_class": images_per_class,
        "seed": seed,
        "teacher": {stage: t.accuracy for stage, t in teachers.items()},
        "teacher_options": asdict(teacher.resolve(source)),
        "student_options": asdict(student.resolve(source)),
        "student": scores(result),
        "versions": provenance.versions(),
        "hardware": provenance.hardware(),
    }
    (workdir / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def scores(result: StudentResult) -> dict:
    """A student's figures, ready for JSON: percent, one a seed, with mean and deviation."""
    top1 = np.asarray(result.top1, np.float64)
    return {
        "top1_mean": float(top1.mean()),
        "top1_std": float(top1.std(ddof=1)) if len(top1) > 1 else None,
        "top1": top1.tolist(),
        "top5": np.asarray(result.top5, np.float64).tolist(),
        "ece": np.asarray(result.ece, np.float64).tolist(),
        "seconds": result.seconds,
    }
