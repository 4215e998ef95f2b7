"""Sets that are there already, by what they were made from (host)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from infoutil_jax import locks, parallel, progress
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.layout import MANIFEST
from infoutil_jax.data.sources import Source
from infoutil_jax.distillation import (
    DistillConfig,
    ScoredPool,
    distill,
    distill_pool,
    parts,
    scorer_of,
)
from infoutil_jax.distillation.distill import scoring_of
from infoutil_jax.distillation.manifest import arguments, inputs, of_classes
from infoutil_jax.distillation.refining import asked_of_students, refining_of
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.training.teacher import Teacher


def made_by(path: Path, wanted: Mapping[str, Any]) -> DistilledDataset | None:
    """The set at `path`, if there is one.

    Args:
        path: its folder.
        wanted: what its manifest is to say.

    Raises:
        InputError: it says something else.
    """
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


def found_or_distilled(
    source: Source,
    teachers: tuple[Teacher, Teacher],
    recipe: Recipe,
    *,
    images_per_class: int,
    workdir: Path,
    seed: int,
    config: DistillConfig,
    pool: Callable[[], ScoredPool] | None = None,
) -> DistilledDataset:
    """The set that `distill` makes of these arguments: read, where they made it before.

    Args:
        source: what is distilled.
        teachers: the one that the recipe is given, and the one that labels.
        recipe: the method.
        images_per_class: the budget.
        workdir: the set's folder.
        seed: of every random draw.
        config: how distilling runs; with `overwrite` another set is replaced, with `progress` it
            is said where the same one was there.
        pool: scores the pool that the set is chosen from, where that is shared; None for its own.

    Raises:
        InputError: as `made_by` and `distill`.
    """
    teacher, labeller = teachers
    scorer = scorer_of(recipe, teacher, labeller)
    wanted = arguments(source, recipe, images_per_class, config.pool, seed)
    wanted |= inputs(source, scorer, labeller, images_per_class)
    tiles, classes = images_per_class * recipe.tiles, len(source.class_names)
    wanted["training"] |= asked_of_students(recipe, tiles, classes)
    wanted |= {"licence": config.licence, "images_by_class": None} | of_classes(config.by_class)
    del wanted["hardware"]  # which changes a set by rounding at most
    there = _found(workdir, wanted, config, parts.unnamed(recipe, scorer))
    if there is not None:
        said = f"{workdir} is there already, made by the same arguments"
        progress.note(said, shown=config.progress)
        return there
    if pool is not None:
        return distill_pool(
            pool(), images_per_class=images_per_class, workdir=workdir, label_teacher=labeller
        )
    return distill(
        source,
        teacher,
        recipe,
        images_per_class=images_per_class,
        workdir=workdir,
        label_teacher=labeller,
        seed=seed,
        config=config,
    )


def _found(
    workdir: Path, wanted: Mapping[str, Any], config: DistillConfig, unnamed: str | None
) -> DistilledDataset | None:
    """The set that is there already; the first of several processes looks, for it writes there.

    What `unnamed` tells of has no name by which a set could be known: it may have changed since.
    """
    refusal, there = "", None
    if jax.process_index() == 0:
        try:
            there = made_by(workdir, wanted)
        except InputError as error:
            refusal = "" if config.overwrite else str(error)
        if there is not None and config.overwrite and (unnamed or "forgotten" in there.manifest):
            there = None  # which makes the earlier one
        elif there is not None and unnamed:
            refusal = (
                f"{workdir} holds a set that may have been made by another function of that name: "
                f"{unnamed}, or replace the set with --overwrite"
            )
    said = parallel.agreed(refusal or ("there" if there else ""))
    if said not in ("", "there"):
        raise InputError(said)
    if not said:
        return None
    if jax.process_index() == 0:  # a run that was stopped has left them
        locks.sweep(workdir)
        for left in (scoring_of(workdir), refining_of(workdir)):
            shutil.rmtree(left, ignore_errors=True)
    return there or DistilledDataset.load(workdir)
