"""From raw images to accuracies: teacher, distilled set, student (host)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from infoutil_jax import provenance
from infoutil_jax.data.augment import channel_statistics
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.sources import Source
from infoutil_jax.distillation import distill
from infoutil_jax.distillation.checks import check_budget, check_teacher
from infoutil_jax.errors import InputError
from infoutil_jax.options import RecipeOptions, Stage, StudentOptions, TeacherOptions
from infoutil_jax.parallel import Devices
from infoutil_jax.report import overview
from infoutil_jax.training.student import StudentResult, train_student
from infoutil_jax.training.teacher import Teacher
from infoutil_jax.training.train_teacher import train_teacher


def teach(
    source: Source,
    workdir: str | Path,
    options: TeacherOptions = TeacherOptions(),
    *,
    seed: int = 0,
    devices: Devices | None = None,
    progress: bool = True,
) -> dict[str, Teacher]:
    """Train (or resume, or just load) the teacher in `workdir`; `devices` share each batch.

    Returns:
        {"early": ..., "converged": ...}, the first only where there is one
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
        devices=devices,
        progress=progress,
        **asdict(options),
    )


def pick(teachers: dict[str, Teacher], stage: Stage, images_per_class: int) -> Teacher:
    """The teacher of a stage; "auto" is the paper's rule: early up to 10 images a class.

    Where there is no early teacher, "auto" is the converged one.

    Raises:
        InputError: a stage that is not there.
    """
    if stage == "auto":
        stage = "early" if images_per_class <= 10 and "early" in teachers else "converged"
    if stage not in teachers:
        raise InputError(
            f"there is no {stage} teacher, only {', '.join(teachers)}: choose one of these, or "
            "train one (--early-epochs)."
        )
    return teachers[stage]


def study(
    distilled: DistilledDataset,
    source: Source,
    teacher: Teacher | None,
    options: StudentOptions = StudentOptions(),
    *,
    classes: Sequence[int] | None = None,
    devices: Devices | None = None,
    progress: bool = True,
) -> StudentResult:
    """Train students on a distilled set and test them on the source's test images.

    Args:
        distilled: the set.
        source: gives the test images.
        teacher: labels the views under the policy "online".
        options: the protocol.
        classes: train and test on the images of these classes only; None for all. The student has
            an output for every class all the same.
        devices: that share the seeds.
        progress: show a progress line.

    Raises:
        InputError: the set, the source and the teacher do not fit, or a class that is not there.
    """
    shown = range(len(source.class_names)) if classes is None else classes
    for index in set(shown) - set(range(len(source.class_names))):
        raise InputError(
            f"class {index} is not there: {source.spec} has {len(source.class_names)} classes, "
            "counted from 0."
        )
    if distilled.class_names != source.class_names:
        raise InputError(
            f"{distilled.path} has the classes {', '.join(distilled.class_names)} but "
            f"{source.spec} has {', '.join(source.class_names)}."
        )
    if teacher is not None:
        check_teacher(teacher, source)
    if teacher is not None and options.labels == "online":
        mean, std = teacher.mean, teacher.std
    else:
        mean, std = (distilled.manifest["label_teacher"][name] for name in ("mean", "std"))
    kept = np.isin(distilled.labels, shown)
    return _student(
        distilled.images[kept],
        distilled.labels[kept],
        source,
        options,
        classes=shown,
        soft_labels=distilled.soft_labels[kept],
        tiles=distilled.soft_labels.shape[1],
        teacher=teacher,
        mean=mean,
        std=std,
        devices=devices,
        progress=progress,
    )


def study_everything(
    source: Source, options: StudentOptions = StudentOptions(), *, progress: bool = True
) -> StudentResult:
    """Train students on all training images with hard labels: what distillation is up against."""
    images, labels = source.train.arrays()
    mean, std = channel_statistics(images)
    options = replace(options, labels="hard")
    shown = range(len(source.class_names))
    return _student(
        images, labels, source, options, classes=shown, mean=mean, std=std, progress=progress
    )


def _student(images, labels, source: Source, options: StudentOptions, *, classes, **arguments: Any):
    resolved = asdict(options.resolve(source))
    if not resolved.pop("augment"):
        resolved |= {"flip": False, "cutmix": False, "shuffle": False, "crop_scale": (1.0, 1.0)}
        resolved |= {"autoaugment": None}
    test_images, test_labels = source.test.arrays()
    tested = np.isin(test_labels, classes)
    return train_student(
        images,
        labels,
        test_images[tested],
        test_labels[tested],
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
    scoring_stage: Stage | None = None,
    label_stage: Stage = "auto",
    seed: int = 0,
    devices: Devices | None = None,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> dict:
    """Teacher, distilled set, student and a summary, from a source alone.

    Writes `teacher/`, `distilled/`, `overview.png` and `summary.json` under `workdir`; a teacher
    that is there already is used. `images_per_class` is by default 10, or as many as the smallest
    class fills; `scoring_stage`, where given, says who scores in the
    recipe's place. `devices`
    share all the work.

    Returns:
        The summary.
    """
    workdir = Path(workdir)
    built = recipe.build(source)
    if scoring_stage:
        built = replace(built, scorer="teacher")
    if images_per_class is None:
        smallest = int(np.bincount(source.train.labels).min())
        images_per_class = max(1, min(10, smallest // built.tiles))
    pool = max(300, images_per_class * built.tiles)
    check_budget(source, built, images_per_class, pool)
    if any(pixels % math.isqrt(built.tiles) for pixels in source.image_size):
        raise InputError(
            f"images of {source.image_size[0]}×{source.image_size[1]} pixels cannot be cut into "
            f"{built.tiles} equal tiles: choose another image size, or tiles."
        )
    shared: dict[str, Any] = {"devices": devices, "progress": progress}
    teachers = teach(source, workdir / "teacher", teacher, seed=seed, **shared)
    labeller = pick(teachers, label_stage, images_per_class)
    say(f"teacher: {teachers['converged'].accuracy:.1f}% top-1")
    distilled = distill(
        source,
        pick(teachers, scoring_stage or "converged", images_per_class),
        built,
        images_per_class=images_per_class,
        workdir=workdir / "distilled",
        label_teacher=labeller,
        pool=pool,
        seed=seed,
        overwrite=True,
        **shared,
    )
    overview(distilled, source, workdir / "overview.png")
    result = study(distilled, source, labeller, student, **shared)
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
    (workdir / "summary.json").write_text(json.dumps(summary, indent=1, default=str) + "\n")
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
