"""From raw images to accuracies: teacher, distilled set, student (host)."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from infoutil_jax import files, provenance
from infoutil_jax import progress as notes
from infoutil_jax.app import compilations, summaries
from infoutil_jax.app.accounts import (
    account_of,
    labels_in_words,
    own_class_share,
    protocol_in_words,
    tiles_in_words,
)
from infoutil_jax.app.budget import budget_of
from infoutil_jax.app.command_line import command_of
from infoutil_jax.app.config import RecipeConfig, RunConfig, Stage, Stages
from infoutil_jax.app.forecast import forecast, parts_of
from infoutil_jax.app.sets import found_or_distilled, made_by
from infoutil_jax.app.students import STUDENTS, details, summarise, train_students
from infoutil_jax.data.distilled import check_destination
from infoutil_jax.data.sources import Source
from infoutil_jax.distillation import DistillConfig
from infoutil_jax.distillation.checks import check_budget, check_by_class
from infoutil_jax.distillation.manifest import arguments, of_classes
from infoutil_jax.distillation.refining import asked_of_students
from infoutil_jax.errors import InputError
from infoutil_jax.parallel import Devices
from infoutil_jax.training.config import TeacherConfig
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
    teachers: Mapping[str, Teacher], stages: Stages, images_per_class: int
) -> tuple[Teacher, Teacher]:
    """The teacher that a recipe is given (see `Stages.scored`), and the one that labels.

    Raises:
        InputError: a stage that is not there.
    """
    teacher = choose_teacher(teachers, stages.scoring_stage or "converged", images_per_class)
    return teacher, choose_teacher(teachers, stages.label_stage, images_per_class)


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

    Writes `teacher/`, `distilled/`, `random/`, `overview.png` and `summary.json` under `workdir`; a
    teacher that is there already is used, and so is a set that was made by the same arguments.
    Where the summary, too, is of the same sets, teacher, options and versions, no student is
    trained.

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
    from infoutil_jax.app.figures import overview  # matplotlib takes a second

    before = compilations.so_far()
    workdir = Path(workdir)
    check_destination(workdir / "distilled", overwrite=True)
    recipe = config.stages.scored(config.recipe.build(source, config.images_per_class))
    whole = source
    source, images_per_class, text, by_class = budget_of(
        source, recipe.tiles, config.images_per_class, config.rare_classes
    )
    say(text + tiles_in_words(recipe))
    pool = max(DistillConfig.pool or 0, images_per_class * recipe.tiles)
    check_budget(source, recipe, images_per_class, pool)
    check_by_class(by_class, source, images_per_class, recipe)
    if any(pixels % math.isqrt(recipe.tiles) for pixels in source.image_size):
        raise InputError(
            f"images of {source.image_size[0]}×{source.image_size[1]} pixels cannot be cut into "
            f"{recipe.tiles} equal tiles: choose another image size, or tiles"
        )
    said = {"licence": config.licence, "images_by_class": None} | of_classes(by_class)
    wanted = arguments(source, recipe, images_per_class, pool, config.seed) | said
    by_chance = RecipeConfig("random", tiles=config.recipe.tiles)
    drawn = by_chance.build(source, config.images_per_class) if config.baseline else recipe
    compared = drawn.name != recipe.name
    if compared:
        check_destination(workdir / "random", overwrite=True)
    if not overwrite:  # what would be refused after hours of training
        made_by(workdir / "distilled", wanted)
        if compared:
            about_random = arguments(source, drawn, images_per_class, pool, config.seed)
            made_by(workdir / "random", about_random | said)
    # Of random images, too, students learn as the recipe's set asks.
    asked = asked_of_students(recipe, images_per_class * recipe.tiles, len(source.class_names))
    student = config.student.like(asked)
    if words := protocol_in_words(student):
        say(words)
    rows = 1 + compared
    command, there = command_of("run", source, config), summaries.earlier(workdir)
    if there.get("command") != command:  # which tells that all may be done
        shown = images_per_class * parts_of(recipe, student)
        say(forecast(whole, shown, rows, config.teacher, student, refining=[recipe.refine]))
    teachers = train_teachers(
        whole,
        workdir / "teacher",
        config.teacher,
        seed=config.seed,
        devices=devices,
        progress=progress,
    )
    teacher, labeller = choose_teachers(teachers, config.stages, images_per_class)
    text, figures = account_of(teachers, labeller, source)
    say(text)
    how = DistillConfig(
        pool,
        devices=devices,
        overwrite=overwrite,
        licence=config.licence,
        by_class=by_class,
        progress=progress,
    )
    distil = partial(
        found_or_distilled,
        source,
        (teacher, labeller),
        images_per_class=images_per_class,
        seed=config.seed,
        config=how,
    )
    distilled = distil(recipe, workdir=workdir / "distilled")
    say(labels_in_words(distilled))
    learns = student.asked(distilled.manifest["training"])
    overview(distilled, source, workdir / "overview.png")
    sets = [distilled, *([distil(drawn, workdir=workdir / "random")] if compared else [])]
    about = {
        "command": command,
        "source": source.spec,
        "source_options": dict(source.options),
        "training_images": len(whole.train),
        "image_size": list(source.image_size),
        "classes": list(source.class_names),
        "skipped": list(source.skipped),
        "notes": [*source.notes, text],
        "recipe": provenance.describe(config.recipe),
        "digest": distilled.digest,
        "made_from": {"sets": [one.digest for one in sets], "teacher": labeller.digest()},
        "images_per_class": images_per_class,
        "seed": config.seed,
        "teacher": figures,
        "label_teacher": labeller.stage,
        "own_class_share": own_class_share(distilled),
        "teacher_options": provenance.describe(config.teacher.resolve(source)),
        "student_options": provenance.describe(learns.resolve(source)),
        "versions": provenance.versions(),
    }
    if summaries.is_of(there, about):
        notes.note(
            f"{workdir / summaries.SUMMARY} is there already, of the same sets and students",
            shown=progress,
        )
        shutil.rmtree(workdir / STUDENTS, ignore_errors=True)
        return there
    train = partial(
        train_students,
        source=source,
        teacher=labeller,
        config=student,
        devices=devices,
        folder=workdir / STUDENTS,
        progress=progress,
    )
    result = train(distilled)
    summary = {
        **about,
        "student": summarise(result),
        "student_details": details(result),
        "random": summarise(train(sets[1])) if compared else None,
        "programs": compilations.so_far().since(before)._asdict(),
        "hardware": provenance.hardware(),
    }
    files.write(workdir / summaries.SUMMARY, json.dumps(summary, indent=1, default=str) + "\n")
    shutil.rmtree(workdir / STUDENTS, ignore_errors=True)
    return summary
