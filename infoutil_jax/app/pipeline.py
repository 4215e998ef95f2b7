"""From raw images to accuracies: teacher, distilled set, student (host)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from infoutil_jax import provenance
from infoutil_jax.app import compilations
from infoutil_jax.app.budget import budget_of
from infoutil_jax.app.config import RunConfig, Stage, Stages
from infoutil_jax.app.report import account_of, own_class_share
from infoutil_jax.data.augment import channel_statistics
from infoutil_jax.data.distilled import DistilledDataset, check_destination
from infoutil_jax.data.layout import MANIFEST
from infoutil_jax.data.sources import Source
from infoutil_jax.distillation import DistillConfig, distill, scorer_of
from infoutil_jax.distillation.checks import check_budget, check_teacher
from infoutil_jax.distillation.manifest import arguments, inputs
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.parallel import Devices
from infoutil_jax.training.config import StudentConfig, TeacherConfig
from infoutil_jax.training.student import StudentResult, train_student
from infoutil_jax.training.supervision import Supervision
from infoutil_jax.training.teacher import Teacher
from infoutil_jax.training.train_teacher import train_teacher


def train_teachers(
    source: Source,
    workdir: str | Path,
    config: TeacherConfig = TeacherConfig(),
    *,
    seed: int = 0,
    devices: Devices | None = None,
    progress: bool = True,
) -> dict[str, Teacher]:
    """Trains the teachers of a source, resumes their training, or loads finished ones.

    Args:
        source: gives training and test images.
        workdir: as for `train_teacher`.
        config: the network and its training.
        seed: of weights, order and augmentation.
        devices: that share each batch; None for the first.
        progress: show a progress line.

    Returns:
        `{"early": ..., "converged": ...}`, the first only where there is one.

    Raises:
        InputError: as `train_teacher`.
    """
    return train_teacher(
        source.train.labelled(),
        source.test.labelled(),
        config.resolve(source),
        workdir=workdir,
        classes=source.class_names,
        seed=seed,
        devices=devices,
        progress=progress,
    )


def choose_teacher(teachers: Mapping[str, Teacher], stage: Stage, images_per_class: int) -> Teacher:
    """Chooses the teacher of a stage.

    "auto" is the paper's rule, with a guard: the early teacher up to 10 images a class, the
    converged one above, or where the early one is not there or knows too little. It has to be
    ahead of chance on training images by at least half as much as the converged one.

    Raises:
        InputError: a stage that is not there.
    """
    if stage == "auto":
        early = images_per_class <= 10 and "early" in teachers and _knows_enough(teachers)
        stage = "early" if early else "converged"
    if stage not in teachers:
        raise InputError(
            f"there is no {stage} teacher, only {', '.join(teachers)}: choose one of these, or "
            "train one (--early-epochs)."
        )
    return teachers[stage]


def _knows_enough(teachers: Mapping[str, Teacher]) -> bool:
    early, converged = teachers["early"], teachers["converged"]
    if early.known is None or converged.known is None or not early.num_classes:
        return True
    chance = 100 / early.num_classes
    return early.known - chance >= (converged.known - chance) / 2


def choose_teachers(
    teachers: Mapping[str, Teacher], stages: Stages, recipe: Recipe, images_per_class: int
) -> tuple[Recipe, Teacher, Teacher]:
    """The recipe, the teacher that it is given, and the one that labels.

    A scoring stage that is chosen takes the place of the recipe's own rule.

    Raises:
        InputError: a stage that is not there.
    """
    if stages.scoring_stage:
        recipe = replace(recipe, scorer="teacher")
    teacher = choose_teacher(teachers, stages.scoring_stage or "converged", images_per_class)
    return recipe, teacher, choose_teacher(teachers, stages.label_stage, images_per_class)


def train_students(
    distilled: DistilledDataset,
    source: Source,
    teacher: Teacher | None,
    config: StudentConfig = StudentConfig(),
    *,
    classes: Sequence[int] | None = None,
    devices: Devices | None = None,
    progress: bool = True,
) -> StudentResult:
    """Trains students on a distilled set and tests them on the source's test images.

    Args:
        distilled: the set.
        source: gives the test images.
        teacher: labels the views under the policy "online".
        config: the network and its training.
        classes: train and test on the images of these classes only; None for all. The student has
            an output for every class all the same.
        devices: that share the seeds; None for the first.
        progress: show a progress line.

    Raises:
        InputError: the set, the source and the teacher do not fit, or a class that is not there.
    """
    shown = range(len(source.class_names)) if classes is None else classes
    for index in set(shown) - set(range(len(source.class_names))):
        raise InputError(
            f"class {index} is not there: {source.spec} has {len(source.class_names)} classes, "
            "counted from 0"
        )
    if distilled.class_names != source.class_names:
        raise InputError(
            f"{distilled.path} has the classes {', '.join(distilled.class_names)} but "
            f"{source.spec} has {', '.join(source.class_names)}"
        )
    if teacher is not None:
        check_teacher(teacher, source)
    kept = np.isin(distilled.labels, shown)
    supervision = Supervision(
        num_classes=len(source.class_names),
        teacher=teacher,
        soft_labels=distilled.soft_labels[kept],
        tiles=distilled.soft_labels.shape[1],
    )
    if teacher is None or config.labels != "online":
        labeller = distilled.manifest["label_teacher"]
        supervision = replace(supervision, mean=labeller["mean"], std=labeller["std"])
    tested = source.test.take(np.flatnonzero(np.isin(source.test.labels, shown)))
    return train_student(
        (distilled.images[kept], distilled.labels[kept]),
        tested.labelled(),
        config.resolve(source),
        supervision=supervision,
        devices=devices,
        progress=progress,
    )


def train_students_on_everything(
    source: Source, config: StudentConfig = StudentConfig(), *, progress: bool = True
) -> StudentResult:
    """Trains students on all training images with hard labels, to compare distilled sets with."""
    train = source.train.arrays()
    mean, std = channel_statistics(train[0])
    return train_student(
        train,
        source.test.labelled(),
        replace(config, labels="hard").resolve(source),
        supervision=Supervision(num_classes=len(source.class_names), mean=mean, std=std),
        progress=progress,
    )


def run(
    source: Source,
    workdir: str | Path,
    config: RunConfig = RunConfig(),
    *,
    devices: Devices | None = None,
    overwrite: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Teacher, distilled set, students and a summary, from a source alone.

    Writes `teacher/`, `distilled/`, `overview.png` and `summary.json` under `workdir`; a teacher
    that is there already is used, and so is a set that was made by the same arguments.

    Args:
        source: raw images.
        workdir: where everything is written.
        config: what can be chosen.
        devices: that share all the work; None for the first.
        overwrite: replace a set that was made by other arguments.
        progress: show progress lines.
        say: where the text goes.

    Returns:
        The summary.

    Raises:
        InputError: a budget, tiles or settings that the source cannot fill, or a set that is there
            and was made by other arguments.
    """
    from infoutil_jax.app.picture import overview  # matplotlib takes a second

    before = compilations.so_far()
    workdir = Path(workdir)
    check_destination(workdir / "distilled", overwrite=True)
    recipe = config.recipe.build(source)
    whole = source
    source, images_per_class, text = budget_of(
        source, recipe.tiles, config.images_per_class, config.rare_classes
    )
    say(text)
    pool = max(DistillConfig.pool or 0, images_per_class * recipe.tiles)
    check_budget(source, recipe, images_per_class, pool)
    if any(pixels % math.isqrt(recipe.tiles) for pixels in source.image_size):
        raise InputError(
            f"images of {source.image_size[0]}×{source.image_size[1]} pixels cannot be cut into "
            f"{recipe.tiles} equal tiles: choose another image size, or tiles"
        )
    wanted = arguments(source, recipe, images_per_class, pool, config.seed)
    there = None if overwrite else _made_by(workdir / "distilled", wanted)
    teachers = train_teachers(
        whole,
        workdir / "teacher",
        config.teacher,
        seed=config.seed,
        devices=devices,
        progress=progress,
    )
    recipe, teacher, labeller = choose_teachers(teachers, config.stages, recipe, images_per_class)
    text, figures = account_of(teachers, labeller, source)
    say(text)
    if there is not None:
        wanted = inputs(source, scorer_of(recipe, teacher, labeller), labeller, images_per_class)
        del wanted["hardware"]  # which changes a set by rounding at most
        there = _made_by(workdir / "distilled", wanted)
        say(f"{workdir / 'distilled'} is there already, made by the same arguments")
    distilled = there or distill(
        source,
        teacher,
        recipe,
        images_per_class=images_per_class,
        workdir=workdir / "distilled",
        label_teacher=labeller,
        seed=config.seed,
        config=DistillConfig(pool=pool, devices=devices, overwrite=overwrite, progress=progress),
    )
    own, crops = own_class_share(distilled), len(distilled) * recipe.tiles
    say(f"soft labels are largest at the crop's own class for {own:.1f}% of {crops} crops")
    overview(distilled, source, workdir / "overview.png")
    result = train_students(
        distilled, source, labeller, config.student, devices=devices, progress=progress
    )
    summary = {
        "source": source.spec,
        "image_size": list(source.image_size),
        "classes": list(source.class_names),
        "skipped": list(source.skipped),
        "notes": [*source.notes, text],
        "recipe": provenance.describe(config.recipe),
        "images_per_class": images_per_class,
        "seed": config.seed,
        "teacher": figures,
        "label_teacher": labeller.stage,
        "own_class_share": own,
        "teacher_options": provenance.describe(config.teacher.resolve(source)),
        "student_options": provenance.describe(config.student.resolve(source)),
        "student": summarise(result),
        "programs": compilations.so_far().since(before)._asdict(),
        "versions": provenance.versions(),
        "hardware": provenance.hardware(),
    }
    (workdir / "summary.json").write_text(json.dumps(summary, indent=1, default=str) + "\n")
    return summary


def _made_by(path: Path, wanted: Mapping[str, Any]) -> DistilledDataset | None:
    """The set at `path`, if there is one; raises if something wanted of it is otherwise."""
    if not (path / MANIFEST).exists():
        return None
    there = DistilledDataset.load(path)
    for key, value in json.loads(json.dumps(wanted, default=str)).items():
        if there.manifest.get(key) != value:
            raise InputError(
                f"{path} holds a set that was made with another {key}: choose another --workdir, "
                "or replace the set with --overwrite"
            )
    return there


def summarise(result: StudentResult) -> dict[str, Any]:
    """Figures of students, ready for JSON: percent, one a seed, with mean and deviation."""
    top1 = np.asarray(result.top1, np.float64)
    return {
        "top1_mean": float(top1.mean()),
        "top1_std": float(top1.std(ddof=1)) if len(top1) > 1 else None,
        "top1": top1.tolist(),
        "top5": np.asarray(result.top5, np.float64).tolist(),
        "ece": np.asarray(result.ece, np.float64).tolist(),
        "test_view": result.test_view,
        "seconds": result.seconds,
    }
