"""Images of one size, one by one or in batches: in memory, or decoded whenever they are asked."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Int, Int32, UInt8

from infoutil_jax.data.loading import threaded
from infoutil_jax.errors import InputError


@dataclass(frozen=True, eq=False)
class Split:
    """Random access to labelled images of one size; the number of an example never changes.

    Attributes:
        labels: class of each example, an index into the source's `class_names`.
        ids: name of each example: a path within the folder, or split and number.
        shape: (height, width, channels) of every image.
    """

    labels: Int32[np.ndarray, " n"]
    ids: tuple[str, ...] = field(repr=False)
    shape: tuple[int, int, int]
    _decode: Callable[[int], UInt8[np.ndarray, "h w c"]] = field(repr=False)
    _pixels: UInt8[np.ndarray, "n h w c"] | None = field(repr=False)
    _threads: int = field(repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """The pixels of example `index`."""
        return self._decode(index) if self._pixels is None else self._pixels[index]

    def take(self, indices: Int[np.ndarray, " k"] | Sequence[int]) -> "Split":
        """The split of these examples, in this order."""
        chosen = np.asarray(indices, np.int64)
        return replace(
            self,
            labels=self.labels[chosen],
            ids=tuple(self.ids[i] for i in chosen),
            _decode=lambda i: self.image(int(chosen[i])),
            _pixels=None if self._pixels is None else self._pixels[chosen],
        )

    def arrays(self) -> tuple[UInt8[np.ndarray, "n h w c"], Int32[np.ndarray, " n"]]:
        """All images and labels; read-only where the source keeps them in memory."""
        if self._pixels is not None:
            return self._pixels, self.labels
        images = np.empty((len(self), *self.shape), np.uint8)
        for indices, batch in self._batches(np.arange(len(self)), 64):
            images[indices] = batch
        return images, self.labels

    def batches(
        self, indices: Int[np.ndarray, " k"] | Sequence[int], batch_size: int
    ) -> Iterator[tuple[Int[np.ndarray, " b"], UInt8[np.ndarray, "b h w c"]]]:
        """Yields (indices, images) in the order given; the last batch may be shorter.

        Memory holds a few batches, however many images there are: threads decode ahead.

        Raises:
            InputError: a batch size below 1, or an index outside the split.
        """
        indices = np.asarray(indices, np.int64)
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; it should be 1 or more")
        wrong = indices[(indices < 0) | (indices >= len(self))]
        if wrong.size:
            raise InputError(f"index {wrong[0]} is outside the split's 0 to {len(self) - 1}")
        return self._batches(indices, batch_size)

    def _batches(self, indices: np.ndarray, batch_size: int) -> Iterator[tuple[Any, Any]]:
        stream = threaded(self.image, indices, self._threads)
        for start in range(0, len(indices), batch_size):
            batch = indices[start : start + batch_size]
            if self._pixels is not None:
                yield batch, self._pixels[batch]
            else:
                yield batch, np.stack([next(stream) for _ in batch])
