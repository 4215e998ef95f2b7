"""The conductor: maps a recipe over a source of images and writes the distilled set (host).

What the recipe selects from the scored pool is cut again from the source, tiled, labelled and
written.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Int32, UInt8

from infoutil_jax import files, parallel, provenance
from infoutil_jax.data.distilled import DistilledDataset, check_destination, write_distilled
from infoutil_jax.data.sources import Source
from infoutil_jax.distillation.checks import check_budget, check_by_class, check_teacher
from infoutil_jax.distillation.config import DistillConfig
from infoutil_jax.distillation.crops import read_crops
from infoutil_jax.distillation.examine import REFINE, SELECT, Examined, stream
from infoutil_jax.distillation.labels import label_crops, stored_labels
from infoutil_jax.distillation.manifest import arguments, governance, inputs, taking_part
from infoutil_jax.distillation.pool import ScoredPool, score_pool
from infoutil_jax.distillation.refining import asked_of_students, moved, refined, refining_of
from infoutil_jax.errors import InputError
from infoutil_jax.image import mosaic
from infoutil_jax.method.contracts import Pool
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.training.teacher import Teacher


def distill(
    source: Source,
    teacher: Teacher,
    recipe: Recipe,
    *,
    images_per_class: int,
    workdir: str | Path,
    label_teacher: Teacher | None = None,
    seed: int = 0,
    config: DistillConfig = DistillConfig(),
) -> DistilledDataset:
    """Distils `source` into `images_per_class` images a class with soft labels.

    Args:
        source: where images come from (`open_source`).
        teacher: attributes and scores, unless the recipe leaves that to the one that labels;
            `Teacher(predict, variables, mean=..., std=...)` for a model of your own.
        recipe: the method: `infoutil()`, `rded()`, or your own composition.
        images_per_class: the budget; each image holds `recipe.tiles` crops.
        workdir: where the set is written: a new or empty folder, or with `overwrite` a set's.
            Beside it `workdir`.scoring.json says what scoring took: images a second, memory.
        label_teacher: labels the crops; None is `teacher`. The paper labels with an early
            teacher up to 10 images a class and with the converged one at 50.
        seed: of every random draw. Same seed, same bytes.
        config: the pool's size, batches, devices, overwriting, progress.

    Returns:
        The distilled set, loaded from disk.

    Raises:
        InputError: in one sentence, before anything is written.
    """
    labeller = label_teacher or teacher
    scorer = scorer_of(recipe, teacher, labeller)
    if labeller is not scorer:  # which `score_pool` checks
        labeller = check_teacher(labeller, source)
    check_budget(source, recipe, images_per_class, config.pool, config.forgotten)
    check_by_class(config.by_class, source, images_per_class, recipe)
    check_destination(workdir, overwrite=config.overwrite)
    workdir = Path(workdir)

    def prepare() -> None:
        files.recover(files.real(workdir))
        check_destination(workdir, overwrite=config.overwrite)

    with parallel.alone_in(workdir, prepare):
        parts = scoring_of(workdir)
        scored = score_pool(
            source,
            scorer,
            recipe,
            seed=seed,
            per_class=images_per_class * recipe.tiles,
            folder=parts,
            config=config,
        )

        def finish() -> None:
            by = scored.teacher if labeller is scorer else labeller
            _write(scored, by, images_per_class, workdir)

        if parallel.first_alone(finish):  # else somebody may still be reading them
            shutil.rmtree(parts, ignore_errors=True)
            shutil.rmtree(refining_of(workdir), ignore_errors=True)
    return DistilledDataset.load(workdir)


def scoring_of(workdir: Path) -> Path:
    """Where the parts of a scored pool lie until the set at `workdir` is there."""
    return workdir.with_name(workdir.name + ".scoring")


def _alike(one: Teacher, other: Teacher) -> bool:
    return one is other or (one.predict == other.predict and one.digest() == other.digest())


def scorer_of(recipe: Recipe, teacher: Teacher, labeller: Teacher) -> Teacher:
    """The one of two teachers that attributes and scores for a recipe."""
    return labeller if recipe.scorer == "labeller" else teacher


def distill_pool(
    scored: ScoredPool,
    *,
    images_per_class: int,
    workdir: str | Path,
    label_teacher: Teacher | None = None,
) -> DistilledDataset:
    """Distils from a pool that `score_pool` has scored with all its rows.

    The set is the one that `distill` makes with the same arguments.

    Args:
        scored: the pool.
        images_per_class: the budget.
        workdir: as in `distill`.
        label_teacher: labels the crops; None is the one that scored.

    Raises:
        InputError: in one sentence, before anything is written: also where the recipe asks the
            teacher that labels, and another one scored.
    """
    labeller = label_teacher or scored.teacher
    if not _alike(scorer_of(scored.recipe, scored.teacher, labeller), scored.teacher):
        raise InputError(
            f"recipe {scored.recipe.name!r} asks the teacher that labels, {labeller.name!r} "
            f"({labeller.stage}), but {scored.teacher.name!r} ({scored.teacher.stage}) scored the "
            "pool: score it with the teacher that labels, or replace the recipe's scorer"
        )
    if labeller is not scored.teacher:
        labeller = check_teacher(labeller, scored.source)
    pool, forgotten = scored.config.pool, scored.config.forgotten
    check_budget(scored.source, scored.recipe, images_per_class, pool, forgotten)
    check_destination(workdir, overwrite=scored.config.overwrite)
    _write(scored, labeller, images_per_class, Path(workdir))
    shutil.rmtree(refining_of(Path(workdir)), ignore_errors=True)
    return DistilledDataset.load(workdir)


def selected(scored: ScoredPool, per_class: int) -> Examined:
    """What the recipe selects, by class, best first within each.

    Raises:
        InputError: not `per_class` crops of every class, or crops that the pool does not have.
    """
    return finalized(scored.recipe, scored.seed, scored.rows, per_class)


def finalized(recipe: Recipe, seed: int, rows: Examined, per_class: int) -> Examined:
    """What a recipe selects of a table, by class, best first within each.

    Raises:
        InputError: as `selected`.
    """
    key = stream(seed, SELECT)
    kept = rows.follow(recipe.selector.finalize(key, rows.candidates, per_class))
    labels = kept.candidates.labels
    classes, counts = np.unique(labels, return_counts=True)
    every = np.unique(rows.candidates.labels)
    if not (np.array_equal(classes, every) and (counts == per_class).all()):
        found = ", ".join(f"{n} of class {c}" for c, n in zip(classes, counts, strict=True))
        raise InputError(
            f"the recipe's select returned {found or 'nothing'}; it must be {per_class} of each."
        )
    return kept.take(np.argsort(labels, kind="stable"))


class Contents(NamedTuple):
    """All that a set on disk holds, before it is written.

    Attributes:
        images: by class, each class best first.
        labels: class of each image.
        soft_labels: logits of each tile.
        records: where each tile comes from, and why it was kept.
        manifest: how the set was made.
    """

    images: UInt8[np.ndarray, "n height width channels"]
    labels: Int32[np.ndarray, " n"]
    soft_labels: Float[np.ndarray, "n tiles classes"]
    records: list[dict[str, Any]]
    manifest: dict[str, Any]

    def write(self, source: Source, workdir: Path, *, overwrite: bool = False) -> DistilledDataset:
        """Writes the set, whole or not at all."""
        return write_distilled(
            workdir,
            **self._asdict(),
            class_names=source.class_names,
            overwrite=overwrite,
        )


def _write(scored: ScoredPool, labeller: Teacher, images_per_class: int, workdir: Path) -> None:
    """Writes the set that the recipe's selection makes."""
    made = contents_of(scored, labeller, images_per_class, refining_of(workdir))
    made.write(scored.source, workdir, overwrite=scored.config.overwrite)


def contents_of(
    scored: ScoredPool, labeller: Teacher, images_per_class: int, folder: Path | None = None
) -> Contents:
    """What the recipe's selection makes of a scored pool.

    Args:
        scored: the pool.
        labeller: the teacher that labels.
        images_per_class: the budget.
        folder: where refining may keep its state, to go on after a stop.
    """
    source, recipe, batch_size = scored.source, scored.recipe, scored.config.batch_size
    classes, per_class = len(source.class_names), images_per_class * recipe.tiles
    check_by_class(scored.config.by_class, source, images_per_class, recipe)
    kept = selected(scored, per_class)
    size = mosaic.tile_size(source.image_size, recipe.tiles)
    by_class = scored.config.by_class or (images_per_class,) * classes
    kept = _first(kept, source, [n * recipe.tiles for n in by_class])
    crops = read_crops(source, kept.candidates.ids, kept.boxes, size, batch_size)
    rows = ranked(recipe, by_class)
    images = np.asarray(mosaic.assemble(crops[rows], source.image_size))
    labels = np.repeat(np.arange(classes, dtype=np.int32), by_class)
    logits = label_crops(labeller, crops, source.image_size, batch_size)[rows]
    records = records_of(kept, [source.train.ids[i] for i in kept.candidates.ids], rows)
    manifest = {
        **arguments(source, recipe, images_per_class, scored.config.pool, scored.seed),
        **inputs(source, scored.teacher, labeller, images_per_class),
        **governance(source, recipe, scored.config),
        **({"attribute": provenance.describe(scored.attribute)} if scored.attribute else {}),
    }
    soft_labels = logits
    if recipe.refine is not None:
        start = images
        images, soft_labels = refined(
            recipe.refine,
            stream(scored.seed, REFINE),
            labeller,
            (images, logits.copy()),
            Pool(*taking_part(source, scored.config).labelled(), manifest["training"]["flip"]),
            folder=folder,
            progress=scored.config.progress,
        )
        records = moved(records, start, images)
    if np.array_equal(soft_labels, logits):  # those that were learnt are nobody's
        soft_labels, offsets = stored_labels(recipe, logits, labels)
        manifest |= offsets
    manifest["training"] |= asked_of_students(recipe, per_class, classes)
    return Contents(images, labels, soft_labels, records, manifest)


def _first(kept: Examined, source: Source, wanted: Sequence[int]) -> Examined:
    """The first so many crops of each class; of a class that was filled, of other images first."""
    rows, labels = [], kept.candidates.labels
    for label, count in enumerate(wanted):
        of_class = np.flatnonzero(labels == label)
        if source.class_names[label] in source.filled and count < len(of_class):
            names = [source.train.ids[i] for i in kept.candidates.ids[of_class]]
            again = np.array([name in names[:place] for place, name in enumerate(names)])
            of_class = of_class[np.argsort(again, kind="stable")]
        rows.append(of_class[:count])
    return kept.take(np.concatenate(rows))


def ranked(recipe: Recipe, by_class: Sequence[int]) -> Int[np.ndarray, "images tiles"]:
    """Which rows of a selection, by class and best first, share each of so many images a class."""
    starts = np.cumsum([0, *by_class[:-1]]) * recipe.tiles
    ranks = [mosaic.arrange(count, recipe.tiles, recipe.tile_order) for count in by_class]
    return np.concatenate([start + one for start, one in zip(starts, ranks, strict=True)])


def records_of(
    kept: Examined, names: Sequence[str], rows: Int[np.ndarray, "images tiles"]
) -> list[dict[str, Any]]:
    """The audit record of each image: where each of its tiles comes from, and why it was kept.

    Args:
        kept: what was selected, by class, best first.
        names: of the source image of each row of it.
        rows: which rows share an image.
    """
    candidates = kept.candidates
    ranks = np.arange(len(candidates.labels))
    ranks -= np.searchsorted(candidates.labels, candidates.labels)

    def tile(i: int) -> dict[str, Any]:
        return {
            "source": names[i],
            "example": int(candidates.ids[i]),
            "crop": int(candidates.crops[i]),
            "box": kept.boxes[i].tolist(),
            "score": float(candidates.scores[i]),
            "rank": int(ranks[i]),
            "map": kept.maps[i].tolist(),
        }

    return [{"tiles": [tile(i) for i in row]} for row in rows.tolist()]
