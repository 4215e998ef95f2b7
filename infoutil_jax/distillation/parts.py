"""Names, writes and reads the parts of a scored pool on disk (NumPy on the host).

A part is found again only under the same name, and its name is the SHA-256 of everything it
depends on, as plain data. What cannot be told as plain data, a function of the user's, is not
looked into: the user gives it a `version`, or it is scored anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from jaxtyping import Int

from infoutil_jax import files, parallel, provenance
from infoutil_jax.data.sources import Source
from infoutil_jax.distillation.examine import Examined
from infoutil_jax.errors import InputError
from infoutil_jax.method.contracts import Candidates
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.training.teacher import Teacher

PART = 512  # images
FEATURE = "feature:"

Parts = dict[Path, Int[np.ndarray, " images"]]


def unnamed(recipe: Recipe, teacher: Teacher) -> str | None:
    """Why parts of this run cannot be found again by another; None if they can.

    Each of the user's functions needs a version.
    """
    if not teacher.is_named():
        return (
            f"the predict of teacher {teacher.name!r} is a function of yours: name what it "
            'computes, Teacher(..., version="1")'
        )
    names = ("attribute", "crop", "score", "embed", "select")
    mine = [name for name in names if not provenance.is_plain(getattr(recipe, name))]
    if mine and recipe.version is None:
        return (
            f"the {' and '.join(mine)} of recipe {recipe.name!r} is a function of yours: name "
            'what it computes, dataclasses.replace(recipe, version="1")'
        )
    return None


def name_of(source: Source, teacher: Teacher, recipe: Recipe, numbers: Sequence[int | None]) -> str:
    """The name of the folder of a run's parts.

    Args:
        source: of the images.
        teacher: attributes and scores.
        recipe: gives both halves, the tiles and its version.
        numbers: seed, pool, and for how many of each class rows are kept.
    """
    if unnamed(recipe, teacher):
        return parallel.agreed(f"once-{secrets.token_hex(8)}")
    about = [
        provenance.describe([recipe.per_image, recipe.selector, recipe.tiles, recipe.version]),
        provenance.describe([teacher.version, teacher.architecture, teacher.predict]),
        [source.fingerprint(), teacher.digest(), teacher.mean, teacher.std],
        [provenance.versions(), PART, *numbers],
    ]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def digest_of(indices: Int[np.ndarray, " images"]) -> str:
    """Names some images of a source by their numbers."""
    return hashlib.sha256(indices.astype("<i8").tobytes()).hexdigest()[:16]


def parts_of(folder: Path, indices: Int[np.ndarray, " pool"]) -> Parts:
    """The files of a run's parts, and the images of each."""
    starts = range(0, len(indices), PART)
    return {folder / f"{start // PART:06d}.npz": indices[start : start + PART] for start in starts}


def missing(parts: Parts) -> Iterator[tuple[Path, Int[np.ndarray, " images"]]]:
    """Yields the parts not there yet: this process's own, then those of others, backwards."""
    process, processes = jax.process_index(), jax.process_count()
    paths = list(parts)
    mine = paths[process::processes]
    for path in (*mine, *(path for path in reversed(paths) if path not in set(mine))):
        if not path.exists():
            yield path, parts[path]


def save(path: Path, rows: Examined) -> None:
    """Writes a part, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{jax.process_index()}.{os.getpid()}")
    with files.writing(path, unfinished), unfinished.open("wb") as file:
        np.savez(file, **cast(dict[str, Any], columns_of(rows)))


def load(path: Path) -> Examined:
    """Reads a part.

    Raises:
        InputError: the file is damaged.
    """
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            return rows_of(dict(file))
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged: remove it, and run again") from error


def columns_of(rows: Examined) -> dict[str, np.ndarray]:
    """A table as arrays by name."""
    candidates = rows.candidates._asdict()
    columns = {f"{FEATURE}{name}": c for name, c in rows.candidates.features.items()}
    columns |= {name: column for name, column in candidates.items() if name != "features"}
    return columns | {"boxes": rows.boxes, "maps": rows.maps}


def rows_of(columns: Mapping[str, np.ndarray]) -> Examined:
    """The table that `columns_of` has told; there may be other arrays with it.

    Raises:
        KeyError: one is missing.
    """
    features = {
        name.removeprefix(FEATURE): column
        for name, column in columns.items()
        if name.startswith(FEATURE)
    }
    ids, crops, labels, scores = (columns[n] for n in ("ids", "crops", "labels", "scores"))
    candidates = Candidates(ids, crops, labels, scores, features)
    return Examined(candidates, columns["boxes"], columns["maps"])
