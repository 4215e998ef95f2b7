"""What runs for every image of the pool: attribute, crop, score, embed, in one program (JAX).

The host sends batches of one size, one ahead of the device, and makes rows of what comes back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Int32, Integer, Key, UInt8, UInt32

from infoutil_jax import parallel
from infoutil_jax.data.augment import Normalisation
from infoutil_jax.distillation.checks import check_columns, check_shape
from infoutil_jax.errors import InputError
from infoutil_jax.image.resampling import centred, extract, resized
from infoutil_jax.method.contracts import (
    Candidates,
    Fit,
    PerImage,
    Predict,
    Prepared,
    concatenate,
    take,
)
from infoutil_jax.training.teacher import Teacher

# Independent streams of one seed; an example's draws never depend on another's.
POOL, ATTRIBUTE, CROP, SELECT, REFINE = range(5)


def stream(seed: int, number: int) -> Key[Array, ""]:
    """The key of one of a seed's independent streams."""
    return jax.random.fold_in(jax.random.key(seed), number)


@dataclass(frozen=True)
class Program:
    """All that the compiled program depends on, apart from shapes.

    Attributes:
        parts: of the recipe: attribute, crop, score and embed, as a pytree's structure.
        leaves: of that pytree; None for an array, which `Shared` has.
        fit: of the recipe.
        predict: of the teacher.
        tile_size: of a crop.
        devices: that share a batch.
    """

    parts: Any
    leaves: tuple[Any, ...]
    fit: Fit
    predict: Predict
    tile_size: tuple[int, int]
    devices: parallel.Devices


class Shared(NamedTuple):
    """What all batches share: arrays of the recipe's parts, a teacher's, and the seed's key."""

    arrays: tuple[Array, ...]
    variables: Any
    normalise: Normalisation
    key: Key[Array, ""]


def program_of(
    parts: PerImage,
    teacher: Teacher,
    tile_size: tuple[int, int],
    seed: int,
    devices: parallel.Devices,
) -> tuple[Program, Shared]:
    """The program of a recipe, and what it is given beside the batches.

    One program serves all teachers of one architecture, all seeds, and all arrays that a part holds
    as a pytree does.
    """
    attribute = parts.attribute
    if isinstance(attribute, Prepared):
        attribute = attribute.prepared()
    leaves, structure = jax.tree.flatten((attribute, parts.crop, parts.score, parts.embed))
    arrays = tuple(jnp.asarray(leaf) for leaf in leaves if _is_array(leaf))
    rest = tuple(None if _is_array(leaf) else leaf for leaf in leaves)
    program = Program(structure, rest, parts.fit, teacher.predict, tile_size, devices)
    shared = Shared(arrays, teacher.variables, teacher.normalisation, jax.random.key(seed))
    return program, parallel.replicated(shared, devices) if len(devices) > 1 else shared


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray | jax.Array)


class Results(NamedTuple):
    """What comes back of a batch, on the device."""

    maps: Float[Array, "batch grid_h grid_w"]
    boxes: Int32[Array, "batch crops 4"]
    scores: Float[Array, " rows"]
    features: Mapping[str, Float[Array, "rows ..."]]


class Examined(NamedTuple):
    """A table of crops: what a selector knows of them, and beside it their boxes and maps.

    Attributes:
        candidates: ids, scores, labels and features.
        boxes: (top, left, height, width) in the source image.
        maps: the source example's patch map.
    """

    candidates: Candidates
    boxes: Int32[np.ndarray, "rows 4"]
    maps: Float32[np.ndarray, "rows grid_h grid_w"]

    @classmethod
    def of(cls, ids: np.ndarray, labels: np.ndarray, results: Results) -> Examined:
        """The images of a filled-up batch, a row a crop.

        Raises:
            InputError: a map is not finite.
        """
        maps, count, crops = results.maps, len(ids), results.boxes.shape[1]
        for row in np.flatnonzero(~np.isfinite(maps[:count]).all((1, 2)))[:1]:
            raise InputError(
                f"the map of example {ids[row]} is not all finite numbers; check the teacher's "
                "logits there, also of the image with patches hidden"
            )
        rows = count * crops
        candidates = Candidates(
            ids=np.repeat(ids.astype(np.int64), crops),
            crops=np.tile(np.arange(crops, dtype=np.int32), count),
            labels=np.repeat(labels.astype(np.int32), crops),
            scores=np.asarray(results.scores[:rows], np.float32),
            features={
                name: np.asarray(column[:rows], np.float32)
                for name, column in results.features.items()
            },
        )
        return cls(
            candidates,
            boxes=np.asarray(results.boxes[:count], np.int32).reshape(-1, 4),
            maps=np.repeat(np.asarray(maps[:count], np.float32), crops, axis=0),
        )

    @classmethod
    def joined(cls, *tables: Examined) -> Examined:
        """All rows of all tables, in their order."""
        candidates = concatenate(*(table.candidates for table in tables))
        boxes = np.concatenate([table.boxes for table in tables])
        return cls(candidates, boxes, np.concatenate([table.maps for table in tables]))

    def take(self, rows: np.ndarray) -> Examined:
        """The rows of these numbers, in their order."""
        return Examined(take(self.candidates, rows), self.boxes[rows], self.maps[rows])

    def follow(self, chosen: Candidates) -> Examined:
        """The rows that a selector has chosen, with its scores, and what is beside them.

        Raises:
            InputError: a row that is not in this table.
        """
        rows = self.places(chosen)
        return Examined(chosen, self.boxes[rows], self.maps[rows])

    def places(self, chosen: Candidates) -> Int[np.ndarray, " chosen"]:
        """Where the rows that a selector has chosen stand in this table.

        Raises:
            InputError: as `follow`.
        """
        mine, crops = self.candidates, int(self.candidates.crops.max(initial=0)) + 1
        names = mine.ids * crops + mine.crops
        order = np.argsort(names, kind="stable")
        wanted = chosen.ids * crops + chosen.crops
        place = np.minimum(np.searchsorted(names[order], wanted), len(order) - 1)
        rows: Int[np.ndarray, " chosen"] = order[place]
        found = (mine.ids[rows] == chosen.ids) & (mine.crops[rows] == chosen.crops)
        for wrong in np.flatnonzero(~found)[:1]:
            raise InputError(
                f"the recipe's select returned crop {chosen.crops[wrong]} of example "
                f"{chosen.ids[wrong]}, which is not among its candidates"
            )
        return rows

    def in_order(self) -> Examined:
        """The rows by example id, then crop."""
        return self.take(np.lexsort((self.candidates.crops, self.candidates.ids)))


@partial(jax.jit, static_argnums=0)
def examine(
    program: Program,
    shared: Shared,
    images: UInt8[Array | np.ndarray, "batch height width channels"],
    labels: Integer[Array | np.ndarray, " batch"],
    ids: UInt32[Array | np.ndarray, " batch"],
) -> Results:
    """Runs a filled-up batch through the device half of a recipe, without leaving the device.

    Raises:
        InputError: a part of the recipe returns an array of another shape than it promises.
    """
    one: Callable[..., Results] = partial(_examine, program)
    results: Results = parallel.by_device(one, program.devices, 1)(shared, images, labels, ids)
    return results


def bytes_at_once(program: Program, shared: Shared, *batch: Any) -> int:
    """What a batch needs on each device while it is examined, about, or 0 where none tells.

    It is what the compiler sets aside, and on a CPU the largest array as well: XLA's account leaves
    out there what is computed in one with a convolution. What is compiled here examines the batch.
    """
    traced = examine.trace(program, shared, *batch)
    account = traced.lower().compile().memory_analysis()
    needed = int(getattr(account, "temp_size_in_bytes", 0))
    return needed + (largest(traced.jaxpr) if jax.default_backend() == "cpu" else 0)


def largest(program: Any) -> int:
    """Bytes of the largest array that a jaxpr makes, those inside of its calls and loops too."""
    jaxpr, found = getattr(program, "jaxpr", program), 0
    for equation in jaxpr.eqns:
        made = [var.aval for var in equation.outvars if hasattr(var.aval, "dtype")]
        found = max([found, *(math.prod(one.shape) * one.dtype.itemsize for one in made)])
        for value in equation.params.values():
            inner = value if isinstance(value, tuple | list) else (value,)
            programs = (one for one in inner if hasattr(getattr(one, "jaxpr", one), "eqns"))
            found = max([found, *(largest(one) for one in programs)])
    return found


def _examine(program: Program, shared: Shared, images: Array, labels: Array, ids: Array) -> Results:
    """Examines the rows of one device."""
    arrays, variables, normalise, key = shared
    given = iter(arrays)
    leaves = [next(given) if leaf is None else leaf for leaf in program.leaves]
    attribute, cut, score, embed = jax.tree.unflatten(program.parts, leaves)
    image_size = (images.shape[1], images.shape[2])
    normalised = normalise(images)
    maps = attribute(program.predict, variables, normalised, labels, _keys(key, ATTRIBUTE, ids))
    check_shape("attribute", maps, (len(images), None, None))
    boxes = cut(_keys(key, CROP, ids), maps, image_size)
    check_shape("crop", boxes, (len(images), None, 4))
    crops = extract(images, boxes, program.tile_size)
    crops = normalise(crops.reshape(-1, *crops.shape[2:]))
    fitted = centred(crops, image_size) if program.fit == "pad" else resized(crops, image_size)
    repeated = jnp.repeat(labels, boxes.shape[1])
    scores = score(program.predict, variables, fitted, repeated)
    check_shape("score", scores, (len(crops),))
    features: Mapping[str, Array] = {}
    if embed is not None:
        features = embed(program.predict, variables, fitted, repeated)
        check_columns("embed", features, len(crops))
        features = dict(features)
    return Results(maps, boxes, scores, features)


def _keys(key: Key[Array, ""], number: int, ids: Array) -> Key[Array, " batch"]:
    """Each example's own key of a stream."""
    keys: Array = jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(key, number)))(ids)
    return keys
