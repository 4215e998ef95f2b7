"""What a folder's images were found to be, kept in a file, so that each is read once. Host.

An image that has the size and the time of change that the file says is taken to be as it was.
"""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from infoutil_jax import files, provenance
from infoutil_jax.data.examples import Examples, Stamp
from infoutil_jax.data.pixels import Header
from infoutil_jax.data.split import Split

_COLUMNS = ("stamps", "shapes", "flags", "values", "digests")


class Known(NamedTuple):
    """What is known of an image.

    Attributes:
        stamp: of the file that was read.
        header: what it is.
        sound: whether all of it has been decoded.
    """

    stamp: Stamp
    header: Header
    sound: bool


@dataclass
class Index:
    """What is known of the images of one place, by their ids.

    Attributes:
        path: the file; None for an index that is not kept.
        images: what is known.
        fingerprints: of all pixels of a source, by the source's own.
    """

    path: Path | None
    images: dict[str, Known] = field(default_factory=dict)
    fingerprints: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | None) -> Index:
        """What the file says; nothing where it is not there, or was not written by this code."""
        if path is None:
            return cls(None)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                about = json.loads(arrays["about"].tobytes())
                if about["code"] != provenance.CODE:
                    return cls(path)
                images = dict(_rows(about["ids"], {name: arrays[name] for name in _COLUMNS}))
            return cls(path, images, about["fingerprints"])
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            return cls(path)

    def of(self, part: Examples) -> dict[int, Known]:
        """What is known of examples that are as they were, by their places in `part`."""
        if part.stamps is None:
            return {}
        found = {i: self.images.get(name) for i, name in enumerate(part.ids)}
        return {
            i: known
            for i, known in found.items()
            if known is not None and known.stamp == part.stamps[i]
        }

    def add(self, part: Examples, headers: Mapping[int, Header]) -> None:
        """Adds what was read of examples, by their places in `part`."""
        for i, header in headers.items():
            if part.stamps is not None:
                self.images[part.ids[i]] = Known(part.stamps[i], header, sound=False)

    def decoded(self, ids: tuple[str, ...]) -> None:
        """Notes that all of these images have been decoded."""
        for name in ids:
            if name in self.images:
                self.images[name] = self.images[name]._replace(sound=True)

    def fingerprinted(self, of: str, train: Split, test: Split) -> tuple[Split, Split]:
        """Two splits with the fingerprints of their pixels, where they are known or have come.

        Args:
            of: the source's fingerprint, which tells every image and what it is made into.
            train: a split.
            test: another.
        """
        new = [train.fingerprint, test.fingerprint]
        if None not in new:
            self.fingerprints[of] = [str(one) for one in new]
        if of not in self.fingerprints:
            return train, test
        first, second = self.fingerprints[of]
        return replace(train, fingerprint=first), replace(test, fingerprint=second)

    def save(self) -> None:
        """Writes the file, whole or not at all; a place that cannot be written is left alone."""
        if self.path is None or not self.images:
            return
        about = {
            "code": provenance.CODE,
            "ids": list(self.images),
            "fingerprints": self.fingerprints,
        }
        part = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        with contextlib.suppress(OSError):  # it only saves time
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with files.writing(self.path, part), part.open("wb") as file:
                text = np.frombuffer(json.dumps(about).encode(), np.uint8)
                columns: dict[str, Any] = {"about": text, **_columns(list(self.images.values()))}
                np.savez(file, **columns)


def _columns(images: list[Known]) -> dict[str, np.ndarray]:
    """An array of each thing that is known, a row an image."""
    headers, nothing = [known.header for known in images], (np.nan, np.nan)
    flags = [(known.header.alpha, known.header.frames, known.sound) for known in images]
    return {
        "stamps": np.array([known.stamp for known in images], np.int64),
        "shapes": np.array([(*one.size, one.bands) for one in headers], np.int64),
        "flags": np.array(flags),
        "values": np.array([nothing if one.values is None else one.values for one in headers]),
        "digests": np.array([np.frombuffer(one.digest, np.uint8) for one in headers]),
    }


def _rows(ids: list[str], columns: dict[str, np.ndarray]) -> list[tuple[str, Known]]:
    """The reverse of `_columns`."""
    rows = []
    table = zip(ids, *(columns[name].tolist() for name in _COLUMNS), strict=True)
    for name, stamp, (height, width, bands), (alpha, frames, sound), values, digest in table:
        extent = None if np.isnan(values[0]) else (values[0], values[1])
        header = Header((height, width), bands, alpha, extent, frames, bytes(digest))
        rows.append((name, Known(Stamp(*stamp), header, sound)))
    return rows
