"""Images used as an array is, and decoded whenever they are asked for. NumPy on the host."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Int, Int64, UInt8

from infoutil_jax.data.loading import threaded


class Streamed:
    """As many images as a disk holds, in the place of an array of them.

    `images[start:stop:step]` is another such sequence; `images[rows]`, for an array of numbers or
    of booleans, is an array, decoded by several threads. NumPy's functions get all images at once.

    Attributes:
        shape: (number, height, width, channels).
        dtype: uint8.
        ndim: 4.
        fingerprint: of them with `labels` (see `fingerprint`); None if it is not known yet.
        labels: those that the fingerprint is of.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        decode: Callable[[int], UInt8[np.ndarray, "h w c"]],
        rows: Int64[np.ndarray, " n"],
        image_shape: tuple[int, int, int],
        threads: int,
        fingerprint: str | None = None,
        labels: Int[np.ndarray, " n"] | None = None,
    ) -> None:
        self.shape = (len(rows), *image_shape)
        self.fingerprint, self.labels = fingerprint, labels
        self._decode, self._rows, self._threads = decode, rows, threads

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def nbytes(self) -> int:
        """Bytes of all images, decoded."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __getitem__(self, index: Any) -> Any:
        rows = self._rows[index]
        if isinstance(index, slice):
            return Streamed(self._decode, rows, self.shape[1:], self._threads)
        if np.ndim(rows) == 0:
            return self._decode(int(rows))
        found = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for place, image in enumerate(threaded(self._decode, rows, self._threads)):
            found[place] = image
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        images: np.ndarray = self[np.arange(len(self))]
        return images if dtype is None else images.astype(dtype)


Pixels = np.ndarray | Streamed
"""What stands for images `[n, height, width, channels]`, uint8, in memory or not."""


class Fingerprint:
    """SHA-256 of a labelled set, shape included, of images that come one after the other."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._digest = hashlib.sha256(f"{shape}\n".encode())

    def update(self, images: UInt8[np.ndarray, "..."]) -> None:
        """Adds one image, or several."""
        self._digest.update(np.ascontiguousarray(images).data)

    def of(self, labels: Int[np.ndarray, " n"]) -> str:
        """The fingerprint in hexadecimal, when all images have come."""
        self._digest.update(np.ascontiguousarray(labels, dtype=np.int64).data)
        return self._digest.hexdigest()


def fingerprint(images: UInt8[Pixels, "n ..."], labels: Int[np.ndarray, " n"]) -> str:
    """SHA-256 of a labelled set, shape included, in hexadecimal."""
    if isinstance(images, Streamed) and images.fingerprint is not None:
        same = images.labels is not None and np.array_equal(images.labels, labels)
        if same:
            return images.fingerprint
    digest = Fingerprint(images.shape)
    for start in range(0, len(images), 1024):
        digest.update(np.asarray(images[start : start + 1024]))
    return digest.of(labels)
