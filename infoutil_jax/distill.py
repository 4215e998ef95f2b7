"""The conductor: maps a recipe over a source of images and writes the distilled set (host).

The pool is scored by `infoutil_jax.scoring`; what the recipe selects is cut again from the source,
tiled, labelled and written.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from infoutil_jax import parallel, provenance
from infoutil_jax.checks import check_budget, check_teacher
from infoutil_jax.data.augment import normalise
from infoutil_jax.data.distilled import DistilledDataset, check_destination, write_distilled
from infoutil_jax.data.sources import Source
from infoutil_jax.errors import InputError
from infoutil_jax.method import mosaic
from infoutil_jax.method.cropping import extract
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.method.selection import Candidates, take
from infoutil_jax.scoring import SELECT, resized, score_pool, stream
from infoutil_jax.training.evaluation import in_chunks
from infoutil_jax.training.teacher import Teacher


def distill(
    source: Source,
    teacher: Teacher,
    recipe: Recipe,
    *,
    images_per_class: int,
    workdir: str | Path,
    seed: int = 0,
    label_teacher: Teacher | None = None,
    pool: int | None = 300,
    batch_size: int = 64,
    devices: parallel.Devices | None = None,
    candidates: Candidates | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> DistilledDataset:
    """Distil `source` into `images_per_class` images a class with soft labels.

    Args:
        source: where images come from (`open_source`).
        teacher: attributes and scores, unless the recipe leaves that to the one that labels;
            `Teacher(predict, variables, mean=..., std=...)` for a model of your own.
        recipe: the method: `infoutil()`, `rded()`, `random()`, or your own composition.
        images_per_class: the budget; each image holds `recipe.tiles` crops.
        workdir: where the set is written: a new or empty folder, or with `overwrite` a set's.
            Beside it `workdir`.scoring.json says what scoring took: images a second, memory.
        seed: of every random draw. Same seed, same bytes.
        label_teacher: labels the crops; None is `teacher`. The paper labels with an early
            teacher up to 10 images a class and with the converged one at 50.
        pool: training images of a class that compete (paper: 300); None for all.
        batch_size: images in flight at once on each device.
        devices: that attribute and score (`parallel.devices_of`); None for the first.
        candidates: a table from `score_pool` with the same arguments, to spend it on several
            budgets.
        overwrite: replace a distilled set that is already there.
        progress: show a progress line.

    Returns:
        The distilled set, loaded from disk.

    Raises:
        InputError: in one sentence, before anything is written.
    """
    label_teacher = label_teacher or teacher
    teacher = label_teacher if recipe.scorer == "labeller" else teacher
    per_class = images_per_class * recipe.tiles
    check_teacher(teacher, source)
    check_teacher(label_teacher, source)
    check_budget(source, recipe, images_per_class, pool)
    check_destination(workdir, overwrite=overwrite)
    workdir = Path(workdir)
    parts = workdir.with_name(workdir.name + ".scoring")
    if candidates is None:
        candidates = score_pool(
            source,
            teacher,
            recipe,
            seed=seed,
            pool=pool,
            batch_size=batch_size,
            devices=devices,
            folder=parts,
            per_class=per_class,
            progress=progress,
        )

    def finish():
        kept = selected(recipe, stream(seed, SELECT), candidates, per_class)
        settings = {"images_per_class": images_per_class, "pool": pool, "seed": seed}
        settings |= provenance.inputs(source, teacher, label_teacher)
        _write(workdir, source, label_teacher, recipe, kept, batch_size, settings, overwrite)

    if parallel.first_alone(finish):  # else somebody may still be reading them
        shutil.rmtree(parts, ignore_errors=True)
    return DistilledDataset.load(workdir)


def selected(recipe: Recipe, key: Any, candidates: Candidates, per_class: int) -> Candidates:
    """What the recipe selects, by class, best first within each.

    Raises:
        InputError: not `per_class` crops of every class.
    """
    kept = recipe.select(key, candidates, per_class)
    classes, counts = np.unique(kept.labels, return_counts=True)
    if not (np.array_equal(classes, np.unique(candidates.labels)) and (counts == per_class).all()):
        found = ", ".join(f"{n} of class {c}" for c, n in zip(classes, counts, strict=True))
        raise InputError(
            f"the recipe's select returned {found or 'nothing'}; it must be {per_class} of each."
        )
    return take(kept, np.argsort(kept.labels, kind="stable"))


def _write(workdir, source, label_teacher, recipe, kept, batch_size, settings, overwrite) -> None:
    """The set that `kept`, best first within each class, makes."""
    classes = len(source.class_names)
    per_class = len(kept.ids) // classes
    images_per_class = per_class // recipe.tiles
    crops = read_crops(source, kept, mosaic.tile_size(source.image_size, recipe.tiles), batch_size)
    ranks = mosaic.arrange(images_per_class, recipe.tiles, recipe.order)
    rows = (np.arange(classes)[:, None, None] * per_class + ranks).reshape(-1, recipe.tiles)
    described = {f.name: provenance.describe(getattr(recipe, f.name)) for f in fields(recipe)}
    write_distilled(
        workdir,
        images=np.asarray(mosaic.assemble(crops[rows], source.image_size)),
        labels=np.repeat(np.arange(classes, dtype=np.int32), images_per_class),
        soft_labels=label_crops(label_teacher, crops, source.image_size, batch_size)[rows],
        class_names=source.class_names,
        records=[_record(source, kept, row, per_class) for row in rows],
        manifest={"recipe": described, **settings},
        overwrite=overwrite,
    )


def label_crops(
    teacher: Teacher,
    crops: UInt8[np.ndarray, "n height width channels"],
    image_size: tuple[int, int],
    batch_size: int = 64,
) -> Float[np.ndarray, "n classes"]:
    """The teacher's logits on each crop, resized to the teacher's input by itself."""
    mean, std = jnp.asarray(teacher.mean, jnp.float32), jnp.asarray(teacher.std, jnp.float32)
    label = partial(_label, teacher.predict, image_size, teacher.variables, mean, std)
    return in_chunks(label, crops, batch_size)


@partial(jax.jit, static_argnums=(0, 1))
def _label(predict, image_size, variables, mean, std, crops):
    return predict(variables, resized(normalise(crops, mean, std), image_size))


def _pad(array: np.ndarray, size: int) -> np.ndarray:
    return np.pad(array, [(0, size - len(array))] + [(0, 0)] * (array.ndim - 1), mode="edge")


def read_crops(source: Source, kept: Candidates, size: tuple[int, int], batch_size: int = 64):
    """Pixels of the kept crops, in the table's order."""
    cut: Callable = jax.jit(extract, static_argnums=2)
    order = np.argsort(kept.ids, kind="stable")
    crops = np.empty((len(order), *size, source.channels), np.uint8)
    start = 0
    for ids, images in source.train.batches(kept.ids[order], batch_size):
        rows = order[start : start + len(ids)]
        boxes = kept.boxes[rows][:, None]
        crops[rows] = cut(_pad(images, batch_size), _pad(boxes, batch_size), size)[: len(ids), 0]
        start += len(ids)
    return crops


def _record(source: Source, kept: Candidates, row: np.ndarray, per_class: int) -> dict:
    return {
        "tiles": [
            {
                "source": source.train.ids[kept.ids[i]],
                "example": int(kept.ids[i]),
                "crop": int(kept.crops[i]),
                "box": kept.boxes[i].tolist(),
                "score": float(kept.scores[i]),
                "rank": int(i % per_class),
                "map": kept.maps[i].tolist(),
            }
            for i in row
        ]
    }
