"""Whether a set is what its recipe makes of its source and teachers, image by image (host)."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from infoutil_jax import provenance
from infoutil_jax.app.governance.again import (
    Again,
    forgotten_of,
    recipe_of,
    source_of,
    teacher_of,
    told_of,
)
from infoutil_jax.app.governance.mislabelled import doubted
from infoutil_jax.app.report.gather import checked_records
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.layout import MANIFEST
from infoutil_jax.data.sources import Source
from infoutil_jax.distillation.config import DistillConfig
from infoutil_jax.distillation.distill import Contents
from infoutil_jax.distillation.refining import started_from
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.training.teacher import Teacher

What = Literal["files", "source", "teacher", "manifest", "pixels", "records", "labels", "class"]
TOLERANCE = 1e-3
"""Relative; other processors and batches round otherwise, by less than a hundredth of it."""
EXACT = ("source", "example", "crop", "box", "rank")
"""What the record of a tile says in words and whole numbers."""
CLAIMS = ("rule", "teacher", "label_teacher", "alpha", "normalisation", "training")
"""What a manifest says that follows from source, teachers and recipe."""


@dataclass(frozen=True)
class Finding:
    """Something about a set that is not as it should be.

    Attributes:
        what: "files" have changed since the set was written; the "source" is another one, or the
            "teacher"; or the set differs from what these make in its "manifest", or in an image's
            "pixels", "records" or "labels". Of a doubt: the "class" that the source gives an image.
        image: the image's file in the set; empty where it is not about one.
        said: how it differs.
    """

    what: What
    image: str
    said: str

    def __str__(self) -> str:
        return f"{self.image or 'set'}: {self.what}: {self.said}"


@dataclass(frozen=True)
class Audit:
    """What an audit has found.

    Attributes:
        path: folder of the set.
        digest: of the set; empty where its manifest cannot be read.
        images: how many were made again and compared.
        findings: what differs; nothing where the set is what its manifest says.
        notes: what may explain differences.
        doubts: images whose source looks mislabelled: no difference, and no reason to fail.
    """

    path: str
    digest: str
    images: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    doubts: tuple[Finding, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing differs."""
        return not self.findings

    def summary(self) -> str:
        """The outcome in one line."""
        compared = f"{self.images} images made again" if self.images else "no image made again"
        if self.doubts:
            compared += f", {len(self.doubts)} look mislabelled in the source"
        if self.passed:
            return f"audit of {self.path}: {compared}, nothing differs"
        counts = Counter(one.what for one in self.findings)
        found = ", ".join(f"{what} {count}" for what, count in counts.items())
        return f"audit of {self.path}: {compared}, differences: {found}"

    def as_json(self) -> dict[str, Any]:
        """The same for machines."""
        return {"passed": self.passed, **asdict(self)}

    def __str__(self) -> str:
        lines = [str(one) for one in self.findings]
        lines += [f"note: {one}" for one in self.notes if self.findings]
        lines += [f"note: {one}" for one in self.doubts]
        return "\n".join([*lines, self.summary()])


def audit(
    path: str | os.PathLike[str],
    source: Source,
    teachers: Teacher | Mapping[str, Teacher],
    *,
    recipe: Recipe | None = None,
    tolerance: float = TOLERANCE,
    config: DistillConfig = DistillConfig(),
) -> Audit:
    """Makes a set again from its source and teachers, and says what differs.

    First the files are compared with the manifest, as by `verify`; then source and teachers, by
    fingerprint and digest. Where these are the set's own, pixels, records and soft labels of every
    image are made again by the recipe and the seed that the manifest says: that takes as long as
    distilling. With other teachers only the pixels are compared, with those at the boxes that the
    records say. Images whose class a teacher doubts are told, and are no difference.

    Args:
        path: folder of the set.
        source: what it was distilled from, or that without the images that it was told to forget.
        teachers: the ones that scored and labelled; which is which, their digests tell.
        recipe: of a set whose recipe has parts of your own.
        tolerance: relative difference of scores, maps and logits that is rounding; pixels and boxes
            have none.
        config: how it is computed: batches, devices, progress. Its other fields are the set's.

    Raises:
        InputError: there is no set, its manifest does not say how it was made, or its recipe has
            parts of your own and is not given.
    """
    folder = Path(path)
    if not (folder / MANIFEST).is_file():
        raise InputError(f"{folder} is no distilled set: it has no {MANIFEST}")
    try:
        distilled = DistilledDataset.load(folder)
        distilled.verify()
    except InputError as error:
        return Audit(str(folder), "", 0, (Finding("files", "", str(error)),))
    recipe = recipe_of(distilled, recipe)
    findings: list[Finding] = []
    numbered = source_of(distilled, source)
    if numbered is None:
        then, now = distilled.said("source", "fingerprint"), source.fingerprint()
        said = f"{source.spec} has the fingerprint {now}; the set was made from {then}"
        return Audit(str(folder), distilled.digest, 0, (Finding("source", "", said),))
    channels = numbered.channels
    scorer = teacher_of(distilled, "teacher", teachers, channels)
    labeller = teacher_of(distilled, "label_teacher", teachers, channels)
    for role, did, found in (
        ("teacher", "scored", scorer),
        ("label_teacher", "labelled", labeller),
    ):
        if found is None:
            wanted = distilled.manifest[role].get("digest")
            said = f"the one that {did} has the digest {wanted}; given is {told_of(teachers)}"
            findings.append(Finding("teacher", "", said))
    names = _names(distilled)
    if scorer is None or labeller is None:
        if recipe.refine is None:
            findings += _at_the_boxes(names, distilled, numbered)
        return Audit(str(folder), distilled.digest, 0, tuple(findings))
    again = Again(distilled, numbered, recipe, scorer, labeller)
    made = again.contents(config, forgotten_of(distilled))
    findings += _claims(distilled.manifest, made.manifest)
    for label, (name, right) in enumerate(
        zip(distilled.class_names, numbered.class_names, strict=False)
    ):
        if name != right:
            findings.append(
                Finding("labels", "", f"class {label} is {name!r} instead of {right!r}")
            )
    shapes = [(one.images.shape, one.soft_labels.shape) for one in (distilled, made)]
    if shapes[0] != shapes[1]:
        said = f"images and labels are {shapes[0]}, the recipe makes {shapes[1]}"
        findings.append(Finding("records", "", said))
    else:
        findings += _images(names, distilled, made, tolerance)
    notes = tuple(_notes(distilled.manifest))
    doubts = tuple(_doubts(names, distilled, numbered, teachers))
    return Audit(str(folder), distilled.digest, len(distilled), tuple(findings), notes, doubts)


def _doubts(
    names: list[str],
    distilled: DistilledDataset,
    source: Source,
    teachers: Teacher | Mapping[str, Teacher],
) -> Iterator[Finding]:
    """Images of which a teacher says that they are of another class."""
    try:
        checked_records(distilled)
        found = doubted(distilled, source, teachers)
    except InputError:  # which is told as a difference
        return
    for name, label, record in zip(names, distilled.labels, distilled.records, strict=True):
        for tile in record["tiles"]:
            if one := found.get(tile["example"]):
                own = distilled.class_names[label]
                said = (
                    f"{tile['source']} looks like {one.name} ({one.share:.2f}) rather than {own} "
                    f"({one.own:.2f})"
                )
                yield Finding("class", name, said)


def _names(distilled: DistilledDataset) -> list[str]:
    return sorted(name for name in distilled.manifest["files"] if name.startswith("images/"))


def _images(
    names: list[str], distilled: DistilledDataset, made: Contents, tolerance: float
) -> Iterator[Finding]:
    """What differs, image by image."""
    pixels = {one.image: one for one in _pixels(names, distilled.images, made.images)}
    is_now, follows = (one.manifest.get("label_offsets", 0.0) for one in (distilled, made))
    logits = distilled.soft_labels, made.soft_labels
    if is_now != follows:  # another crop shifts all labels, but not what the teacher says
        logits = distilled.teacher_logits, made.soft_labels + np.float32(follows)
    if not _close(is_now, follows, tolerance):
        said = f"label_offsets are {is_now!r} instead of {follows!r}"
        yield Finding("manifest", "", said)
    for index, name in enumerate(names):
        if name in pixels:
            yield pixels[name]
        wrong = _record(distilled.records[index], made.records[index], tolerance)
        if wrong:
            yield Finding("records", name, wrong)
        there, right = logits[0][index], logits[1][index]
        if distilled.labels[index] != made.labels[index]:
            one, other = int(distilled.labels[index]), int(made.labels[index])
            yield Finding("labels", name, f"its class is {one} instead of {other}")
        elif not _close(there, right, tolerance):
            most = float(np.abs(there - right).max())
            yield Finding("labels", name, f"its logits are not the teacher's, by up to {most:.3g}")


def _at_the_boxes(
    names: list[str], distilled: DistilledDataset, source: Source
) -> Iterator[Finding]:
    """Where pixels are not those of the source at the boxes on record."""
    try:
        checked_records(distilled)
        cut = started_from(distilled, source)
    except (InputError, TypeError, ValueError) as error:
        yield Finding("records", "", f"images cannot be cut by them: {error}")
        return
    yield from _pixels(names, distilled.images, cut)


def _pixels(names: list[str], there: np.ndarray, right: np.ndarray) -> Iterator[Finding]:
    for name, one, other in zip(names, there, right, strict=True):
        change = np.abs(one.astype(np.int16) - other.astype(np.int16)).max(-1)
        if change.any():
            count, most = int((change > 0).sum()), int(change.max())
            said = f"{count} of {change.size} are not the source's, by up to {most} of 255"
            yield Finding("pixels", name, said)


def _record(there: Mapping[str, Any], right: Mapping[str, Any], tolerance: float) -> str:
    """How a record differs; nothing where it does not."""
    tiles, wanted = there.get("tiles"), right["tiles"]
    if not isinstance(tiles, list) or len(tiles) != len(wanted):
        return "it does not tell of its tiles"
    said = []
    for number, (tile, one) in enumerate(zip(tiles, wanted, strict=True), 1):
        tile = tile if isinstance(tile, Mapping) else {}
        where = f"tile {number}: " if len(wanted) > 1 else ""
        for key in EXACT:
            if tile.get(key) != one[key]:
                said.append(f"{where}{key} {tile.get(key)!r} instead of {one[key]!r}")
        if not _close(tile.get("score"), one["score"], tolerance):
            said.append(f"{where}score {tile.get('score')} instead of {one['score']}")
        if not _close(tile.get("map"), one["map"], tolerance):
            said.append(f"{where}another map")
    if there.get("refined") != right.get("refined"):
        said.append(f"refined {there.get('refined')} instead of {right.get('refined')}")
    return ", ".join(said)


def _close(there: Any, right: Any, tolerance: float) -> bool:
    """Whether numbers are equal but for rounding."""
    wanted = np.asarray(right, np.float64)
    try:
        found = np.asarray(there, np.float64)
    except (TypeError, ValueError):
        return False
    if found.shape != wanted.shape:
        return False
    return bool(np.allclose(found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max(initial=0)))


def _claims(there: Mapping[str, Any], right: Mapping[str, Any]) -> Iterator[Finding]:
    """What the manifest says otherwise than it follows; an earlier version may say less."""
    plain = json.loads(json.dumps({key: right[key] for key in CLAIMS}))
    for key in CLAIMS:
        if key in there and there[key] != plain[key]:
            yield Finding("manifest", "", f"{key} is {there[key]!r} instead of {plain[key]!r}")


def _notes(manifest: Mapping[str, Any]) -> Iterator[str]:
    """What may have another rounding, or another rule, than what the set was made with."""
    then, now = manifest.get("versions", {}), provenance.versions()
    changed = sorted(name for name in now if then.get(name) != now[name])
    if changed:
        yield f"made with other versions of {', '.join(changed)}, which may explain differences"
    device = manifest.get("hardware", {}).get("device")
    if device != provenance.hardware()["device"]:
        yield f"made on {device}, which may have rounded otherwise"
