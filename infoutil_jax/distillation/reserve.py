"""What a stream keeps of the images that have come: the crops that can still be chosen (host).

One file, which is whole or not there; its size is bounded by what the recipe's selector keeps.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from jaxtyping import Float32, Int, Int64, Shaped, UInt8

from infoutil_jax import files
from infoutil_jax.distillation.examine import Examined
from infoutil_jax.distillation.parts import columns_of, rows_of
from infoutil_jax.errors import InputError

FORMAT = "infoutil-stream-1"


class Reserve(NamedTuple):
    """Crops that can still be chosen, all that is left of their images.

    Attributes:
        rows: a row a crop, by number of the image, then of the crop.
        crops: their pixels.
        logits: what the teacher that labels says of each.
        names: of the image of each.
    """

    rows: Examined
    crops: UInt8[np.ndarray, "rows height width channels"]
    logits: Float32[np.ndarray, "rows classes"]
    names: Shaped[np.ndarray, " rows"]

    def take(self, rows: Int[np.ndarray, " kept"]) -> Reserve:
        """The rows of these numbers, in their order."""
        return Reserve(self.rows.take(rows), self.crops[rows], self.logits[rows], self.names[rows])

    @classmethod
    def joined(cls, one: Reserve, other: Reserve) -> Reserve:
        """All rows of both, in their order."""
        pixels, logits, names = (
            np.concatenate([getattr(one, name), getattr(other, name)])
            for name in ("crops", "logits", "names")
        )
        return cls(Examined.joined(one.rows, other.rows), pixels, logits, names)


@dataclass(frozen=True, eq=False)
class State:
    """Where a stream stands.

    Attributes:
        counts: images that have come, of each class of the teacher's.
        digest: SHA-256 of labels and pixels, image after image, in hexadecimal.
        image_shape: (height, width, channels) of every image; None before the first.
        taken: of each supply that was named, how many of its images have come.
        reserve: None before the first image.
    """

    counts: Int64[np.ndarray, " classes"]
    digest: str = hashlib.sha256().hexdigest()
    image_shape: tuple[int, int, int] | None = None
    taken: Mapping[str, int] = field(default_factory=dict)
    reserve: Reserve | None = None

    @property
    def images(self) -> int:
        """How many have come; the next one has this number."""
        return int(self.counts.sum())

    def stamp(self) -> dict[str, Any]:
        """Tells this state from others of the same stream."""
        return {"images": self.images, "digest": self.digest}


def followed(digest: str, images: UInt8[np.ndarray, "n h w c"], labels: np.ndarray) -> str:
    """The digest of a stream after some more images."""
    for image, label in zip(images, labels.tolist(), strict=True):
        whole = hashlib.sha256(f"{digest} {label}\n".encode())
        whole.update(np.ascontiguousarray(image).data)
        digest = whole.hexdigest()
    return digest


def save(path: Path, state: State, how: Mapping[str, Any]) -> None:
    """Writes a state, whole or not at all.

    Args:
        path: the file.
        state: the state.
        how: what the stream was opened with; JSON can hold it.
    """
    about = {"format": FORMAT, "how": how, "image_shape": state.image_shape, **state.stamp()}
    about |= {"counts": state.counts.tolist(), "taken": dict(state.taken)}
    columns: dict[str, np.ndarray] = {"about": np.array(json.dumps(about))}
    if (reserve := state.reserve) is not None:
        columns |= columns_of(reserve.rows)
        columns |= {"pixels": reserve.crops, "logits": reserve.logits, "names": reserve.names}
    part = path.with_name(path.name + ".part")
    with files.writing(path, part), part.open("wb") as file:
        np.savez(file, **cast(dict[str, Any], columns))


def read_about(path: Path) -> dict[str, Any]:
    """What a state's file says of itself: its `stamp`, and `how` its stream was opened.

    Raises:
        InputError: the file is damaged, or is no stream's.
    """
    return _read(path, whole=False)[0]


def load(path: Path) -> State:
    """Reads a state.

    Raises:
        InputError: as `read_about`.
    """
    about, columns = _read(path, whole=True)
    shape, reserve = about["image_shape"], None
    try:
        if "pixels" in columns:
            pixels, logits, names = (columns[name] for name in ("pixels", "logits", "names"))
            reserve = Reserve(rows_of(columns), pixels, logits, names)
        return State(
            counts=np.array(about["counts"], np.int64),
            digest=about["digest"],
            image_shape=None if shape is None else (shape[0], shape[1], shape[2]),
            taken=about["taken"],
            reserve=reserve,
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise _damaged(path) from error


def _read(path: Path, *, whole: bool) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            about = json.loads(str(file["about"]))
            columns = dict(file) if whole else {}
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise _damaged(path) from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise _damaged(path)
    return about, columns


def _damaged(path: Path) -> InputError:
    return InputError(
        f"{path} is not the state of a stream as it was written: restore it, or begin anew in "
        "another folder"
    )
