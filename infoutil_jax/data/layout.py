"""The files of a distilled set, each one read and checked by itself. NumPy on the host.

What is wrong with a file is told by an InputError that begins with its path.
"""

import hashlib
import json
import os
import re
import stat
import unicodedata
from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Float32, UInt8
from PIL import Image

from infoutil_jax.errors import InputError

MANIFEST, METADATA, SOFT_LABELS = "manifest.json", "metadata.jsonl", "soft_labels.safetensors"
CARD = "README.md"
FORMAT, EARLIER = "infoutil-distilled-2", ("infoutil-distilled-1",)
ROW = (
    "file_name",
    "label",
    "class_name",
    "soft_labels",
)  # what each line of the metadata begins with


def wrong(file: Path, how: str) -> NoReturn:
    """Tells what is wrong with a file."""
    raise InputError(f"{file} {how}")


def class_folders(class_names: Sequence[str]) -> list[str]:
    """A folder name for each class, safe and distinct on every file system.

    Sorted by name, as folder readers number classes, they are in the order of the labels. Where
    the names themselves are all that, they stay; else each begins with its label, in as many
    digits as the last one's.
    """
    plain = [_plain_name(name) for name in class_names]
    folded = [name.casefold() for name in plain]
    if plain == list(class_names) and _increasing(plain) and _increasing(folded):
        return plain
    digits = len(str(len(plain) - 1))
    return [f"{label:0{digits}}_{name}" for label, name in enumerate(plain)]


def _plain_name(name: str) -> str:
    """The name's letters and digits of any script, anything else as "_"; composed, 80 bytes."""
    composed = unicodedata.normalize("NFC", name)
    letters = (c if unicodedata.category(c)[0] in "LMN" or c in "_-" else " " for c in composed)
    joined = "_".join("".join(letters).split())
    cut = joined.encode("utf-8", "ignore")[:80].decode("utf-8", "ignore")
    # Windows reserves these, whatever follows.
    reserved = re.fullmatch(r"(?i)con|prn|aux|nul|(com|lpt)\d", cut)
    return f"{cut}_" if reserved else cut or "_"


def _increasing(names: Sequence[str]) -> bool:
    return all(one < other for one, other in pairwise(names))


def digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of the manifest without its own digest, so that a change of the manifest shows."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def suffix(channels: int, alpha: bool) -> str:
    """How the files of images end.

    PNG holds grey and colour, with alpha or without; other bands are NumPy's arrays.
    """
    return ".png" if channels in (1, 3) or (alpha and channels in (2, 4)) else ".npy"


def encode(images: UInt8[np.ndarray, "n h w c"], ending: str, index: int) -> bytes:
    """Image `index` [h, w, c] as a file's bytes: the same for the same pixels."""
    pixels = images[index]
    buffer = BytesIO()
    if ending == ".npy":
        np.save(buffer, np.ascontiguousarray(pixels), allow_pickle=False)
    else:
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def check_name(path: Path, name: str) -> None:
    """Checks that `name` is a relative path that stays inside the set at `path`."""
    parts = name.split("/")
    bad = any(part in ("", ".", "..") for part in parts) or re.match(r"[A-Za-z]:", name)
    if bad or "\\" in name or not name.isprintable():
        raise InputError(f"{path} names the file {name!r}; it should be a path inside the set")


def read_bytes(path: Path, name: str) -> bytes:
    """Reads the regular file `name` of the set at `path`; links are never followed.

    Raises:
        InputError: the name leaves the set, goes through a link, or is not of a readable file.
    """
    check_name(path, name)
    file = path
    try:
        for part in name.split("/"):
            file = file / part
            mode = file.lstat().st_mode
            if stat.S_ISLNK(mode):
                wrong(path / name, f"goes through the link {file}; a set should hold no links")
        if not stat.S_ISREG(mode):  # opening a FIFO would block
            wrong(file, "is not a regular file; it should be one")
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{path / name} cannot be read: {error.strerror}") from error


def read_manifest(path: Path) -> dict[str, Any]:
    """Reads the manifest, and checks that it is of a distilled set and unchanged."""
    file = path / MANIFEST
    try:
        manifest = json.loads(read_bytes(path, MANIFEST))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file} is not JSON: {error}") from error
    if isinstance(manifest, dict) and manifest.get("format") in EARLIER:
        wrong(file, f"has format {manifest['format']}, of an earlier version; distil the set again")
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        wrong(file, f'is not of a distilled set; it should say "format": "{FORMAT}"')
    if manifest.get("sha256") != digest(manifest):
        wrong(file, "has changed since it was written: its sha256 does not match its content")
    _check_types(file, manifest)
    return manifest


def _check_types(file: Path, manifest: Mapping[str, Any]) -> None:
    for key in ("class_names", "class_folders"):
        value = manifest.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            wrong(file, f"has {key} {value!r}; it should be a list of strings")
    names, folders = manifest["class_names"], manifest["class_folders"]
    if len(names) != len(folders):
        wrong(file, f"has {len(folders)} class_folders for {len(names)} class_names")
    shape, tiles, files = (manifest.get(key) for key in ("image_shape", "tiles", "files"))
    if not isinstance(shape, list) or len(shape) != 3 or not all(map(_is_positive, shape)):
        wrong(file, f"has image_shape {shape!r}; it should be three positive integers")
    if not _is_positive(tiles):
        wrong(file, f"has tiles {tiles!r}; it should be a positive integer")
    if not isinstance(files, dict):
        wrong(file, f"has files {files!r}; it should map each file to its sha256")
    for name, sha256 in files.items():
        check_name(file.parent, name)
        if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
            wrong(file, f"has sha256 {sha256!r} for {name}; it should be 64 hexadecimal digits")


def _is_positive(value: object) -> bool:
    return type(value) is int and value > 0


def foreign_files(path: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Files under `path` that the manifest does not list, and all links."""
    known, foreign = {*manifest["files"], MANIFEST}, []
    for folder, folders, files in os.walk(path, followlinks=False):
        for item in (Path(folder, name) for name in folders + files):
            name = item.relative_to(path).as_posix()
            if item.is_symlink() or (name not in known and not item.is_dir()):
                foreign.append(name)
    return sorted(foreign)


def read_rows(path: Path, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Reads the lines of metadata.jsonl, and checks that label, class and folder agree."""
    file = path / METADATA
    lines = read_bytes(path, METADATA).splitlines()
    try:
        rows = [json.loads(line) for line in lines]
        said = [tuple(row[key] for key in ROW[:3]) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is not JSON lines with {', '.join(ROW)}: {error!r}") from error
    classes = zip(manifest["class_names"], manifest["class_folders"], strict=True)
    right = [(label, name, f"images/{folder}") for label, (name, folder) in enumerate(classes)]
    for number, (name, label, class_name) in enumerate(said, 1):
        if not isinstance(name, str):
            wrong(file, f"line {number} has file_name {name!r}; it should be a string")
        if type(label) is not int:
            wrong(file, f"line {number} has label {label!r}; it should be an integer")
        check_name(path, name)
        folder = Path(name).parent.as_posix()
        if (label, class_name, folder) not in right:
            wrong(file, f"line {number} says label {label!r} is {class_name!r} in {folder}/")
    names = [row["file_name"] for row in rows]
    if names != sorted(name for name in manifest["files"] if name.startswith("images/")):
        wrong(file, f"lists {len(rows)} images; they should be those of {MANIFEST}, sorted by name")
    return rows


def read_image(
    path: Path, names: list[str], shape: tuple[int, int, int], index: int
) -> UInt8[np.ndarray, "h w c"]:
    """Image `index` as uint8 pixels of `shape` [h, w, c]."""
    file = path / names[index]
    data = read_bytes(path, names[index])
    try:
        if file.suffix == ".npy":
            pixels: np.ndarray = np.load(BytesIO(data), allow_pickle=False)
        else:
            pixels = np.array(Image.open(BytesIO(data)))
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{file} cannot be read as an image: {error}") from error
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.dtype != np.uint8 or pixels.shape != shape:
        wrong(file, f"is {pixels.dtype} {pixels.shape}; it should be uint8 {shape}")
    return pixels


def read_soft_labels(
    path: Path, shape: tuple[int, int, int]
) -> Float32[np.ndarray, "n tiles classes"]:
    """The teacher's logits, float32 [images, tiles, classes] and finite."""
    file = path / SOFT_LABELS
    data = read_bytes(path, SOFT_LABELS)
    try:
        soft_labels = safetensors.numpy.load(data)["soft_labels"]
    except (safetensors.SafetensorError, KeyError) as error:
        raise InputError(f"{file} holds no readable tensor soft_labels: {error}") from error
    if soft_labels.dtype != np.float32 or soft_labels.shape != shape:
        wrong(file, f"is {soft_labels.dtype} {soft_labels.shape}; it should be float32 {shape}")
    if not np.isfinite(soft_labels).all():
        wrong(file, "holds logits that are not finite")
    return soft_labels


def check_soft_labels(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    soft_labels: Float32[np.ndarray, "n tiles classes"],
) -> None:
    """Checks that the lines of the metadata say the same soft labels as their own file."""
    for number, (row, right) in enumerate(zip(rows, soft_labels, strict=True), 1):
        try:
            same = np.array_equal(np.array(row["soft_labels"], np.float32), right)
        except (KeyError, TypeError, ValueError):
            same = False
        if not same:
            wrong(path / METADATA, f"line {number} has other soft labels than {SOFT_LABELS}")
