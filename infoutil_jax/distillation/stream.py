"""A distilled set that is kept up to date while images arrive (host).

One pass, no second look: of every batch the crops are scored, and those stay that the recipe's
selector can still choose, pixels and labels included. So memory does not grow with the images, and
an update costs what its batch does. The set on disk is that of all images so far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from infoutil_jax import files, locks, ranges
from infoutil_jax.data import layout
from infoutil_jax.data.distilled import DistilledDataset, check_destination, write_distilled
from infoutil_jax.data.manifest import read_manifest
from infoutil_jax.distillation import reserve
from infoutil_jax.distillation.config import StreamConfig
from infoutil_jax.distillation.reserve import State
from infoutil_jax.distillation.streaming import Plan, arrived, contents, full
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.training.teacher import Teacher


@dataclass(frozen=True, eq=False, repr=False)
class Stream:
    """A distilled set, and what it takes to keep it up to date.

    The teacher knows all classes beforehand; images of a class may come late, or never. A class is
    in the set from when as many of its images have come as its crops take, and there is a set from
    two such classes on. Its classes are in the teacher's order, without those that are not in it
    yet: labels, folders and columns of the soft labels are numbered among them.

    An image draws by its number in the stream. So the set depends on the order in which images
    come, and not on how they are cut into batches: one batch of all, many small ones, and `distill`
    with `pool=None` of a source that has them in this order make the same choice.

    Attributes:
        folder: of the set. The state lies beside it, in `folder`.stream.npz.
        plan: what the stream was opened with.
        state: where it stands.
    """

    folder: Path
    plan: Plan
    state: State

    @classmethod
    def open(
        cls,
        folder: str | Path,
        teacher: Teacher,
        recipe: Recipe,
        *,
        images_per_class: int = 10,
        label_teacher: Teacher | None = None,
        seed: int = 0,
        config: StreamConfig = StreamConfig(),
    ) -> Stream:
        """Begins a stream, or goes on with the one whose state lies beside `folder`.

        Where an update has died, the set is written anew from the state.

        Args:
            folder: of the set; it must not exist, or be empty, or be this stream's.
            teacher: with the names of all classes that may come, and logits for each. It attributes
                and scores, unless the recipe leaves that to the one that labels.
            recipe: one whose selector has a `reduce`, that refines nothing and fits nothing to a
                pool. `infoutil(judges=N)` keeps N whole images of each class beside its shortlist.
            images_per_class: the budget.
            label_teacher: labels the crops; None is `teacher`.
            seed: of every random draw.
            config: batches, name, licence.

        Raises:
            InputError: a recipe that cannot stream, a teacher without names of classes, something
                else at `folder`, or a stream that was begun with other arguments.
        """
        plan = Plan(teacher, label_teacher or teacher, recipe, images_per_class, seed, config)
        new = cls(Path(folder), plan, State(np.zeros(len(plan.class_names), np.int64)))
        with locks.locked(new.folder):
            files.recover(files.real(new.folder))
            if not new.file.exists():
                check_destination(new.folder)
                return new
            _check_same(new, reserve.read_about(new.file)["how"])
            opened = replace(new, state=reserve.load(new.file))
            if not opened._is_written():
                opened._write()
            return opened

    @property
    def file(self) -> Path:
        """Where the state lies."""
        place = files.real(self.folder)
        return place.with_name(f"{place.name}.stream.npz")

    @property
    def images(self) -> int:
        """How many have come."""
        return self.state.images

    @property
    def distilled(self) -> DistilledDataset | None:
        """The set, read from disk; None as long as there are not two classes in it."""
        there = len(full(self.plan, self.state)) > 1
        return DistilledDataset.load(self.folder) if there else None

    def taken(self, origin: str) -> int:
        """How many images of a supply have come, by the name that `update` was given."""
        return self.state.taken.get(origin, 0)

    def update(
        self,
        images: UInt8[np.ndarray, "n height width channels"],
        labels: Int[np.ndarray, " n"],
        names: Sequence[str] | None = None,
        *,
        origin: str | None = None,
    ) -> Stream:
        """Takes images in, and brings the set up to date.

        First the state is written, then the set, each whole or not at all. A process that dies
        leaves the set of before or of after; `open` then tells how many images have come.

        Args:
            images: of one size, the same in every call. None of them is needed again.
            labels: classes, indices into the teacher's `class_names`.
            names: of the images, for the records; by default their numbers.
            origin: names the supply that the images are from, for `taken`.

        Returns:
            The stream as it is now. This one is of the past and takes no more images.

        Raises:
            InputError: images, labels or names that do not fit, or a stream that has gone on since;
                nothing is changed then.
        """
        _check_batch(self, images, labels, names)
        if not len(images):
            return self
        if names is None:
            names = [f"image {self.images + number}" for number in range(len(images))]
        with locks.locked(self.folder):
            _check_last(self)
            state = arrived(
                self.plan, self.state, images, labels.astype(np.int32), np.array(names, np.str_)
            )
            if origin is not None:
                taken = {**state.taken, origin: self.taken(origin) + len(images)}
                state = replace(state, taken=taken)
            reserve.save(self.file, state, self.plan.about())
            after = replace(self, state=state)
            after._write()
        return after

    def __repr__(self) -> str:
        came, there = np.count_nonzero(self.state.counts), len(full(self.plan, self.state))
        return (
            f"Stream({str(self.folder)!r}: {self.images} images of {came} classes have come, "
            f"{there} classes are in the set)"
        )

    def _is_written(self) -> bool:
        """Whether the set on disk is that of the state."""
        if not (self.folder / layout.MANIFEST).is_file():
            return False
        source = read_manifest(self.folder).get("source", {})
        return bool(source.get("fingerprint") == self.state.digest)

    def _write(self) -> None:
        """Replaces the set on disk by that of the state."""
        made = contents(self.plan, self.state)
        if made is not None:
            write_distilled(self.folder, **made, overwrite=True)


def _check_same(stream: Stream, then: Mapping[str, Any]) -> None:
    """Checks that a stream is opened with what it was begun with.

    Raises:
        InputError: it is not.
    """
    now = stream.plan.about()
    for name in ("teacher", "label_teacher"):
        if isinstance(then.get(name), str):  # as older streams have it
            now[name] = now[name]["digest"]
    for name in [name for name in now if now[name] != then.get(name)][:1]:
        raise InputError(
            f"the stream at {stream.folder} was begun with another {name}: open it with the same, "
            "or begin anew in another folder"
        )


def _check_last(stream: Stream) -> None:
    """Checks that no images have been taken in since.

    Raises:
        InputError: some have.
    """
    mine, there = stream.state.stamp(), State(stream.state.counts * 0).stamp()
    if stream.file.exists():
        about = reserve.read_about(stream.file)
        there = {name: about.get(name) for name in mine}
    if there != mine:
        raise InputError(
            f"the stream at {stream.folder} has {there['images']} images, but this object is of "
            f"when it had {mine['images']}: go on with what `update` returned, or open it again"
        )


def _check_batch(
    stream: Stream, images: np.ndarray, labels: np.ndarray, names: Sequence[str] | None
) -> None:
    """Checks what `update` is given.

    Raises:
        InputError: it does not fit.
    """
    shape, classes = stream.state.image_shape, len(stream.plan.class_names)
    if images.dtype != np.uint8 or images.ndim != 4:
        raise InputError(
            f"images are {images.dtype} {list(images.shape)}; they should be uint8 "
            "[n, height, width, channels]"
        )
    if shape is not None and images.shape[1:] != shape:
        raise InputError(
            f"images are {list(images.shape[1:])}, but those of the stream at {stream.folder} are "
            f"{list(shape)}: bring them to that size"
        )
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise InputError(
            f"labels are {labels.dtype} {list(labels.shape)}; they should be {len(images)} integers"
        )
    for row in np.flatnonzero((labels < 0) | (labels >= classes))[:1]:
        raise InputError(f"label {row} is {labels[row]}; it should be 0 to {classes - 1}")
    if names is not None and len(names) != len(images):
        raise InputError(f"{len(names)} names for {len(images)} images; it should be one each")
    if stream.images + len(images) > ranges.MOST_SEED:
        raise InputError(f"{stream.folder} is full: a stream numbers its images by 32 bits")
