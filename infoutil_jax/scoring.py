"""The pool of a recipe: every image attributed, cropped and scored; a table without pixels (host).

What runs on the device is the recipe's, per batch of one fixed shape, under one `jit`. While it
computes, the next batch is read, decoded and sent. With a folder the pool goes in parts, and what
is done is a file: a stopped run goes on, several processes share the work, and each helps where
another is late or lost. A selection that folds needs only its best so far, so that memory does not
grow with the images.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import marshal
import os
import re
import resource
import sys
import time
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from infoutil_jax import parallel, provenance
from infoutil_jax.checks import check_shape
from infoutil_jax.data.augment import normalise
from infoutil_jax.data.sources import Source
from infoutil_jax.errors import InputError
from infoutil_jax.method import mosaic, selection
from infoutil_jax.method.cropping import extract
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.method.selection import Candidates, concatenate
from infoutil_jax.training.teacher import Teacher

# Independent streams of one seed; an example's draws never depend on another's.
POOL, ATTRIBUTE, CROP, SELECT = range(4)
PART = 512  # images


def score_pool(
    source: Source,
    teacher: Teacher,
    recipe: Recipe,
    *,
    seed: int = 0,
    pool: int | None = 300,
    batch_size: int = 64,
    devices: parallel.Devices | None = None,
    folder: str | Path | None = None,
    per_class: int | None = None,
    progress: bool = True,
) -> Candidates:
    """Attribute, crop and score the pool: one row a crop, without its pixels.

    Args:
        source: where images come from.
        teacher: attributes and scores.
        recipe: the method.
        seed: of every random draw.
        pool: training images of a class that compete; None for all.
        batch_size: images in flight at once on each device; every batch is padded to it, so that
            one compilation serves all.
        devices: that share each batch (`parallel.devices_of`); None for the first.
        folder: where parts of the table are kept until it is whole, to go on after a stop, or
            with other processes (`parallel.start`) that see the same folder; what the first of
            them took, images a second and memory, is then in `folder`.json. None keeps nothing.
        per_class: only what the recipe's selection can still take for so many of each class is
            kept, where it folds; None keeps all rows.
        progress: show a progress line: images a second, the share of time that the host waits
            for the device, and the most memory used.

    Returns:
        The candidates, in order of their example ids.
    """
    indices = choose_pool(source.train.labels, pool, seed)
    run = _Run(source, teacher, recipe, seed, batch_size, devices or parallel.devices_of(1))
    keep = (lambda rows: rows) if per_class is None else _shortlist(recipe.select, seed, per_class)
    with tqdm(
        total=len(indices), desc=f"scoring ({recipe.name})", unit="image", disable=not progress
    ) as bar:
        if folder is None:
            return _folded(run.score(indices, bar), keep)
        digest = _digest(source, teacher, recipe, seed, pool, per_class)
        parts = _parts(Path(folder) / digest, indices)
        for path, part in _missing(parts):
            _save(path, _folded(run.score(part, bar), keep))
        if run.images and jax.process_index() == 0:
            Path(f"{folder}.json").write_text(json.dumps(run.cost(), indent=1) + "\n")
        return _folded(map(_load, parts), keep)


def choose_pool(labels: np.ndarray, pool: int | None, seed: int) -> np.ndarray:
    """Indices of `pool` images of each class, drawn by each example's own key, ascending."""
    if pool is None:
        return np.arange(len(labels))
    if pool < 1:
        raise InputError(f"the pool is {pool} images a class; it must be at least 1")
    draws = _uniform(stream(seed, POOL), jnp.arange(len(labels), dtype=jnp.uint32))
    order = np.lexsort((np.arange(len(labels)), np.asarray(draws), labels))
    sorted_labels = labels[order]
    first = np.searchsorted(sorted_labels, sorted_labels)
    return np.sort(order[np.arange(len(labels)) - first < pool])


def stream(seed: int, number: int):
    """The key of one of a seed's independent streams."""
    return jax.random.fold_in(jax.random.key(seed), number)


class _Run:
    """What all batches of a pool share."""

    def __init__(self, source, teacher, recipe, seed, batch_size, devices):
        self.source, self.batch_size = source, batch_size * len(devices)
        tile_size = mosaic.tile_size(source.image_size, recipe.tiles)
        # What the device does not run must not make it compile again.
        recipe = replace(recipe, name="", select=len, order="consecutive")
        mean, std = (jnp.asarray(v, jnp.float32) for v in (teacher.mean, teacher.std))
        shared = teacher.variables, mean, std, jax.random.key(seed)
        if len(devices) > 1:
            shared = parallel.replicated(shared, devices)
        self.examine = partial(examine, recipe, teacher.predict, tile_size, devices, *shared)
        self.images, self.waited, self.started = 0, 0.0, time.perf_counter()

    def score(self, indices: np.ndarray, bar: tqdm) -> Iterator[Candidates]:
        """Tables of batches, one behind the device."""
        train = self.source.train
        flying: deque[tuple[np.ndarray, np.ndarray, Any]] = deque()
        for ids, images in train.batches(indices, self.batch_size):
            labels = train.labels[ids]
            batch = images, labels, ids.astype(np.uint32)
            flying.append((ids, labels, self.examine(*(_pad(a, self.batch_size) for a in batch))))
            if len(flying) > 1:
                yield self._landed(flying.popleft(), bar)
        while flying:
            yield self._landed(flying.popleft(), bar)

    def _landed(self, flown, bar) -> Candidates:
        ids, labels, results = flown
        before = time.perf_counter()
        table = _table(ids, labels, *jax.device_get(results))
        for row in np.flatnonzero(~np.isfinite(table.maps).all((1, 2)))[:1]:
            raise InputError(
                f"the map of example {table.ids[row]} is not all finite numbers; check the "
                "teacher's logits there, also of the image with patches hidden"
            )
        self.waited += time.perf_counter() - before
        self.images += len(ids)
        if not bar.disable:
            cost = self.cost()
            share, memory = cost["waiting_for_device"], cost["peak_bytes"] / 2**30
            bar.set_postfix_str(f"device {share:.0%}, {memory:.1f} GiB", False)
            bar.update(len(ids))
        return table

    def cost(self) -> dict[str, Any]:
        """What this process has taken so far; not in the manifest, for no two runs agree on it."""
        seconds = time.perf_counter() - self.started
        return {
            "images": self.images,
            "seconds": seconds,
            "images_per_second": self.images / seconds,
            "waiting_for_device": self.waited / seconds,
            "peak_bytes": _peak_bytes(),
            "hardware": provenance.hardware(),
        }


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def examine(
    recipe, predict, tile_size, devices, variables, mean, std, key, images, labels, ids
) -> Any:
    """One padded batch through attribute, crop and score; nothing leaves the device between."""

    def one(variables, mean, std, key, images, labels, ids):
        image_size = images.shape[1:3]
        maps = recipe.attribute(
            predict, variables, normalise(images, mean, std), labels, _keys(key, ATTRIBUTE, ids)
        )
        check_shape("attribute", maps, (len(images), None, None))
        boxes = recipe.crop(_keys(key, CROP, ids), maps, image_size)
        check_shape("crop", boxes, (len(images), None, 4))
        crops = extract(images, boxes, tile_size)
        crops = normalise(crops.reshape(-1, *crops.shape[2:]), mean, std)
        fit = padded if recipe.view == "pad" else resized
        seen = (predict, variables, fit(crops, image_size), jnp.repeat(labels, boxes.shape[1]))
        scores = recipe.score(*seen)
        check_shape("score", scores, (len(crops),))
        features = None
        if recipe.embed is not None:
            features = recipe.embed(*seen)
            check_shape("embed", features, (len(crops), None))
        return maps, boxes, scores, features

    return parallel.by_device(one, devices, 4)(variables, mean, std, key, images, labels, ids)


def resized(images, size):
    """Images at a model's input size."""
    if images.shape[1:3] == size:
        return images
    return jax.image.resize(images, (len(images), *size, images.shape[-1]), "linear")


def padded(images, size):
    """Centred on zero, the mean colour; RDED's `pad`."""
    missing = [size[axis] - images.shape[axis + 1] for axis in (0, 1)]
    margins = [(m // 2, m - m // 2) for m in missing]
    return jnp.pad(images, ((0, 0), *margins, (0, 0)))


def _keys(key, number: int, ids):
    return jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(key, number)))(ids)


@jax.jit
def _uniform(key, ids):
    return jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i)))(ids)


def _pad(array: np.ndarray, size: int) -> np.ndarray:
    return np.pad(array, [(0, size - len(array))] + [(0, 0)] * (array.ndim - 1), mode="edge")


def _table(ids, labels, maps, boxes, scores, features) -> Candidates:
    """The images of a padded batch, a row a crop."""
    count, crops = len(ids), boxes.shape[1]
    maps, boxes, rows = maps[:count], boxes[:count], count * crops
    return Candidates(
        ids=np.repeat(ids.astype(np.int64), crops),
        crops=np.tile(np.arange(crops, dtype=np.int32), count),
        labels=np.repeat(labels.astype(np.int32), crops),
        boxes=boxes.reshape(-1, 4).astype(np.int32),
        scores=scores[:rows].astype(np.float32),
        maps=np.repeat(maps.astype(np.float32), crops, axis=0),
        features=None if features is None else features[:rows].astype(np.float32),
    )


def _folded(tables: Iterator[Candidates], keep: Callable[[Candidates], Candidates]) -> Candidates:
    """All tables in one, of which only what `keep` keeps is ever held."""
    rows, waiting = None, []
    for table in tables:
        waiting.append(table)
        # As many rows again are worth another selection.
        if rows is None or sum(len(t.ids) for t in waiting) >= len(rows.ids):
            rows, waiting = keep(concatenate(*filter(None, (rows, *waiting)))), []
    rows = keep(concatenate(*filter(None, (rows, *waiting))))
    return selection.take(rows, np.lexsort((rows.crops, rows.ids)))


def _shortlist(select: Callable, seed: int, per_class: int) -> Callable[[Candidates], Candidates]:
    """What keeps of a table all that `select` can still take; of one that is not known, all."""
    function, options = (
        (select.func, select.keywords) if isinstance(select, partial) else (select, {})
    )
    keep = options.get("keep", "highest")
    best = options.get("compete", "best") == "best" and options.get("cap") is None
    if function is selection.top_k and best and keep != "middle":
        return lambda rows: selection.running_top_k([rows], per_class, keep=keep)
    if function is selection.random_k:
        key = stream(seed, SELECT)
        return lambda rows: selection.running_top_k([rows], per_class, keep="random", key=key)
    return lambda rows: rows


def _digest(source: Source, teacher: Teacher, recipe: Recipe, *numbers: int | None) -> str:
    """Of everything that a part of a table depends on."""
    functions = [getattr(recipe, f.name) for f in fields(recipe)]
    about = [
        [provenance.describe(function) for function in functions],
        [_code(function) for function in (*functions, teacher.predict)],
        [source.fingerprint(), teacher.digest(), teacher.mean, teacher.std, provenance.versions()],
        [PART, *numbers],
    ]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def _code(value: Any, depth: int = 5) -> Any:
    """Of a function what it does and holds, for its name may stay when that is changed."""
    if not depth:
        return None
    if isinstance(value, partial):
        code, held = None, [value.func, *value.args, *value.keywords.values()]
    elif callable(value) and inspect.isroutine(function := inspect.unwrap(value)):
        code = getattr(function, "__code__", None)
        held = [*(inspect.getclosurevars(function).nonlocals.values() if code else ())]
        held += [*(getattr(function, "__defaults__", None) or ())]
        held += [*(getattr(function, "__kwdefaults__", None) or {}).values()]
    elif callable(value):
        code = getattr(type(value).__call__, "__code__", None)
        held = [*getattr(value, "__dict__", {}).values()]
    else:
        return re.sub(r" at 0x[0-9a-f]+", "", json.dumps(provenance.describe(value)))
    return [marshal.dumps(code).hex() if code else "", [_code(part, depth - 1) for part in held]]


def _parts(folder: Path, indices: np.ndarray) -> dict[Path, np.ndarray]:
    """Files of the parts, and the images of each."""
    starts = range(0, len(indices), PART)
    return {folder / f"{start // PART:06d}.npz": indices[start : start + PART] for start in starts}


def _missing(parts: dict[Path, np.ndarray]) -> Iterator[tuple[Path, np.ndarray]]:
    """Parts that are nowhere yet: this process's, then what others have not come to, backwards."""
    process, processes = jax.process_index(), jax.process_count()
    paths: Sequence[Path] = list(parts)
    mine = paths[process::processes]
    for path in (*mine, *(path for path in reversed(paths) if path not in set(mine))):
        if not path.exists():
            yield path, parts[path]


def _save(path: Path, rows: Candidates) -> None:
    columns = {name: column for name, column in rows._asdict().items() if column is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{jax.process_index()}.{os.getpid()}")
    with unfinished.open("wb") as file:
        np.savez(file, **columns)
    unfinished.rename(path)


def _load(path: Path) -> Candidates:
    try:
        with np.load(path) as file:
            return Candidates(**dict(file))
    except (ValueError, OSError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged: remove it, and run again") from error


def _peak_bytes() -> int:
    """The most memory of this process so far, or of its device where JAX tells it."""
    stats = jax.local_devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024
    return (
        stats.get("peak_bytes_in_use") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    )
