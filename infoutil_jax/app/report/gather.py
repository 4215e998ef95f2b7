"""What a report shows, from the folders of `infoutil` on disk (host)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from infoutil_jax import files, kinds
from infoutil_jax.app.accounts import accuracy_rows
from infoutil_jax.app.comparison import Comparison
from infoutil_jax.app.options import index_of
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.layout import MANIFEST, METADATA
from infoutil_jax.data.sources import Source, open_source
from infoutil_jax.distillation.labels import label_crops
from infoutil_jax.errors import InputError
from infoutil_jax.image import mosaic
from infoutil_jax.training.teacher import Teacher, load_teachers

Opinions = Mapping[str, Float[np.ndarray, "images tiles classes"]]
"""A teacher's stage, and its logits on every tile."""


@dataclass(frozen=True, eq=False)
class Shown:
    """One distilled set, and what is known of it.

    Attributes:
        name: of its folder.
        distilled: the set.
        opinions: of the teachers that are there, the one that labelled first.
        source: what it was distilled from; None where that cannot be opened.
        student: figures of its students, and details; empty if there are none.
        scoring: what scoring its pool took, as `distill` writes it beside the set; else empty.
        bytes: of its files.
    """

    name: str
    distilled: DistilledDataset
    opinions: Opinions
    source: Source | None
    student: Mapping[str, Any]
    scoring: Mapping[str, Any]
    bytes: int


@dataclass(frozen=True, eq=False)
class Folder:
    """One folder that a report is of.

    Attributes:
        path: it.
        summary: what its JSON file says; empty without one.
        table: accuracies, the first row the header; empty without any.
        advice: of a comparison.
        sets: the sets in it.
        missing: why something cannot be shown, a sentence each.
    """

    path: Path
    summary: Mapping[str, Any]
    table: list[list[str]]
    advice: str
    sets: tuple[Shown, ...]
    missing: tuple[str, ...]


def gather(path: Path, source: Source | None = None) -> Folder:
    """Reads a folder of `infoutil run`, `compare`, `quickstart` or `distill`.

    Args:
        path: the folder, with a set in it, below it, or being one.
        source: what the sets were distilled from; None opens what the folder's summary names.

    Raises:
        InputError: there is no set, or one that cannot be read.
    """
    folders = sets_in(path)
    written = [path / name for name in ("comparison.json", "summary.json")]
    there = [file for file in written if file.is_file()]
    summary: dict[str, Any] = _json(there[0]) if there else {}
    sets = [load_shown(folder) for folder in folders]
    missing = list[str]()
    if source is None:
        source, reason = _reopened(summary, sets[0])
        missing += [reason] if reason else []
    trained = path / "teacher" / "config.json"
    teachers = load_teachers(trained.parent) if trained.exists() else {}
    shown = []
    for folder, distilled in zip(folders, sets, strict=True):
        mine = None
        if source is not None and _fingerprint(distilled) is not None:
            from infoutil_jax.app.governance.again import source_of  # which reads records by this

            mine = source_of(distilled, source)
        if source is not None and mine is None:
            missing.append(
                f"{folder.name}: its origins are not shown, for it was distilled from other "
                f"images than {source.spec} has now"
            )
        with _as_written(*there[:1]):
            student = _student(summary, distilled, folder)
            if not student and {"student", "recipes"} & summary.keys():
                missing.append(
                    f"{folder.name}: no student is shown beside it, for those that {there[0].name} "
                    "tells of, here too, were trained on other sets"
                )
        shown.append(
            Shown(
                folder.name if folder != path else path.resolve().name,
                distilled,
                _opinions(distilled, teachers),
                mine,
                student,
                _scoring(folder),
                sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
            )
        )
    with _as_written(*there[:1]):
        compared = Comparison.of(summary) if "recipes" in summary else None
        table = compared.rows() if compared else _accuracies(summary)
        advice = compared.advice() if compared else ""
    return Folder(path, summary, table, advice, tuple(shown), tuple(missing))


_TILE = kinds.having(
    source=kinds.optional(kinds.text),
    example=kinds.optional(lambda value: type(value) is int),
    box=kinds.optional(lambda value: kinds.many(kinds.number)(value) and len(value) == 4),
    map=kinds.optional(kinds.many(kinds.many(kinds.number))),
    score=kinds.number,
    rank=lambda value: type(value) is int,
)


def load_shown(folder: Path) -> DistilledDataset:
    """A set, whose records say of each tile what a report shows."""
    distilled = DistilledDataset.load(folder)
    checked_records(distilled)
    return distilled


def checked_records(distilled: DistilledDataset) -> None:
    """Checks that records say of each tile where it comes from and why it was kept.

    Raises:
        InputError: one does not.
    """
    keys = {"source", "example", "box", "map", "score", "rank"}
    for number, record in enumerate(distilled.records, 1):
        tiles: Any = record.get("tiles")
        if not kinds.many(_TILE)(tiles) or any(keys - tile.keys() for tile in tiles):
            raise InputError(
                f"{distilled.path / METADATA} line {number} does not say of its tiles where they "
                "come from and why they were kept, as infoutil distill writes it"
            )


def _json(file: Path) -> dict[str, Any]:
    found = files.parse(files.read(file, files.LARGE), file)
    with _as_written(file):
        return dict(found)


@contextmanager
def _as_written(*file: Path) -> Iterator[None]:
    """Tells where a file that infoutil writes says something else."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, InputError) or not file:
            raise
        raise InputError(f"{file[0]} is not as infoutil writes it: {error!r}") from error


def sets_in(path: Path) -> list[Path]:
    """The distilled sets that a folder is, or has, in the order of their names.

    Raises:
        InputError: there is none.
    """
    if not path.is_dir():
        raise InputError(f"{path} is no folder: give one of infoutil run, compare or quickstart")
    if (path / MANIFEST).is_file():
        return [path]
    found = sorted(file.parent for file in path.glob(f"*/{MANIFEST}"))
    if not found:
        below = sorted({str(file.parents[1]) for file in path.glob(f"*/*/{MANIFEST}")})
        hint = f"; there are some in {', '.join(below)}" if below else ""
        raise InputError(
            f"{path} holds no distilled set: give the folder of infoutil run, compare, quickstart "
            f"or distill{hint}"
        )
    return found


def _fingerprint(distilled: DistilledDataset) -> Any:
    return distilled.manifest.get("source", {}).get("fingerprint")


def _reopened(
    summary: Mapping[str, Any], distilled: DistilledDataset
) -> tuple[Source | None, str | None]:
    """The source that a summary names, or why it cannot be shown."""
    spec = summary.get("source", distilled.manifest.get("source", {}).get("name"))
    known = dict(summary.get("source_options", {}))
    if "source" not in summary and spec != "digits":
        return None, "where the images came from is not written down: name the source to see them"
    try:
        return open_source(spec, **known, index=index_of(spec)), None
    except InputError as error:
        return None, f"the images' origins are not shown: {error}"


def _opinions(distilled: DistilledDataset, teachers: Mapping[str, Teacher]) -> Opinions:
    """The labelling teacher's logits, and of each other teacher that is there."""
    labelled = distilled.manifest.get("label_teacher", {})
    found = {str(labelled.get("stage", "teacher")): distilled.teacher_logits}
    shape = distilled.soft_labels.shape
    size = (distilled.images.shape[1], distilled.images.shape[2])
    tiles = mosaic.split(distilled.images, shape[1])
    for stage, teacher in teachers.items():
        if stage not in found and teacher.class_names == distilled.class_names:
            logits = label_crops(teacher, tiles.reshape(-1, *tiles.shape[2:]), size)
            found[stage] = logits.reshape(shape)
    return found


def _scoring(folder: Path) -> Mapping[str, Any]:
    file = folder.with_name(f"{folder.name}.scoring.json")
    return _json(file) if file.is_file() else {}


def _student(
    summary: Mapping[str, Any], distilled: DistilledDataset, folder: Path
) -> Mapping[str, Any]:
    """What a summary says of the students of one of its sets; nothing where it is of others."""
    digest = distilled.digest
    if digest in summary.get("made_from", {}).get("sets", ()):
        if folder.name == "distilled":
            return {**summary.get("student", {}), **summary.get("student_details", {})}
        return dict(summary.get("random") or {})
    for one in summary.get("recipes", {}).values():
        sets = one["made_from"]["sets"]
        if digest in sets:  # each has a student of its own
            return {**one["student"], "top1": [one["student"]["top1"][sets.index(digest)]]}
    return {}


def _accuracies(summary: Mapping[str, Any]) -> list[list[str]]:
    """The table of a run or of the quickstart."""
    if "student" in summary:
        budget = summary["images_per_class"]
        rows = {f"student, {summary['recipe']['recipe']}": {budget: summary["student"]["top1"]}}
        if summary.get("random"):
            rows["student, random images"] = {budget: summary["random"]["top1"]}
        rows |= {f"{name} teacher": {budget: [value]} for name, value in summary["teacher"].items()}
        rows["the largest class alone"] = rows.pop("majority teacher")
        return accuracy_rows(rows)
    if "top1" in summary:
        return accuracy_rows(
            {name: {int(k): v for k, v in row.items()} for name, row in summary["top1"].items()}
        )
    return []
