"""What a place holds before any image is decoded: labelled examples, in splits. NumPy, host."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32

from infoutil_jax.data.rasters import Encoded


class Stamp(NamedTuple):
    """By what a file is known to be as it was.

    Attributes:
        size: bytes.
        changed: when its bytes were last changed, in ns, as whoever wrote or copied it says.
        noted: when anything about it was, in ns, as the file system says (`st_ctime_ns`): archives
            and copies that keep times cannot set it.
    """

    size: int
    changed: int
    noted: int


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled images still encoded: `read(i)` fetches the i-th, from any thread.

    Files have stamps.
    """

    ids: tuple[str, ...]
    labels: Int32[np.ndarray, " n"]
    read: Callable[[int], Encoded]
    stamps: tuple[Stamp, ...] | None = None

    def take(self, indices: Int[np.ndarray, " k"]) -> "Examples":
        """These examples, in this order."""
        return Examples(
            tuple(self.ids[i] for i in indices),
            self.labels[indices],
            lambda i: self.read(int(indices[i])),
            None if self.stamps is None else tuple(self.stamps[i] for i in indices),
        )


@dataclass(frozen=True, eq=False)
class Listing:
    """The examples of one place.

    Attributes:
        name: a short name for people.
        class_names: name of each label, in Unicode form NFC.
        train: examples to train on.
        test: examples to test on; None where no split has labels for it.
        splits: names of the two splits; "" for a place that is not divided.
        notes: what was chosen or passed over, a sentence each.
    """

    name: str
    class_names: tuple[str, ...]
    train: Examples
    test: Examples | None
    splits: tuple[str, str] = ("", "")
    notes: tuple[str, ...] = ()
