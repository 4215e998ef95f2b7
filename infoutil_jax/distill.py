"""The conductor: maps a recipe over a source of images and writes the distilled set.

Everything with state is here: the reading, the progress line, the files. What is computed is the
recipe's (`method/recipes.py`), per batch of one fixed shape, under one `jit`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from tqdm.auto import tqdm

from infoutil_jax import provenance
from infoutil_jax.checks import check_budget, check_shape, check_teacher
from infoutil_jax.data.augment import normalise
from infoutil_jax.data.distilled import DistilledDataset, check_destination, write_distilled
from infoutil_jax.data.sources import Source
from infoutil_jax.method import mosaic
from infoutil_jax.method.cropping import extract
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.method.selection import Candidates, concatenate
from infoutil_jax.training.evaluation import in_chunks
from infoutil_jax.training.teacher import Teacher

# Independent streams of one seed; an example's draws never depend on another's.
_POOL, _ATTRIBUTE, _CROP, _SELECT = range(4)


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
    candidates: Candidates | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> DistilledDataset:
    """Distil `source` into `images_per_class` images a class with soft labels.

    Args:
        source: where images come from (`open_source`).
        teacher: attributes and scores; `Teacher(predict, variables, mean=..., std=...)` for a
            model of your own.
        recipe: the method: `infoutil()`, `rded()`, `random()`, or your own composition.
        images_per_class: the budget; each image holds `recipe.tiles` crops.
        workdir: where the set is written: a new or empty folder, or with `overwrite` a set's.
        seed: of every random draw. Same seed, same bytes.
        label_teacher: labels the crops; None is `teacher`. The paper labels with an early
            teacher up to 10 images a class and with the converged one at 50.
        pool: training images of a class that compete (paper: 300); None for all.
        batch_size: images in flight at once.
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
    per_class = images_per_class * recipe.tiles
    check_teacher(teacher, source)
    check_teacher(label_teacher, source)
    check_budget(source, recipe, images_per_class, pool)
    check_destination(workdir, overwrite=overwrite)
    if candidates is None:
        candidates = score_pool(
            source,
            teacher,
            recipe,
            seed=seed,
            pool=pool,
            batch_size=batch_size,
            progress=progress,
        )
    kept = recipe.select(_stream(seed, _SELECT), candidates, per_class)
    crops = _read_crops(source, kept, mosaic.tile_size(source.image_size, recipe.tiles), batch_size)
    classes = len(source.class_names)
    ranks = mosaic.arrange(images_per_class, recipe.tiles, recipe.order)
    rows = (np.arange(classes)[:, None, None] * per_class + ranks).reshape(-1, recipe.tiles)
    labels = np.repeat(np.arange(classes, dtype=np.int32), images_per_class)
    return write_distilled(
        workdir,
        images=np.asarray(mosaic.assemble(crops[rows], source.image_size)),
        labels=labels,
        soft_labels=label_crops(label_teacher, crops, source.image_size, batch_size)[rows],
        class_names=source.class_names,
        records=[_record(source, kept, row, per_class) for row in rows],
        manifest={
            "recipe": {
                f.name: provenance.describe(getattr(recipe, f.name)) for f in fields(recipe)
            },
            "images_per_class": images_per_class,
            "pool": pool,
            "seed": seed,
            **provenance.inputs(source, teacher, label_teacher),
        },
        overwrite=overwrite,
    )


def score_pool(
    source: Source,
    teacher: Teacher,
    recipe: Recipe,
    *,
    seed: int = 0,
    pool: int | None = 300,
    batch_size: int = 64,
    progress: bool = True,
) -> Candidates:
    """Attribute, crop and score the pool: one row a crop, without its pixels.

    Args:
        source: where images come from.
        teacher: attributes and scores.
        recipe: the method.
        seed: of every random draw.
        pool: training images of a class that compete; None for all.
        batch_size: images in flight at once; every batch is padded to it, so that one
            compilation serves all.
        progress: show a progress line.

    Returns:
        The candidates, in order of their example ids.
    """
    key = jax.random.key(seed)
    mean, std = jnp.asarray(teacher.mean, jnp.float32), jnp.asarray(teacher.std, jnp.float32)
    indices = choose_pool(source.train.labels, pool, seed)
    parts: list[Candidates] = []
    with tqdm(
        total=len(indices), desc=f"scoring ({recipe.name})", unit="image", disable=not progress
    ) as bar:
        for ids, images in source.train.batches(indices, batch_size):
            labels = source.train.labels[ids]
            maps, boxes, scores, features = jax.device_get(
                _examine(
                    recipe,
                    teacher.predict,
                    mosaic.tile_size(source.image_size, recipe.tiles),
                    teacher.variables,
                    mean,
                    std,
                    key,
                    *(_pad(array, batch_size) for array in (images, labels, ids.astype(np.uint32))),
                )
            )
            parts.append(_table(len(ids), ids, labels, maps, boxes, scores, features))
            bar.update(len(ids))
    return concatenate(*parts)


def choose_pool(labels: np.ndarray, pool: int | None, seed: int) -> np.ndarray:
    """Indices of `pool` images of each class, drawn by each example's own key, ascending."""
    if pool is None:
        return np.arange(len(labels))
    draws = _uniform(_stream(seed, _POOL), jnp.arange(len(labels), dtype=jnp.uint32))
    order = np.lexsort((np.arange(len(labels)), np.asarray(draws), labels))
    sorted_labels = labels[order]
    first = np.searchsorted(sorted_labels, sorted_labels)
    return np.sort(order[np.arange(len(labels)) - first < pool])


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


@partial(jax.jit, static_argnums=(0, 1, 2))
def _examine(recipe, predict, tile_size, variables, mean, std, key, images, labels, ids):
    """One padded batch through attribute, crop and score; nothing leaves the device between."""
    image_size = images.shape[1:3]
    maps = recipe.attribute(
        predict, variables, normalise(images, mean, std), labels, _keys(key, _ATTRIBUTE, ids)
    )
    check_shape("attribute", maps, (len(images), None, None))
    boxes = recipe.crop(_keys(key, _CROP, ids), maps, image_size)
    check_shape("crop", boxes, (len(images), None, 4))
    crops = extract(images, boxes, tile_size)
    crops = normalise(crops.reshape(-1, *crops.shape[2:]), mean, std)
    fit = _padded if recipe.view == "pad" else _resized
    seen = (predict, variables, fit(crops, image_size), jnp.repeat(labels, boxes.shape[1]))
    scores = recipe.score(*seen)
    check_shape("score", scores, (len(crops),))
    features = None
    if recipe.embed is not None:
        features = recipe.embed(*seen)
        check_shape("embed", features, (len(crops), None))
    return maps, boxes, scores, features


@partial(jax.jit, static_argnums=(0, 1))
def _label(predict, image_size, variables, mean, std, crops):
    return predict(variables, _resized(normalise(crops, mean, std), image_size))


def _resized(images, size):
    if images.shape[1:3] == size:
        return images
    return jax.image.resize(images, (len(images), *size, images.shape[-1]), "linear")


def _padded(images, size):
    """Centred on zero, the mean colour; RDED's `pad`."""
    missing = [size[axis] - images.shape[axis + 1] for axis in (0, 1)]
    margins = [(m // 2, m - m // 2) for m in missing]
    return jnp.pad(images, ((0, 0), *margins, (0, 0)))


def _stream(seed: int, stream: int):
    return jax.random.fold_in(jax.random.key(seed), stream)


def _keys(key, stream: int, ids):
    return jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(key, stream)))(ids)


@jax.jit
def _uniform(key, ids):
    return jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i)))(ids)


def _pad(array: np.ndarray, size: int) -> np.ndarray:
    return np.pad(array, [(0, size - len(array))] + [(0, 0)] * (array.ndim - 1), mode="edge")


def _table(count, ids, labels, maps, boxes, scores, features) -> Candidates:
    """The first `count` images of a padded batch, a row a crop."""
    crops = boxes.shape[1]
    maps, boxes, rows = maps[:count], boxes[:count], count * crops
    return Candidates(
        ids=np.repeat(ids.astype(np.int64), crops),
        crops=np.tile(np.arange(crops, dtype=np.int32), len(ids)),
        labels=np.repeat(labels.astype(np.int32), crops),
        boxes=boxes.reshape(-1, 4).astype(np.int32),
        scores=scores[:rows].astype(np.float32),
        maps=np.repeat(maps.astype(np.float32), crops, axis=0),
        features=None if features is None else features[:rows].astype(np.float32),
    )


def _read_crops(source: Source, kept: Candidates, size: tuple[int, int], batch_size: int):
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
