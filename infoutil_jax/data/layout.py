"""The files of a distilled set, each one read and checked by itself. NumPy on the host.

What is wrong with a file is told by an InputError that begins with its path.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import stat
import struct
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

from infoutil_jax import files
from infoutil_jax.errors import InputError

MOST_SIDE = 2**14
"""Pixels of an image's side, and bands of it, in a set."""
MOST_MANIFEST = 2**26
"""Bytes of a manifest: it then lists some 500,000 images."""
MOST_RECORD = 2**17
"""Bytes of a line of the metadata, beside its soft labels; and of a header."""
DEFLATED = 1100
"""Bytes that one of a PNG's can stand for, at most: a file of fewer is no image of its size."""
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

    Sorted by name, as folder readers number classes, they are in the order of the labels, and so
    are the paths of files in them. Where the names themselves are all that, they stay; else each
    begins with its label, in as many digits as the last one's.
    """
    plain = [_plain_name(name) for name in class_names]
    folded = [name.casefold() for name in plain]
    # In paths "t/" comes after "t-shirt/".
    paths = [[f"{name}/" for name in names] for names in (plain, folded)]
    if plain == list(class_names) and all(map(_increasing, (plain, folded, *paths))):
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


def text_of(manifest: Mapping[str, Any]) -> bytes:
    """The manifest as it is written: the same bytes for the same content."""
    return json.dumps(manifest, indent=2, sort_keys=True).encode()


def check_name(path: Path, name: str) -> None:
    """Checks that `name` is a relative path that stays inside the set at `path`."""
    parts = name.split("/")
    bad = any(part in ("", ".", "..") for part in parts) or re.match(r"[A-Za-z]:", name)
    if bad or "\\" in name or not name.isprintable():
        raise InputError(f"{path} names the file {name!r}; it should be a path inside the set")


def read_bytes(path: Path, name: str, most: int) -> bytes:
    """Reads the regular file `name` of the set at `path`; links are never followed.

    Raises:
        InputError: the name leaves the set, goes through a link, or is not of a readable file of
            at most `most` bytes.
    """
    check_name(path, name)
    file = path
    try:
        for part in name.split("/"):
            file = file / part
            if stat.S_ISLNK(file.lstat().st_mode):
                wrong(path / name, f"goes through the link {file}; a set should hold no links")
        return files.read(file, most)
    except OSError as error:
        raise InputError(f"{path / name} cannot be read: {error.strerror}") from error


def read_listed(path: Path, manifest: Mapping[str, Any], name: str) -> bytes:
    """Reads a file that the manifest lists, and checks that it has not changed."""
    right = manifest["files"][name]
    content = read_bytes(path, name, most_bytes(manifest, name))
    found = hashlib.sha256(content).hexdigest()
    if found != right:
        wrong(path / name, f"has sha256 {found}; it should be {right}")
    return content


def most_bytes(manifest: Mapping[str, Any], name: str) -> int:
    """The most bytes that a file of such a set can have."""
    pixels: int = math.prod(manifest["image_shape"])
    logits: int = manifest["tiles"] * len(manifest["class_names"])
    count: int = sum(one.startswith("images/") for one in manifest["files"])
    if name == SOFT_LABELS:
        return 4 * count * logits + MOST_RECORD
    if name == METADATA:
        return count * (32 * logits + MOST_RECORD)
    return files.SMALL if name == CARD else 2 * pixels + MOST_RECORD


def foreign_files(path: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Files and folders under `path` that the manifest does not list, and all links."""
    known = {*manifest["files"], MANIFEST}
    folders = {parent.as_posix() for name in known for parent in Path(name).parents}
    foreign = []
    for folder, below, names in os.walk(path, followlinks=False):
        for item in (Path(folder, name) for name in below + names):
            name = item.relative_to(path).as_posix()
            if item.is_symlink() or name not in (folders if item.is_dir() else known):
                foreign.append(name)
    return sorted(foreign)


def read_rows(
    path: Path, manifest: Mapping[str, Any], soft_labels: Float32[np.ndarray, "n tiles classes"]
) -> list[dict[str, Any]]:
    """Reads the lines of metadata.jsonl, and checks that label, class, folder and logits agree.

    Soft labels are left out: as Python's numbers all of them would take many times their room.
    """
    file, rows = path / METADATA, []
    classes = zip(manifest["class_names"], manifest["class_folders"], strict=True)
    right = [(label, name, f"images/{folder}") for label, (name, folder) in enumerate(classes)]
    for number, line in enumerate(BytesIO(read_listed(path, manifest, METADATA)), 1):
        row = files.parse(line, file)
        try:
            name, label, class_name = (row[key] for key in ROW[:3])
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{file} is not JSON lines with {', '.join(ROW)}: {error!r}"
            ) from error
        if not isinstance(name, str):
            wrong(file, f"line {number} has file_name {name!r}; it should be a string")
        if type(label) is not int:
            wrong(file, f"line {number} has label {label!r}; it should be an integer")
        check_name(path, name)
        folder = Path(name).parent.as_posix()
        if (label, class_name, folder) not in right:
            wrong(file, f"line {number} says label {label!r} is {class_name!r} in {folder}/")
        if not _same(row.pop("soft_labels", None), soft_labels[number - 1 : number]):
            wrong(file, f"line {number} has other soft labels than {SOFT_LABELS}")
        rows.append(row)
    names = [row["file_name"] for row in rows]
    if names != image_names(manifest):
        wrong(file, f"lists {len(rows)} images; they should be those of {MANIFEST}, sorted by name")
    return rows


def _same(said: Any, right: Float32[np.ndarray, "one tiles classes"]) -> bool:
    """Whether a line of the metadata says these logits."""
    try:
        with np.errstate(over="ignore"):  # infinity is another label
            return np.array_equal(np.array([said], np.float32), right)
    except (TypeError, ValueError, OverflowError):
        return False


def image_names(manifest: Mapping[str, Any]) -> list[str]:
    """The files of images that a manifest lists, sorted by name."""
    return sorted(name for name in manifest["files"] if name.startswith("images/"))


def check_sizes(path: Path, names: Sequence[str], shape: tuple[int, int, int]) -> None:
    """Checks that files are large enough for images of a shape, before memory is taken for them."""
    for name in names:
        with contextlib.suppress(OSError):  # which reading it tells
            size = (path / name).lstat().st_size
            if math.prod(shape) > DEFLATED * size:
                wrong(path / name, f"has {size} bytes, too few for an image {list(shape)}")


def read_image(
    path: Path,
    manifest: Mapping[str, Any],
    names: list[str],
    index: int,
) -> UInt8[np.ndarray, "h w c"]:
    """Image `index` as uint8 pixels [h, w, c], of the shape that the manifest says."""
    file, data = path / names[index], read_listed(path, manifest, names[index])
    height, width, channels = shape = tuple(manifest["image_shape"])
    try:
        if file.suffix == ".npy":
            return _array(data, shape)
        if struct.unpack(">4x4s2I", data[8:24]) != (b"IHDR", width, height):
            wrong(file, f"is no PNG of {height}x{width} pixels, as the manifest says")
        image = Image.open(BytesIO(data), formats=("PNG",))
        if image.mode != {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}.get(channels):
            wrong(file, f"has the mode {image.mode}; it should have {channels} channels")
        return np.array(image).reshape(shape)
    except InputError:
        raise
    except Exception as error:  # decoders fail in as many ways as files are damaged
        raise InputError(f"{file} cannot be read as an image: {error}") from error


def _array(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The array of a .npy file; memory is taken only where it is of this shape."""
    content = BytesIO(data)
    if np.lib.format.read_magic(content) != (1, 0):
        raise ValueError("it is no array of NumPy's format 1.0")
    found, by_columns, dtype = np.lib.format.read_array_header_1_0(content)
    if found != shape or by_columns or dtype != np.uint8:
        raise ValueError(f"it is {dtype} {found}; it should be uint8 {shape}")
    return np.frombuffer(data, np.uint8, offset=content.tell()).reshape(shape)


def read_soft_labels(
    path: Path, manifest: Mapping[str, Any]
) -> Float32[np.ndarray, "n tiles classes"]:
    """The logits of soft labels, float32 [images, tiles, classes] and finite."""
    count, classes = len(image_names(manifest)), len(manifest["class_names"])
    file, shape = path / SOFT_LABELS, (count, manifest["tiles"], classes)
    data = read_listed(path, manifest, SOFT_LABELS)
    try:
        soft_labels = safetensors.numpy.load(data)["soft_labels"]
    except Exception as error:  # as for images
        raise InputError(f"{file} holds no readable tensor soft_labels: {error}") from error
    if soft_labels.dtype != np.float32 or soft_labels.shape != shape:
        wrong(file, f"is {soft_labels.dtype} {soft_labels.shape}; it should be float32 {shape}")
    if not np.isfinite(soft_labels).all():
        wrong(file, "holds logits that are not finite")
    return soft_labels
