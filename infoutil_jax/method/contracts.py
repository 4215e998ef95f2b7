"""What the parts of a recipe promise each other.

A recipe has two halves. The device half, `PerImage`, runs for every image of the pool: it
attributes, cuts, scores and embeds, in one compiled program. The host half, a `Selector`, then
chooses among the rows of a table of crops. A part is any function of the shape below, or an object
with such a `__call__`; a frozen dataclass is best, for equal ones share one compiled program and
can be written down in a manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, cast, runtime_checkable

import jax
import numpy as np
from jaxtyping import (
    Array,
    Bool,
    Float,
    Float32,
    Int,
    Int32,
    Int64,
    Integer,
    Key,
    UInt8,
)

Predict = Callable[[Any, Any], Any]
"""A classifier: (variables, normalised images `[n, h, w, c]`) -> logits `[n, classes]`."""

Fit = Literal["resize", "pad"]
"""How a crop is brought to the teacher's input size: resized, or centred in the mean colour."""


@runtime_checkable
class Attribute(Protocol):
    """Says which parts of an image matter."""

    def __call__(
        self,
        predict: Predict,
        variables: Any,
        images: Float[Array, "batch height width channels"],
        labels: Integer[Array, " batch"],
        keys: Key[Array, " batch"],
        /,
    ) -> Float[Array, "batch grid_h grid_w"]:
        """A map of each normalised image. What is drawn for an image is drawn from its own key."""
        ...


@runtime_checkable
class Fitted(Protocol):
    """An `Attribute` that is fitted to a teacher on images of a pool, once, on the host.

    Attributes:
        pilot: how many images it wants; 0 for none, it stays as it is.
    """

    @property
    def pilot(self) -> int:
        """How many images `fitted` wants."""
        ...

    def fitted(
        self,
        predict: Predict,
        variables: Any,
        images: Float[Array, "batch height width channels"],
        labels: Integer[Array, " batch"],
        /,
    ) -> Attribute:
        """What attributes the pool."""
        ...


@runtime_checkable
class Prepared(Protocol):
    """An `Attribute` that holds arrays, or takes arrays that are made on the host."""

    def prepared(self) -> Attribute:
        """The same as a pytree (`jax.tree_util.register_dataclass`), made before it is compiled.

        Its arrays are arguments of the program, which serves others of their shapes, too.
        """
        ...


@runtime_checkable
class Crop(Protocol):
    """Cuts boxes out of an image by its map."""

    def __call__(
        self,
        keys: Key[Array, " batch"],
        maps: Float[Array, "batch grid_h grid_w"],
        image_size: tuple[int, int],
        /,
    ) -> Int32[Array, "batch crops 4"]:
        """(top, left, height, width) of each crop, in pixels of images of that height and width."""
        ...


@runtime_checkable
class Score(Protocol):
    """Says how useful a crop is, in any unit."""

    def __call__(
        self,
        predict: Predict,
        variables: Any,
        crops: Float[Array, "n height width channels"],
        labels: Integer[Array, " n"],
        /,
    ) -> Float[Array, " n"]:
        """One number for each normalised crop, at the teacher's input size."""
        ...


@runtime_checkable
class Embed(Protocol):
    """Says what else a selector may want to know of a crop."""

    def __call__(
        self,
        predict: Predict,
        variables: Any,
        crops: Float[Array, "n height width channels"],
        labels: Integer[Array, " n"],
        /,
    ) -> Mapping[str, Float[Array, "n ..."]]:
        """Named columns of `Candidates.features`."""
        ...


@dataclass(frozen=True)
class PerImage:
    """The device half of a recipe: hashable, and the key of the compiled program.

    Of parts that are pytrees the arrays are no part of the key, but arguments.
    """

    attribute: Attribute
    crop: Crop
    score: Score
    embed: Embed | None = None
    fit: Fit = "resize"


class Candidates(NamedTuple):
    """A table of crops, one row each: all that a selector knows of them.

    Boxes and maps travel beside it (`distillation.Examined`). `ids` and `crops` identify a row.

    Attributes:
        ids: index of the source example.
        crops: which crop of that example.
        labels: class index.
        scores: the utility, in any unit.
        features: columns by name, as the recipe's `embed` gives them.
    """

    ids: Int64[np.ndarray, " rows"]
    crops: Int32[np.ndarray, " rows"]
    labels: Int32[np.ndarray, " rows"]
    scores: Float32[np.ndarray, " rows"]
    features: Mapping[str, Float32[np.ndarray, "rows ..."]]


@runtime_checkable
class Reduce(Protocol):
    """Reduces a table of crops without changing what the selector's `finalize` returns.

    `finalize(reduce(reduce(A) + B)) == finalize(A + B)` for all tables A and B, in any order of
    their rows, with the same key; a class may have fewer than `per_class` rows.
    """

    def __call__(
        self, key: Key[Array, ""] | None, candidates: Candidates, per_class: int, /
    ) -> Candidates:
        """Some of the rows."""
        ...


@runtime_checkable
class Selector(Protocol):
    """The host half of a recipe: chooses rows of a table of crops. NumPy."""

    @property
    def reduce(self) -> Reduce | None:
        """With it, memory does not grow with the images. None: every row is kept to the end."""
        ...

    def finalize(
        self, key: Key[Array, ""] | None, candidates: Candidates, per_class: int, /
    ) -> Candidates:
        """`per_class` rows of every class, best first within each; scores may be replaced."""
        ...


class Pool(NamedTuple):
    """Real images, by which a refined set is judged.

    Attributes:
        images: pixels `[n, height, width, channels]`, uint8: an array, or what reads them from disk
            (`data.streamed`).
        labels: class of each.
        flip: whether a mirror image shows the same, as by default: not of digits and letters.
    """

    images: Any
    labels: Int32[np.ndarray, " n"]
    flip: bool = True


@runtime_checkable
class Refine(Protocol):
    """Improves the pixels of a set after its crops were chosen, tiled and labelled.

    A function, or a frozen dataclass with such a `__call__`. It may have `temperature`, at which
    students are to read its soft labels, and `resuming` (see `Resumable`).
    """

    def __call__(
        self,
        key: Key[Array, ""],
        teacher: Any,
        images: UInt8[np.ndarray, "n height width channels"],
        soft_labels: Float32[np.ndarray, "n tiles classes"],
        pool: Pool,
        /,
    ) -> tuple[
        UInt8[np.ndarray, "n height width channels"], Float32[np.ndarray, "n tiles classes"]
    ]:
        """Images and logits of the same shapes.

        Images are by class, as many of each; `teacher` is the one that labels
        (`training.teacher.Teacher`).
        """
        ...


@runtime_checkable
class Resumable(Protocol):
    """A `Refine` that can go on after a stop."""

    def resuming(self, folder: Path, shown: bool, /) -> Refine:
        """The same, with its state kept in `folder`, and a line of progress where `shown`."""
        ...


Choose = Callable[[Any, Candidates, int], Candidates]
"""A selection as a function: (key, candidates, per_class) -> candidates."""


@dataclass(frozen=True)
class Choosing:
    """A selector made of a function, which sees every row."""

    function: Choose
    reduce: None = None

    def finalize(
        self, key: Key[Array, ""] | None, candidates: Candidates, per_class: int, /
    ) -> Candidates:
        """What the function chooses."""
        return self.function(key, candidates, per_class)


def as_selector(select: Selector | Choose) -> Selector:
    """A selector as it is; a function as a selector that sees every row."""
    return cast(Selector, select) if hasattr(select, "finalize") else Choosing(select)


def concatenate(*tables: Candidates) -> Candidates:
    """All rows of all tables, in their order; at least one table."""
    joined: Candidates = jax.tree.map(lambda *columns: np.concatenate(columns), *tables)
    return joined


def take(
    candidates: Candidates, rows: Int[np.ndarray, " kept"] | Bool[np.ndarray, " rows"]
) -> Candidates:
    """The rows of these numbers (or where a mask is true), in their order."""
    taken: Candidates = jax.tree.map(lambda column: column[rows], candidates)
    return taken
