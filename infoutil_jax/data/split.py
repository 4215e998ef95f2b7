"""Images of one size, one by one or in batches: in memory, or decoded whenever they are asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Int, Int32, UInt8

from infoutil_jax.data.loading import threaded
from infoutil_jax.data.streamed import Pixels, Streamed
from infoutil_jax.errors import InputError


class Memory:
    """Images that are kept, from when the first batch is asked for.

    Attributes:
        images: read-only; None as long as they are not there.
    """

    def __init__(
        self,
        load: Callable[[], UInt8[np.ndarray, "n h w c"]],
        images: UInt8[np.ndarray, "n h w c"] | None = None,
    ) -> None:
        self._load, self.images = load, images
        if images is not None:
            images.flags.writeable = False

    def all(self) -> UInt8[np.ndarray, "n h w c"]:
        """All of them."""
        if self.images is None:
            self.images = self._load()
            self.images.flags.writeable = False
        return self.images


@dataclass(frozen=True, eq=False)
class Split:
    """Random access to labelled images of one size; the number of an example never changes.

    Attributes:
        labels: class of each example, an index into the source's `class_names`.
        ids: name of each example: a path within the folder, or split and number.
        shape: (height, width, channels) of every image.
        fingerprint: of pixels and labels, where it is known without decoding them again.
    """

    labels: Int32[np.ndarray, " n"]
    ids: tuple[str, ...] = field(repr=False)
    shape: tuple[int, int, int]
    _decode: Callable[[int], UInt8[np.ndarray, "h w c"]] = field(repr=False)
    _memory: Memory | None = field(repr=False)
    _threads: int = field(repr=False)
    fingerprint: str | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """The pixels of example `index`."""
        if self._memory is None or self._memory.images is None:
            return self._decode(index)
        image: UInt8[np.ndarray, "h w c"] = self._memory.images[index]
        return image

    def take(self, indices: Int[np.ndarray, " k"] | Sequence[int]) -> Split:
        """The split of these examples, in this order."""
        chosen, memory = np.asarray(indices, np.int64), self._memory
        return replace(
            self,
            labels=self.labels[chosen],
            ids=tuple(self.ids[i] for i in chosen),
            _decode=lambda i: self.image(int(chosen[i])),
            _memory=None if memory is None else Memory(lambda: memory.all()[chosen]),
            fingerprint=None,
        )

    def labelled(self) -> tuple[UInt8[Pixels, "n h w c"], Int32[np.ndarray, " n"]]:
        """All images and labels, to train or to test a model on.

        Images are a read-only array where the source keeps them in memory; otherwise a `Streamed`
        is used as that array is, and decodes what is asked of it.
        """
        if self._memory is not None:
            return self._memory.all(), self.labels
        rows = np.arange(len(self))
        about = self.fingerprint, self.labels
        found = Streamed(self._decode, rows, self.shape, self._threads, *about)
        return found, self.labels

    def arrays(self) -> tuple[UInt8[np.ndarray, "n h w c"], Int32[np.ndarray, " n"]]:
        """All images and labels in memory; read-only where the source keeps them there."""
        images, labels = self.labelled()
        return np.asarray(images), labels

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
        starts = range(0, len(indices), batch_size)
        batches = [indices[start : start + batch_size] for start in starts]
        if self._memory is not None:
            for batch in batches:
                yield batch, self._memory.all()[batch]
            return
        stream = threaded(self.image, indices, self._threads)
        for batch in batches:
            yield batch, np.stack([next(stream) for _ in batch])
