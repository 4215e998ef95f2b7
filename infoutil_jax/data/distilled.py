"""The distilled set on disk: written whole or not at all, read back, verified. NumPy on the host.

    images/<class>/<id>.png     lossless; .npy for bands that are neither grey, colour nor alpha
    metadata.jsonl              a line an image: its file, label, class, soft labels, audit record
    soft_labels.safetensors     "soft_labels": logits, float32 [images, tiles, classes]
    manifest.json               how it was made, and the sha256 of every other file
    README.md                   what all this is, and programs that train on it

Sorted by name, class folders are in the order of the labels and images in that of the rows: so
readers of folders (torchvision, TFDS, Keras, Hugging Face) find our labels, and row i of the soft
labels is file i. The same arguments give the same bytes: no file holds a time or a path of the
machine.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from jaxtyping import Float32, Int32, Shaped, UInt8

from infoutil_jax import files, locks
from infoutil_jax.data import layout
from infoutil_jax.data.augment import channel_statistics
from infoutil_jax.data.card import card
from infoutil_jax.data.loading import threaded, threads_for
from infoutil_jax.data.manifest import check_provenance, read_manifest, said
from infoutil_jax.errors import InputError

TRAINING = {
    "temperature": 20.0,
    "flip": True,
    "batch_size": 50,
    "epochs": 300,
    "learning_rate": 0.001,
}
"""How students are trained on a set whose manifest does not say: RDED's protocol."""
_OURS = ("format", "class_names", "class_folders", "image_shape", "tiles", "files", "sha256")


@dataclass(frozen=True, eq=False, repr=False)
class DistilledDataset:
    """A distilled set as it lies on disk.

    Attributes:
        path: its folder.
        images: pixels.
        labels: class of each image, an index into `class_names`.
        soft_labels: the teacher's logits for each tile of each image, less those of the manifest's
            `label_offsets`, if any.
        class_names: name of each label.
        records: the audit record of each image.
        manifest: how the set was made, and the sha256 of every other file.
    """

    path: Path
    images: UInt8[np.ndarray, "n h w c"]
    labels: Int32[np.ndarray, " n"]
    soft_labels: Float32[np.ndarray, "n tiles classes"]
    class_names: tuple[str, ...]
    records: tuple[dict[str, Any], ...]
    manifest: dict[str, Any]

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, digest: str | None = None) -> "DistilledDataset":
        """Reads a set; every file that is read is compared with its sha256 in the manifest.

        Args:
            path: its folder.
            digest: of the set, as `DistilledDataset.digest` and `infoutil verify` say it: another
                set is refused, however consistent it is. None takes any.

        Raises:
            InputError: a file is missing, has changed, cannot be read, or disagrees with another;
                or the set is another one than `digest` says.
        """
        path = Path(path)
        manifest = read_manifest(path)
        if digest is not None and digest != manifest["sha256"]:
            layout.wrong(path, f"is another set: its digest is {manifest['sha256']}, not {digest}")
        class_names = tuple(manifest["class_names"])
        soft_labels = layout.read_soft_labels(path, manifest)
        rows = layout.read_rows(path, manifest, soft_labels)
        names, shape = [row["file_name"] for row in rows], tuple(manifest["image_shape"])
        layout.check_sizes(path, names, shape)
        images = np.empty((len(rows), *shape), np.uint8)
        read = partial(layout.read_image, path, manifest, names)
        for i, image in enumerate(threaded(read, range(len(rows)), threads_for([shape[:2]]))):
            images[i] = image
        return cls(
            path=path,
            images=images,
            labels=np.array([row["label"] for row in rows], np.int32),
            soft_labels=soft_labels,
            class_names=class_names,
            records=tuple({k: v for k, v in row.items() if k not in layout.ROW} for row in rows),
            manifest=manifest,
        )

    @property
    def teacher_logits(self) -> Float32[np.ndarray, "n tiles classes"]:
        """What the teacher said of each tile: the soft labels and what was taken from them."""
        offsets = self.manifest.get("label_offsets")
        return self.soft_labels if offsets is None else self.soft_labels + np.float32(offsets)

    @property
    def digest(self) -> str:
        """Sha256 of the manifest, which holds that of every other file: it names the set."""
        return str(self.manifest["sha256"])

    def said(self, *keys: str) -> Any:
        """What the manifest says under nested keys.

        Raises:
            InputError: it does not say it.
        """
        return said(self.path, self.manifest, *keys)

    def verify(self) -> None:
        """Compares every file on disk with the manifest, and the files with one another.

        Raises:
            InputError: naming the file that is missing, unexpected or changed, and how.
        """
        if read_manifest(self.path) != self.manifest:
            layout.wrong(self.path / layout.MANIFEST, "has changed since the set was loaded")
        for name in layout.foreign_files(self.path, self.manifest):
            layout.wrong(self.path / name, "is not part of the set; it should not be there")
        layout.read_listed(self.path, self.manifest, layout.CARD)
        DistilledDataset.load(self.path, digest=self.digest)  # reads all the others

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        height, width, channels = self.images.shape[1:]
        tiles = self.soft_labels.shape[1]
        return (
            f"DistilledDataset({str(self.path)!r}: {len(self)} images of "
            f"{height}x{width}x{channels}, {len(self.class_names)} classes, "
            f"{tiles} tile{'s' if tiles > 1 else ''} an image)"
        )


def check_destination(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Checks that `write_distilled` may write to `path`; cheap, so it is asked before the work.

    Raises:
        InputError: something is there that is not a distilled set, or that is one and `overwrite`
            is not set, or that is one with other files in it; or `path` is the current folder, or
            below a file.
    """
    path, place = Path(path), files.real(path)
    if place == Path.cwd() or place in Path.cwd().parents:
        what = "the current folder" if place == Path.cwd() else "a folder above the current one"
        raise InputError(f"{path} is {what}, which cannot be replaced; name another")
    there = next(parent for parent in place.parents if parent.exists())
    if not there.is_dir():
        raise InputError(f"{path} cannot be a folder, for {there} is a file; choose another path")
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not path.is_dir() or not (path / layout.MANIFEST).is_file():
        raise InputError(f"{path} holds something else than a distilled set; choose another path")
    for name in layout.foreign_files(path, read_manifest(path)):
        layout.wrong(path / name, "is not part of the distilled set there; move it elsewhere first")
    if not overwrite:
        raise InputError(f"{path} holds a distilled set already; pass overwrite=True to replace it")


def write_distilled(
    path: str | os.PathLike[str],
    *,
    images: Shaped[np.ndarray, "images height width channels"],
    labels: Shaped[np.ndarray, " labels"],
    soft_labels: Shaped[np.ndarray, "rows tiles classes"],
    class_names: Sequence[str],
    records: Sequence[Mapping[str, Any]],
    manifest: Mapping[str, Any],
    overwrite: bool = False,
) -> DistilledDataset:
    """Writes a distilled set to `path`, completely or not at all, and returns it as read back.

    Args:
        path: the folder to be; it must not exist, or be empty, or with `overwrite` hold a
            distilled set, which is replaced.
        images: uint8. They are stored in the order of their labels.
        labels: integers, indices into `class_names`; every class has an image.
        soft_labels: float32 logits, finite, one row a tile.
        class_names: name of each label, all different.
        records: for each image a mapping that JSON can hold; NumPy values are converted.
        manifest: how the set was made; JSON too. Its `normalisation` (mean and std of each channel,
            0 to 1) and `training` (how students are trained, as `TRAINING`) are in the README.md;
            by default those of the images, and those of RDED's protocol. `alpha` says whether the
            last channel is one; by default that of two or four is.
        overwrite: replace a distilled set that is there.

    Raises:
        InputError: an argument is wrong, or something else is at `path`.
    """
    check_destination(path, overwrite=overwrite)
    _check_arrays(images, labels, soft_labels, class_names)
    if len(records) != len(images):
        raise InputError(f"{len(records)} records for {len(images)} images; it should be one each")
    order = np.argsort(labels, kind="stable")
    images, labels, soft_labels = images[order], labels[order], soft_labels[order]
    folders, channels = layout.class_folders(class_names), images.shape[3]
    suffix = layout.suffix(channels, bool(manifest.get("alpha", channels in (2, 4))))
    digits = max(6, len(str(len(images) - 1)))
    names = [f"images/{folders[label]}/{i:0{digits}}{suffix}" for i, label in enumerate(labels)]
    later = [None] * len(labels)  # soft labels: as text all of them take 32 times their room
    firsts = zip(names, labels.tolist(), [class_names[i] for i in labels], later, strict=True)
    rows = [
        _row(int(i), records[i], dict(zip(layout.ROW, first, strict=True)))
        for i, first in zip(order, firsts, strict=True)
    ]
    if taken := sorted(set(_OURS) & set(manifest)):
        raise InputError(f"manifest has a key {taken[0]!r}, which is kept for the format itself")
    measured: dict[str, Any] = {"training": TRAINING}
    if "normalisation" not in manifest:
        mean, std = channel_statistics(images)
        measured["normalisation"] = {"mean": list(mean), "std": list(std)}
    head = _plain({**measured, **manifest}, "manifest") | {
        "format": layout.FORMAT,
        "class_names": list(class_names),
        "class_folders": folders,
        "image_shape": list(images.shape[1:]),
        "tiles": soft_labels.shape[1],
    }
    check_provenance(Path(path) / layout.MANIFEST, head)

    place = files.real(path)  # where a link leads is replaced, and the link stays
    with locks.locked(place):
        files.recover(place)
        check_destination(path, overwrite=overwrite)
        partial_path = files.beside(place)
        try:
            _write_files(partial_path, images, suffix, (head, rows, soft_labels))
            found = DistilledDataset.load(partial_path)
            files.move(partial_path, place)
        except BaseException:
            shutil.rmtree(partial_path, ignore_errors=True)
            raise
    return replace(found, path=Path(path))


def _write_files(
    folder: Path,
    images: np.ndarray,
    suffix: str,
    told: tuple[dict[str, Any], list[dict[str, Any]], np.ndarray],
) -> None:
    """Writes the files of a set to a new folder, the manifest last."""
    head, rows, soft_labels = told
    hashes = {}
    encoded = threaded(
        partial(layout.encode, images, suffix),
        range(len(images)),
        threads_for([images.shape[1:3]]),
    )
    for row, data in zip(rows, encoded, strict=True):
        hashes[row["file_name"]] = _write(folder / row["file_name"], [data])
    tensors = {"soft_labels": np.ascontiguousarray(soft_labels)}
    data = safetensors.numpy.save(tensors)
    hashes[layout.SOFT_LABELS] = _write(folder / layout.SOFT_LABELS, [data])
    # The shortest decimals that are read back as the same float32.
    logits = (row.astype(str).astype(np.float64).tolist() for row in soft_labels)
    told_rows = (row | {"soft_labels": one} for row, one in zip(rows, logits, strict=True))
    lines = (json.dumps(row).encode() + b"\n" for row in told_rows)
    hashes[layout.METADATA] = _write(folder / layout.METADATA, lines)
    hashes[layout.CARD] = _write(folder / layout.CARD, [card(head, rows).encode()])
    head["files"] = hashes
    head["sha256"] = layout.digest(head)
    _write(folder / layout.MANIFEST, [layout.text_of(head)])


def _check_arrays(
    images: np.ndarray, labels: np.ndarray, soft_labels: np.ndarray, class_names: Sequence[str]
) -> None:
    if images.dtype != np.uint8 or not images.size:
        raise InputError(
            f"images are {images.dtype} {images.shape}; they should be uint8, not empty"
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise InputError(
            f"labels are {labels.dtype} {labels.shape}; they should be {len(images)} integers"
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= len(class_names)))
    if wrong.size:
        raise InputError(
            f"label {wrong[0]} is {labels[wrong[0]]}; it should be 0 to {len(class_names) - 1}"
        )
    if absent := set(range(len(class_names))) - set(labels.tolist()):
        name = class_names[min(absent)]
        raise InputError(
            f"class {name!r} has no image; each should have one, for readers number the folders"
        )
    expected = (len(images), soft_labels.shape[1], len(class_names))
    if soft_labels.dtype != np.float32 or soft_labels.shape != expected or not soft_labels.size:
        raise InputError(
            f"soft_labels are {soft_labels.dtype} {soft_labels.shape}; they should be float32 "
            f"[{len(images)} images, 1 or more tiles, {len(class_names)} classes]"
        )
    bad = np.argwhere(~np.isfinite(soft_labels))
    if len(bad):
        raise InputError(
            f"soft_labels[{', '.join(map(str, bad[0]))}] is {soft_labels[tuple(bad[0])]}; "
            "logits should be finite"
        )
    if len(set(class_names)) < len(class_names):
        raise InputError(f"class_names {list(class_names)} repeat; they should all be different")


def _row(index: int, record: Mapping[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    if taken := sorted(set(first) & set(record)):
        raise InputError(f"record {index} has a key {taken[0]!r}, which is kept for the image file")
    return first | _plain(record, f"record {index}")


def _plain(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The value as JSON reads it back, with its keys sorted."""
    try:
        text = json.dumps(value, default=_listed, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} should hold what JSON can, but: {error}") from error
    plain: dict[str, Any] = json.loads(text)
    return plain


def _listed(item: Any) -> Any:
    if isinstance(item, np.ndarray | np.generic):
        return item.tolist()
    raise TypeError(f"{type(item).__name__} {item!r}")


def _write(file: Path, pieces: Iterable[bytes]) -> str:
    """Writes a file piece by piece, and returns its sha256."""
    file.parent.mkdir(parents=True, exist_ok=True)
    sha256 = hashlib.sha256()
    with files.naming(file), file.open("wb") as opened:
        for piece in pieces:
            sha256.update(piece)
            opened.write(piece)
    return sha256.hexdigest()
