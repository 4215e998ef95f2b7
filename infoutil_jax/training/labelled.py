"""Images with their classes (NumPy on the host)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from infoutil_jax.data.streamed import Pixels
from infoutil_jax.errors import InputError


class Labelled(NamedTuple):
    """A labelled set. Where one is asked for, a plain tuple `(images, labels)` will do.

    Attributes:
        images: pixels, in memory or from disk.
        labels: class of each image, from zero.
    """

    images: UInt8[Pixels, "*sets n height width channels"]
    labels: Int[np.ndarray, " n"]

    def check(self, num_classes: int, what: str) -> None:
        """Checks that images and labels fit together.

        Args:
            num_classes: labels run from zero to below this.
            what: the set's name in messages, as "training" or "test".

        Raises:
            InputError: no images, another number of labels, or a label out of range.
        """
        count = self.images.shape[-4]
        if count == 0:
            raise InputError(f"there are no {what} images: at least one is needed")
        if count != len(self.labels):
            raise InputError(
                f"{count} {what} images but {len(self.labels)} labels: each image needs one label"
            )
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= num_classes))
        if len(wrong):
            raise InputError(
                f"{what} label {self.labels[wrong[0]]} at index {wrong[0]} is out of range: "
                f"{num_classes} classes have the labels 0 to {num_classes - 1}"
            )
