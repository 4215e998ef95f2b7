"""The recipe's last part, on a set that is otherwise finished (host)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Key, UInt8

from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.sources import Source
from infoutil_jax.distillation.crops import read_crops
from infoutil_jax.errors import InputError
from infoutil_jax.image import mosaic
from infoutil_jax.method.contracts import Pool, Refine, Resumable
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.training.student import default_batch_size
from infoutil_jax.training.teacher import Teacher

Made = tuple[UInt8[np.ndarray, "n height width channels"], Float[np.ndarray, "n tiles classes"]]
"""Images of a set, and logits of their tiles."""


def refined(
    refine: Refine,
    key: Key[Array, ""],
    teacher: Teacher,
    made: Made,
    pool: Pool,
    *,
    folder: Path | None = None,
    progress: bool = False,
) -> Made:
    """What `refine` makes of a set, checked.

    Args:
        refine: the recipe's part.
        key: of its draws.
        teacher: the one that labels.
        made: the set as it was chosen.
        pool: real images.
        folder: where it may keep its state, to go on after a stop.
        progress: show a line of progress.

    Raises:
        InputError: it returns something else than it promises.
    """
    if folder is not None and isinstance(refine, Resumable):
        refine = refine.resuming(folder, progress)
    images, soft_labels = map(np.asarray, refine(key, teacher, *made, pool))
    for name, found, like in (("images", images, made[0]), ("logits", soft_labels, made[1])):
        if found.shape != like.shape or found.dtype != like.dtype:
            raise InputError(
                f"the recipe's refine returned {name} {found.dtype} {list(found.shape)}; they must "
                f"be {like.dtype} {list(like.shape)}, as those that it was given"
            )
    if not np.isfinite(soft_labels).all():
        raise InputError("the recipe's refine returned logits that are NaN or infinite")
    return images, soft_labels


def moved(
    records: Sequence[dict[str, Any]],
    before: UInt8[np.ndarray, "n height width channels"],
    after: UInt8[np.ndarray, "n height width channels"],
) -> list[dict[str, Any]]:
    """The audit records of refined images: each says how far its pixels went from the crops.

    "refined" holds the root of the mean square and the largest of the changes, in grey levels of
    255. Where an image started is in its record already: source and box of every tile, from which
    `started_from` cuts it again.
    """
    change = after.astype(np.int16) - before.astype(np.int16)
    each = change.reshape(len(change), -1).astype(np.float64)
    root, most = np.sqrt((each**2).mean(1)), np.abs(each).max(1)
    return [
        {**record, "refined": {"rms": float(round(r, 3)), "most": int(m)}}
        for record, r, m in zip(records, root, most, strict=True)
    ]


def started_from(
    distilled: DistilledDataset, source: Source
) -> UInt8[np.ndarray, "n height width channels"]:
    """The set as it was before it was refined, cut again from its source.

    Args:
        distilled: of any recipe: the records say which crops its images began as.
        source: the one that it was distilled from.

    Raises:
        InputError: another source.
    """
    if distilled.manifest["source"]["fingerprint"] != source.fingerprint():
        raise InputError(
            f"{distilled.path} was not distilled from {source.name} as it is now: open the source "
            "that its manifest names, with the same options"
        )
    tiles = [tile for record in distilled.records for tile in record["tiles"]]
    each = len(tiles) // len(distilled)
    size = mosaic.tile_size(source.image_size, each)
    ids, boxes = (np.array([tile[key] for tile in tiles]) for key in ("example", "box"))
    crops = read_crops(source, ids, boxes, size)
    crops = crops.reshape(len(distilled), each, *size, source.channels)
    return np.asarray(mosaic.assemble(crops, source.image_size))


def refining_of(workdir: Path) -> Path:
    """Where the state of refining a set is kept until the set is there."""
    return workdir.with_name(workdir.name + ".refining")


def asked_of_students(recipe: Recipe, per_class: int, classes: int) -> dict[str, Any]:
    """What a recipe says of students, for the manifest's `training`.

    Args:
        recipe: whose `refine`, of a user's own, too, may have a `temperature`, a `partition`, or
            what else it asks `of_students`.
        per_class: tiles of a class.
        classes: of the set.
    """
    temperature = getattr(recipe.refine, "temperature", None)
    asked: dict[str, Any] = {} if temperature is None else {"temperature": float(temperature)}
    asked |= getattr(recipe.refine, "of_students", {})
    if recipe.parted and recipe.tiles > 1:
        asked |= {"partition": True, "batch_size": default_batch_size(per_class, classes)}
    return asked
