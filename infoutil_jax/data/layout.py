"""The files of a distilled set, each one read and checked by itself. NumPy on the host.

What is wrong with a file is told by an InputError that begins with its path.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Float32, UInt8
from PIL import Image

from infoutil_jax.errors import InputError

MANIFEST, METADATA, SOFT_LABELS = "manifest.json", "metadata.jsonl", "soft_labels.safetensors"
FORMAT = "infoutil-distilled-1"
ROW = ("file_name", "label", "class_name")  # what each line of the metadata begins with


def wrong(file: Path, how: str) -> NoReturn:
    """Say what is wrong with a file."""
    raise InputError(f"{file} {how}")


def class_folders(class_names: Sequence[str]) -> list[str]:
    """A folder name for each class, safe and distinct on every file system."""
    folders: list[str] = []
    for index, name in enumerate(class_names):
        folder = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:80]
        # Windows reserves three- and four-letter names; prefixing them all is the simpler rule.
        reserved = re.fullmatch(r"(?i)con|prn|aux|nul|(com|lpt)\d", folder)
        taken = {other.casefold() for other in folders}
        if folder != name or not folder or reserved or folder.casefold() in taken:
            folder = f"{index:04d}_{folder}"
        while folder.casefold() in taken:
            folder += "_"
        folders.append(folder)
    return folders


def digest(manifest: Mapping[str, Any]) -> str:
    """Sha256 of the manifest but for its own digest, so that a change to it shows too."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def png(images: UInt8[np.ndarray, "n h w c"], index: int) -> bytes:
    """Image `index` [h, w, c] as PNG: the same bytes for the same pixels."""
    pixels = images[index]
    buffer = BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def read_bytes(file: Path) -> bytes:
    """A file's content, or an InputError with its path."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest, if it is one of ours and holds its own sha256."""
    file = path / MANIFEST
    try:
        manifest = json.loads(read_bytes(file))
    except ValueError as error:
        raise InputError(f"{file} is not JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        wrong(file, f'is not of a distilled set; it should say "format": "{FORMAT}"')
    if manifest.get("sha256") != digest(manifest):
        wrong(file, "has changed since it was written: its sha256 does not match its content")
    return manifest


def foreign_files(path: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Files under `path` that the manifest does not know."""
    present = {p.relative_to(path).as_posix() for p in path.rglob("*") if not p.is_dir()}
    return sorted(present - {*manifest["files"], MANIFEST})


def read_rows(path: Path, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The lines of metadata.jsonl, each one's label agreeing with its class and folder."""
    file = path / METADATA
    try:
        rows = [json.loads(line) for line in read_bytes(file).splitlines()]
        folders = [Path(row["file_name"]).parent.as_posix() for row in rows]
        said = [
            (row["label"], row["class_name"], folder)
            for row, folder in zip(rows, folders, strict=True)
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is not JSON lines with {', '.join(ROW)}: {error!r}") from error
    classes = zip(manifest["class_names"], manifest["class_folders"], strict=True)
    right = {(label, name, f"images/{folder}") for label, (name, folder) in enumerate(classes)}
    for number, claim in enumerate(said, 1):
        if claim not in right:
            wrong(file, f"line {number} says label {claim[0]!r} is {claim[1]!r} in {claim[2]}/")
    names = sorted(row["file_name"] for row in rows)
    if names != sorted(name for name in manifest["files"] if name.startswith("images/")):
        wrong(file, f"lists {len(rows)} images; they should be those of {MANIFEST}")
    return rows


def read_image(
    path: Path, names: list[str], shape: tuple[int, int, int], index: int
) -> UInt8[np.ndarray, "h w c"]:
    """Image `index` as uint8 pixels of `shape` [h, w, c]."""
    file = path / names[index]
    try:
        pixels = np.array(Image.open(BytesIO(read_bytes(file))))
    except (OSError, SyntaxError, ValueError) as error:
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
    try:
        soft_labels = safetensors.numpy.load(read_bytes(file))["soft_labels"]
    except (safetensors.SafetensorError, KeyError) as error:
        raise InputError(f"{file} holds no readable tensor soft_labels: {error}") from error
    if soft_labels.dtype != np.float32 or soft_labels.shape != shape:
        wrong(file, f"is {soft_labels.dtype} {soft_labels.shape}; it should be float32 {shape}")
    if not np.isfinite(soft_labels).all():
        wrong(file, "holds logits that are not finite")
    return soft_labels
