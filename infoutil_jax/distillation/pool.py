"""The pool of a recipe: every image attributed, cropped and scored; a table without pixels (host).

While the device computes, the next batch is read, decoded and sent. With a folder the pool goes in
parts, and what is done is a file: a stopped run goes on, several processes share the work, and each
helps where another is late or lost. Where the selector reduces, only what it can still choose is
held, so that memory does not grow with the images.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int32, Key

from infoutil_jax import files, memory, parallel, progress, provenance
from infoutil_jax.blocks import padded
from infoutil_jax.data.sources import Source
from infoutil_jax.distillation import lazily, parts
from infoutil_jax.distillation.checks import check_teacher
from infoutil_jax.distillation.config import DistillConfig
from infoutil_jax.distillation.engines import Engine
from infoutil_jax.distillation.examine import (
    POOL,
    Examined,
    Results,
    bytes_at_once,
    examine,
    program_of,
    stream,
)
from infoutil_jax.distillation.reducing import Keep, folded, keeping
from infoutil_jax.errors import InputError
from infoutil_jax.image import mosaic
from infoutil_jax.method.contracts import Attribute, Fitted, PerImage
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.training.teacher import Teacher


@dataclass(frozen=True, eq=False)
class ScoredPool:
    """The crops of a pool with their scores, to be spent on one budget or on several.

    Attributes:
        source: where the images come from.
        teacher: the teacher that attributed and scored the images.
        recipe: the recipe that scored, or another that only selects, or refines, otherwise.
        seed: of every random draw.
        config: how it ran.
        rows: a row a crop, in order of example ids.
        attribute: what attributed, where the recipe's was fitted to the teacher first.
        examined_by: of the recipe that scored.

    Raises:
        InputError: `dataclasses.replace` with a recipe that scores otherwise.
    """

    source: Source
    teacher: Teacher
    recipe: Recipe
    seed: int
    config: DistillConfig
    rows: Examined
    attribute: Attribute | None = None
    examined_by: tuple[PerImage, int] | None = None

    def __post_init__(self) -> None:
        if self.examined_by is None:
            object.__setattr__(self, "examined_by", self.recipe.examined_by)
        elif self.examined_by != self.recipe.examined_by:
            raise InputError(
                f"recipe {self.recipe.name!r}, of {self.recipe.tiles} tiles an image, scores "
                f"otherwise than what scored the pool, for {self.examined_by[1]} tiles: score a "
                "pool by it, or replace the selector alone"
            )


def score_pool(
    source: Source,
    teacher: Teacher,
    recipe: Recipe,
    *,
    seed: int = 0,
    per_class: int | None = None,
    folder: str | Path | None = None,
    config: DistillConfig = DistillConfig(),
) -> ScoredPool:
    """Attributes, crops and scores the pool.

    Args:
        source: where images come from.
        teacher: attributes and scores.
        recipe: the method.
        seed: of every random draw.
        per_class: keeps only rows that the selector can still choose for this many per class, if it
            reduces, and attributes only images that can still be kept, where that costs less (see
            `distillation.lazily`); None keeps all.
        folder: where parts of the table are kept until it is whole, to go on after a stop, or to
            share the work with other processes (`parallel.start`) that see the same folder. What
            the first of them took, images a second and memory, is then in `folder`.json. None
            keeps nothing.
        config: the pool's size, batches and devices.

    Raises:
        InputError: the teacher does not fit the source, a part of the recipe returns something else
            than it promises, a kept part is damaged, or an engine is given to several processes.
    """
    if config.engine is not None and jax.process_count() > 1:
        raise InputError("an engine spreads the pool by itself: run it in one process")
    teacher = check_teacher(teacher, source)
    indices = choose_pool(source.train.labels, config.pool, seed, config.forgotten)
    attribute = _fitted(source, teacher, recipe.attribute, indices)
    run = _Run(source, teacher, replace(recipe, attribute=attribute), seed, config)
    keep = keeping(recipe, seed, per_class, config.progress)
    what = f"scoring ({recipe.name})"
    with progress.Bar(what, len(indices), unit="image", shown=config.progress) as bar:
        place = None
        if folder is not None:
            numbers = seed, config.pool, per_class, *sorted(config.forgotten)
            place = Path(folder) / parts.name_of(source, teacher, recipe, numbers)
            reason = parts.unnamed(recipe, teacher)
            if reason:
                said = f"scoring anew, and not to be resumed after a stop: {reason}"
                progress.note(said, shown=config.progress)
        windows = None if per_class is None else lazily.bounding(recipe, source.image_size)
        if windows is None or per_class is None:
            run.whole = len(indices) * (per_class is None or recipe.selector.reduce is None)
            rows = _collected(run, indices, keep, bar, place)
        else:
            rows = _lazily(run, windows, indices, keep, per_class, bar, place)
    cost = Path(f"{folder}.json")  # not there yet where a run was stopped just before
    if folder is not None and jax.process_index() == 0 and (run.images or not cost.exists()):
        files.write(cost, json.dumps(run.cost(), indent=1) + "\n")
    changed = attribute if attribute is not recipe.attribute else None
    return ScoredPool(source, teacher, recipe, seed, config, rows, changed)


def _fitted(
    source: Source, teacher: Teacher, attribute: Attribute, indices: Int[np.ndarray, " pool"]
) -> Attribute:
    """What attributes the pool: fitted to the teacher on some of its images, if it wants that."""
    if not isinstance(attribute, Fitted) or not attribute.pilot:
        return attribute
    places = np.linspace(0, len(indices) - 1, min(attribute.pilot, len(indices)))
    (ids, images), *_ = source.train.batches(indices[places.astype(int)], len(places))
    normalised, labels = teacher.normalise(images), jnp.asarray(source.train.labels[ids])
    return attribute.fitted(teacher.predict, teacher.variables, normalised, labels)


def choose_pool(
    labels: Int32[np.ndarray, " n"],
    pool: int | None,
    seed: int,
    forgotten: tuple[int, ...] = (),
) -> Int[np.ndarray, " pool"]:
    """Indices of `pool` images of each class, drawn by each example's own key, ascending."""
    if pool is None:
        return np.setdiff1d(np.arange(len(labels)), forgotten)
    draws = _uniform(stream(seed, POOL), jnp.arange(len(labels), dtype=jnp.uint32))
    order = np.lexsort((np.arange(len(labels)), np.asarray(draws), labels))
    order = order[~np.isin(order, forgotten)]
    sorted_labels = labels[order]
    first = np.searchsorted(sorted_labels, sorted_labels)
    return np.sort(order[np.arange(len(order)) - first < pool])


class _Run:
    """What all batches of a pool share, and what they have taken so far."""

    def __init__(
        self, source: Source, teacher: Teacher, recipe: Recipe, seed: int, config: DistillConfig
    ):
        devices = config.devices or parallel.devices_of(1)
        self.source, self.teacher, self.recipe = source, teacher, recipe
        self.seed, self.config, self.size = seed, config, config.batch_size * len(devices)
        tile_size = mosaic.tile_size(source.image_size, recipe.tiles)
        about = recipe.per_image, teacher, tile_size, seed, devices
        self.program, self.shared = program_of(*about)
        self.images, self.waited, self.started = 0, 0.0, time.perf_counter()
        self.begun = False
        self.reduced: Keep = lambda rows: rows
        self.whole = 0  # images all of whose rows stay in memory

    def __reduce__(self) -> tuple[Any, ...]:
        """As it is pickled: without what belongs to this machine."""
        config = replace(self.config, devices=None, engine=None, progress=False)
        about = self.source, self.teacher, self.recipe, self.seed, config
        return _Run, about, {"reduced": self.reduced}

    def score(self, indices: Int[np.ndarray, " images"], bar: progress.Bar) -> Iterator[Examined]:
        """Yields the table of each batch, while the device computes the next."""
        train = self.source.train
        flying: deque[tuple[np.ndarray, np.ndarray, Results]] = deque()
        for ids, images in train.batches(indices, self.size):
            labels = train.labels[ids]
            batch = tuple(padded(a, self.size) for a in (images, labels, ids.astype(np.uint32)))
            if not self.begun:
                self._say_if_large(batch)
                self.begun = True
            flying.append((ids, labels, examine(self.program, self.shared, *batch)))
            if len(flying) > 1:
                yield self._landed(*flying.popleft(), bar)
        while flying:
            yield self._landed(*flying.popleft(), bar)

    def _landed(
        self, ids: np.ndarray, labels: np.ndarray, results: Results, bar: progress.Bar
    ) -> Examined:
        """Waits for a batch, and makes rows of it."""
        before = time.perf_counter()
        results = jax.device_get(results)
        self.waited += time.perf_counter() - before
        self.images += len(ids)
        seconds = time.perf_counter() - self.started
        bar.update(len(ids), waiting_for_device=round(self.waited / seconds, 2))
        rows = self.reduced(Examined.of(ids, labels, results))
        if self.whole:
            self._say_if_short(rows, len(ids))
        return rows

    def _say_if_large(self, batch: tuple[Any, ...]) -> None:
        """Says by the compiler's own account if a batch may not fit, before one is computed."""
        needed = bytes_at_once(self.program, self.shared, *batch)
        what = f"a batch of {self.size} images needs"
        for said in memory.short(what, needed, "a smaller batch_size"):
            progress.note(said, shown=self.config.progress)

    def _say_if_short(self, rows: Examined, images: int) -> None:
        """Says once, by the first batch, if the whole table may not fit into memory."""
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(rows)) / images
        # While parts are joined, they are held as well.
        machine = memory.available(), "this machine"
        table = "the table of all crops needs"
        for said in memory.short(table, int(2 * size * self.whole), "a smaller pool", machine):
            progress.note(said, shown=self.config.progress)
        self.whole = 0

    def cost(self) -> dict[str, Any]:
        """What this process has taken so far; runs differ in it, so it is not in the manifest."""
        seconds = time.perf_counter() - self.started
        return {
            "images": self.images,
            "seconds": seconds,
            "images_per_second": self.images / seconds,
            "waiting_for_device": self.waited / seconds,
            "peak_bytes": progress.peak_bytes(),
            "hardware": provenance.hardware(),
        }


def _lazily(
    run: _Run,
    windows: Recipe,
    indices: Int[np.ndarray, " pool"],
    keep: Keep,
    per_class: int,
    bar: progress.Bar,
    folder: Path | None,
) -> Examined:
    """Scores all windows of all images, and attributes those that can still be kept."""
    first = _Run(run.source, run.teacher, windows, run.seed, run.config)
    first.reduced, first.whole = partial(lazily.best_window, run.recipe), len(indices)
    place = None if folder is None else folder / "windows"
    found = _collected(first, indices, lambda rows: rows, bar, place).candidates
    bounds = lazily.Bounds(found.ids, found.labels, found.scores.astype(np.float64))
    run.images, run.waited, run.started = first.images, first.waited, first.started

    def attribute(images: Int[np.ndarray, " images"]) -> Examined:
        bar.extend(len(images))
        # Which images make a round depends on the batch: another batch looks for another name.
        place = None if folder is None else folder / f"round-{parts.digest_of(images)}"
        return _collected(run, images, keep, bar, place)

    return folded(lazily.attributed(run.recipe, bounds, per_class, run.size, attribute), keep)


def _collected(
    run: _Run, indices: Int[np.ndarray, " pool"], keep: Keep, bar: progress.Bar, folder: Path | None
) -> Examined:
    """Scores what is not on disk yet, in parts, and reads the whole table."""
    if run.config.engine is not None:
        return _spread(run, run.config.engine, indices, keep, bar, folder)
    if folder is None:
        return folded(run.score(indices, bar), keep)
    files = parts.parts_of(folder, indices)
    for path, part in parts.missing(files):
        parts.save(path, folded(run.score(part, bar), keep))
    return folded(map(parts.load, files), keep)


def _spread(
    run: _Run,
    engine: Engine,
    indices: Int[np.ndarray, " pool"],
    keep: Keep,
    bar: progress.Bar,
    folder: Path | None,
) -> Examined:
    """Has an engine score what is not on disk yet, and reads the whole table."""
    files = parts.parts_of(folder or Path(), indices)
    wanted = list(files.items() if folder is None else parts.missing(files))
    found: dict[Path, Examined] = {}
    for number, rows in engine(partial(_part, run, keep), [part for _, part in wanted]):
        path, part = wanted[number]
        if folder is None:
            found[path] = rows
        else:
            parts.save(path, rows)
        run.images += len(part)
        bar.update(len(part))
    return folded(map(found.__getitem__ if folder is None else parts.load, files), keep)


def _part(run: _Run, keep: Keep, indices: Int[np.ndarray, " images"]) -> Examined:
    """The table of a part, in a process of an engine's."""
    with progress.Bar("scoring", len(indices), unit="image", shown=False) as bar:
        return folded(run.score(indices, bar), keep)


@jax.jit
def _uniform(key: Key[Array, ""], ids: Array) -> Array:
    return jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i)))(ids)
