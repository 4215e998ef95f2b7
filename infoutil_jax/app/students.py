"""Students of distilled sets, and what is written down of them (host)."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from infoutil_jax import files, locks
from infoutil_jax import progress as progresses
from infoutil_jax.data.augment import channel_statistics
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.sources import Source
from infoutil_jax.data.split import Split
from infoutil_jax.distillation.checks import check_teacher
from infoutil_jax.distillation.crops import read_crops
from infoutil_jax.errors import InputError
from infoutil_jax.image import mosaic
from infoutil_jax.parallel import Devices
from infoutil_jax.training.config import StudentConfig
from infoutil_jax.training.evaluation import balanced_of
from infoutil_jax.training.student import StudentResult, train_student
from infoutil_jax.training.supervision import Supervision
from infoutil_jax.training.teacher import Teacher

STUDENTS = "students"
"""Folder of a workdir with the state of students that are being trained."""


def train_students(
    distilled: DistilledDataset | Sequence[DistilledDataset],
    source: Source,
    teacher: Teacher | None,
    config: StudentConfig = StudentConfig(),
    *,
    classes: Sequence[int] | None = None,
    devices: Devices | None = None,
    folder: Path | None = None,
    progress: bool = True,
) -> StudentResult:
    """Trains students on a distilled set and tests them on the source's test images.

    Args:
        distilled: the set; or several of the same classes and sizes, for each seed its own.
        source: gives the test images.
        teacher: labels the views under the policy "online".
        config: the network and its training; what is not chosen is as the set asks for it.
        classes: train and test on the images of these classes only; None for all. The student has
            an output for every class all the same.
        devices: that share the seeds; None for the first.
        folder: where their state is kept, to go on after a stop (see `train_student`).
        progress: show a progress line.

    Raises:
        InputError: the set, the source and the teacher do not fit, a class that is not there, or a
            test image that is in the set.
    """
    shown = range(len(source.class_names)) if classes is None else classes
    for index in set(shown) - set(range(len(source.class_names))):
        raise InputError(
            f"class {index} is not there: {source.spec} has {len(source.class_names)} classes, "
            "counted from 0"
        )
    sets = [distilled] if isinstance(distilled, DistilledDataset) else list(distilled)
    _check_sets(sets, source)
    if teacher is not None:
        check_teacher(teacher, source)
    first = sets[0]
    config = config.asked(first.manifest.get("training", {}))
    kept = np.isin(first.labels, shown)
    images, soft_labels = first.images[kept], first.soft_labels[kept]
    if not isinstance(distilled, DistilledDataset):
        images = np.stack([one.images[kept] for one in sets])
        soft_labels = np.stack([one.soft_labels[kept] for one in sets])
    supervision = Supervision(
        num_classes=len(source.class_names),
        teacher=teacher,
        soft_labels=soft_labels,
        tiles=first.soft_labels.shape[1],
    )
    if teacher is None or config.labels != "online":
        mean, std = (first.said("label_teacher", one) for one in ("mean", "std"))
        supervision = replace(supervision, mean=mean, std=std)
    tested = source.test.take(np.flatnonzero(np.isin(source.test.labels, shown)))
    for one in sets:
        _check_unseen(one, source, tested, progress)
    return train_student(
        (images, first.labels[kept]),
        tested.labelled(),
        config.resolve(source),
        supervision=supervision,
        devices=devices,
        folder=folder,
        progress=progress,
    )


@contextmanager
def kept_beside(distilled: Path, command: str) -> Iterator[Path | None]:
    """A folder beside a set for the state of its students, removed when all has gone well.

    Args:
        distilled: the set's folder.
        command: tells who is at work: each command has a folder of its own.

    Yields:
        The folder; None where none can be made, as beside a set on a read-only disk.

    Raises:
        InputError: another process runs this command.
    """
    place = files.real(distilled)
    name = hashlib.sha256(command.encode()).hexdigest()[:16]
    folder = place.with_name(f"{place.name}.students") / name
    with ExitStack() as stack:
        try:
            stack.enter_context(locks.locked(folder))
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            said = f"{place.parent} takes no files ({error.strerror})"
            progresses.note(f"{said}: these students begin anew after a stop")
            yield None
            return
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # others may have theirs there
        folder.parent.rmdir()


def _check_sets(sets: Sequence[DistilledDataset], source: Source) -> None:
    if not sets:
        raise InputError("no distilled set was given: give one, or one for each seed")
    first = sets[0]
    for one in sets:
        if one.class_names != source.class_names:
            raise InputError(
                f"{one.path} has the classes {', '.join(one.class_names)} but "
                f"{source.spec} has {', '.join(source.class_names)}"
            )
        if one.images.shape != first.images.shape or not np.array_equal(one.labels, first.labels):
            raise InputError(
                f"{one.path} has images {one.images.shape} but {first.path} {first.images.shape}, "
                "or others of each class: sets that are trained on together are alike in both"
            )


def _check_unseen(
    distilled: DistilledDataset, source: Source, tested: Split, progress: bool
) -> None:
    """Checks that no test image is in a set, and tells where the set is of another source.

    Names alone do not tell, for images of two places may share them.

    Raises:
        InputError: a test image has the name and, where a tile was cut, the pixels of that tile.
    """
    from infoutil_jax.app.governance.again import source_of  # which reads records by this

    # A stream's fingerprint is of the images that came, in their order.
    about = distilled.manifest.get("source", {})
    known = "stream" not in distilled.manifest and "fingerprint" in about
    if known and source_of(distilled, source) is not None:
        return
    named = _named_alike(distilled, tested)
    if names := _of_the_same_pixels(distilled, replace(source, train=tested), named):
        raise InputError(
            f"{len(names)} of the {len(tested)} test images of {source.spec} are in "
            f"{distilled.path}, {min(names)} say: open the source with the options that the set "
            "was distilled with, such as --split-seed"
        )
    if known:
        also = f"; {len(named)} tiles of the set have names of test images" if named else ""
        progresses.note(
            f"{distilled.path} was not distilled from {source.spec} as it is opened here, so that "
            f"students are tested on images of another source or split{also}",
            shown=progress,
        )


def _named_alike(
    distilled: DistilledDataset, tested: Split
) -> list[tuple[int, int, int, list[int]]]:
    """Image, tile, test image and box of each tile that has the name of a test image."""
    from infoutil_jax.app.report.gather import checked_records

    try:
        checked_records(distilled)
    except InputError:  # of a set that does not say where its images come from
        return []
    rows = {name: row for row, name in enumerate(tested.ids)}
    return [
        (number, place, rows[tile["source"]], tile["box"])
        for number, record in enumerate(distilled.records)
        for place, tile in enumerate(record["tiles"][: distilled.soft_labels.shape[1]])
        if tile["source"] in rows and tile["box"] is not None
    ]


def _of_the_same_pixels(
    distilled: DistilledDataset, source: Source, named: list[tuple[int, int, int, list[int]]]
) -> set[str]:
    """The names of those training images of a source that tiles show at their boxes."""
    shape, k = distilled.images.shape[1:], distilled.soft_labels.shape[1]
    if not named or source.train.shape != shape:
        return set()
    numbers, places, rows, boxes = map(np.array, zip(*named, strict=True))
    cut = read_crops(source, rows, boxes, mosaic.tile_size((shape[0], shape[1]), k))
    there = mosaic.split(distilled.images[numbers], k)[np.arange(len(named)), places]
    same = (cut == there).all((1, 2, 3))
    return {source.train.ids[row] for row in rows[same]}


def train_students_on_everything(
    source: Source, config: StudentConfig = StudentConfig(), *, progress: bool = True
) -> StudentResult:
    """Trains students on all training images with hard labels, to compare distilled sets with."""
    train = source.train.arrays()
    mean, std = channel_statistics(train[0])
    return train_student(
        train,
        source.test.labelled(),
        replace(config, labels="hard").resolve(source),
        supervision=Supervision(num_classes=len(source.class_names), mean=mean, std=std),
        progress=progress,
    )


def summarise(result: StudentResult) -> dict[str, Any]:
    """Figures of students, ready for JSON: percent, one a seed, with mean and deviation."""
    top1 = np.asarray(result.top1, np.float64)
    return {
        "top1_mean": float(top1.mean()),
        "top1_std": float(top1.std(ddof=1)) if len(top1) > 1 else None,
        "top1": top1.tolist(),
        "balanced": [balanced_of(one) for one in result.confusion],
        "top5": np.asarray(result.top5, np.float64).tolist(),
        "ece": np.asarray(result.ece, np.float64).tolist(),
        "test_view": result.test_view,
        "seconds": result.seconds,
    }


def details(result: StudentResult) -> dict[str, Any]:
    """What a report shows of students beside their figures, ready for JSON.

    Returns:
        "loss": the mean of each epoch; "reliability": counts, summed confidences and right answers
        by bin, over all students; "confusion": test images by class and by what they were taken
        for, over all students, of up to 100 classes.
    """
    found: dict[str, Any] = {
        "loss": [float(f"{value:.4g}") for value in result.loss],
        "reliability": result.reliability.sum(0).round(4).tolist(),
    }
    if result.confusion.shape[-1] <= 100:
        found["confusion"] = result.confusion.sum(0).tolist()
    return found
