"""Takes source images out of a distilled set, as if they had never been in the pool (host)."""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infoutil_jax import files, locks
from infoutil_jax.app.governance.again import (
    Again,
    forgotten_of,
    opened,
    recipe_of,
    teacher_of,
    told_of,
)
from infoutil_jax.app.report.gather import checked_records
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.layout import MANIFEST
from infoutil_jax.data.sources import Source
from infoutil_jax.distillation.config import DistillConfig
from infoutil_jax.distillation.distill import Contents, scoring_of
from infoutil_jax.distillation.refining import refining_of
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.training.teacher import Teacher


@dataclass(frozen=True, eq=False)
class Forgotten:
    """What forgetting has done.

    Attributes:
        distilled: the set that is there now.
        tiles: how many tiles of the earlier one came from the images.
        removed: pictures and pages beside the set that showed the earlier one.
        elsewhere: other sets of the same run that have tiles of the images still.
    """

    distilled: DistilledDataset
    tiles: int
    removed: tuple[Path, ...]
    elsewhere: tuple[Path, ...]


def forget(
    path: str | os.PathLike[str],
    source_ids: Sequence[str],
    source: Source,
    teachers: Teacher | Mapping[str, Teacher],
    *,
    recipe: Recipe | None = None,
    config: DistillConfig = DistillConfig(),
) -> Forgotten:
    """Replaces a set by the one that its recipe makes without some training images.

    Nothing is patched: the pool is scored again without the images, so that it takes as long as
    distilling. All other images keep their numbers, and with them their random draws. Where a
    recipe ranks (`TopK`), the next in rank of the class moves up; where it weighs crops against
    each other, it chooses anew. The same images forgotten at once or one after the other make the
    same bytes, and `audit` passes. The manifest says their numbers, not their names, and not when.

    Of the earlier set nothing stays in its place, nor do the pictures and the page beside it that
    `infoutil` draws. Teachers, and students that were trained on the earlier set, have seen the
    images and are left as they are.

    Args:
        path: folder of the set.
        source_ids: of the images, as `explain` and the records name them.
        source: what the set was distilled from; the images are in it still, or have been
            forgotten before.
        teachers: the ones that scored and labelled; which is which, their digests tell.
        recipe: of a set whose recipe has parts of your own.
        config: how it is computed: batches, devices, progress. Its other fields are the set's.

    Raises:
        InputError: in one sentence, with the set as it was: no such set or image, another source
            or teacher, a set of refined or painted pixels, a class that has too few images left,
            or an image of the new set that has the same pixels as a forgotten one in the source.
    """
    folder = Path(path)
    if not (folder / MANIFEST).is_file():
        raise InputError(f"{folder} is no distilled set: it has no {MANIFEST}")
    with locks.locked(folder):
        files.recover(files.real(folder))
        before = DistilledDataset.load(folder)
        before.verify()
        checked_records(before)
        again = _again(before, source, teachers, recipe)
        examples = _examples(before, again.source, source_ids)
        every = [*forgotten_of(before), *examples]
        made = again.contents(config, every, folder=scoring_of(folder))
        _check_twins(made, again.source, every)
        distilled = made.write(again.source, folder, overwrite=True)
        for left in (scoring_of(folder), refining_of(folder)):
            shutil.rmtree(left, ignore_errors=True)
        _check_gone(files.real(folder))
        removed = tuple(_unshown(folder))
    tiles = sum(tile["example"] in examples for one in before.records for tile in one["tiles"])
    return Forgotten(distilled, tiles, removed, tuple(_elsewhere(before, examples)))


def _again(
    distilled: DistilledDataset,
    source: Source,
    teachers: Teacher | Mapping[str, Teacher],
    recipe: Recipe | None,
) -> Again:
    """What the set is made of.

    Raises:
        InputError: something of it is not there, or is another one; or the set is refined.
    """
    recipe = recipe_of(distilled, recipe)
    if recipe.refine is not None:
        raise InputError(
            f"{distilled.path} holds refined pixels, which many images have shaped, so that none "
            "can be taken out: distil it anew from a source without the image"
        )
    source = opened(distilled, source)
    found = []
    for role in ("teacher", "label_teacher"):
        one = teacher_of(distilled, role, teachers, source.channels)
        if one is None:
            about = distilled.manifest[role]
            raise InputError(
                f"the {role} of {distilled.path} is {about.get('stage')} {about.get('name')} "
                f"({str(about.get('digest'))[:12]}); given is {told_of(teachers)}: give the "
                "teachers that the set was made with"
            )
        found.append(one)
    return Again(distilled, source, recipe, *found)


def _examples(distilled: DistilledDataset, source: Source, source_ids: Sequence[str]) -> list[int]:
    """The numbers of the training images of these ids.

    Raises:
        InputError: there is none of an id, or no id.
    """
    if not source_ids:
        raise InputError("name at least one image to forget, by its source_id")
    wanted, gone = set(source_ids), set(forgotten_of(distilled))
    examples = [i for i, one in enumerate(source.train.ids) if one in wanted and i not in gone]
    for one in sorted(wanted - {source.train.ids[i] for i in examples}):
        kept = {str(tile["source"]) for record in distilled.records for tile in record["tiles"]}
        near = difflib.get_close_matches(one, sorted(kept), 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise InputError(
            f"{source.spec} has no training image {one!r} that is not forgotten yet{hint}: give "
            "ids as infoutil explain prints them"
        )
    return examples


def _check_twins(made: Contents, source: Source, examples: Sequence[int]) -> None:
    """Checks that no image of the new set is a copy of a forgotten one that is still in the source.

    Raises:
        InputError: one is.
    """
    ids = np.array(source.train.ids)
    # Where one has gone from the source stands another image, which is not forgotten.
    others = set(np.delete(ids, examples).tolist())
    gone = {source.train.image(i).tobytes(): i for i in examples if ids[i] not in others}
    for kept in sorted({tile["example"] for one in made.records for tile in one["tiles"]}):
        twin = gone.get(source.train.image(kept).tobytes())
        if twin is not None:
            raise InputError(
                f"{source.train.ids[kept]!r} has the same pixels as {source.train.ids[twin]!r} and "
                "would be in the set: give both, so that both are forgotten"
            )


def _check_gone(place: Path) -> None:
    """Checks that the earlier set has been removed, which was moved aside or changed places.

    Raises:
        InputError: some of it is there still.
    """
    files.recover(place)
    litter = (f".{place.name}.*.{ending}" for ending in ("old", "partial"))
    for left in sorted(one for pattern in litter for one in place.parent.glob(pattern)):
        raise InputError(f"{left} holds files of the earlier set and cannot be removed: remove it")


def _unshown(folder: Path) -> Iterator[Path]:
    """Removes pictures and pages of `infoutil` that show the earlier set, and tells which."""
    shown = []
    for place in dict.fromkeys((folder, files.real(folder))):
        run = place.parent
        shown += [run / f"{place.name}.png", run / f"{place.name}-report.html"]
        if any((run / name).is_file() for name in ("summary.json", "comparison.json")):
            shown += [run / "overview.png", run / "report.html"]
    for file in shown:
        if file.is_file():
            file.unlink()
            yield file


def _elsewhere(distilled: DistilledDataset, examples: Sequence[int]) -> Iterator[Path]:
    """Sets beside this one that were made of the same source and hold some of the images."""
    place = files.real(distilled.path)
    for file in sorted(place.parent.glob(f"*/{MANIFEST}")):
        if file.parent == place:
            continue
        try:
            other = DistilledDataset.load(file.parent)
            checked_records(other)
        except InputError:  # which its own reader tells
            continue
        same = other.manifest.get("source") or {}
        if same.get("fingerprint") != distilled.manifest["source"]["fingerprint"]:
            continue
        if any(tile["example"] in examples for one in other.records for tile in one["tiles"]):
            yield file.parent
