"""What the manifest of a distilled set has to say, whoever wrote it. On the host."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infoutil_jax import files, kinds
from infoutil_jax.data import layout
from infoutil_jax.data.layout import wrong


def read_manifest(path: Path) -> dict[str, Any]:
    """Reads the manifest, and checks that it is of a distilled set and unchanged.

    Raises:
        InputError: it cannot be read, is not as it was written, or says what cannot be.
    """
    file = path / layout.MANIFEST
    content = layout.read_bytes(path, layout.MANIFEST, layout.MOST_MANIFEST)
    manifest = files.parse(content, file)
    if isinstance(manifest, dict) and manifest.get("format") in layout.EARLIER:
        wrong(file, f"has format {manifest['format']}, of an earlier version; distil the set again")
    if not isinstance(manifest, dict) or manifest.get("format") != layout.FORMAT:
        wrong(file, f'is not of a distilled set; it should say "format": "{layout.FORMAT}"')
    if manifest.get("sha256") != layout.digest(manifest):
        wrong(file, "has changed since it was written: its sha256 does not match its content")
    if content != layout.text_of(manifest):
        wrong(file, "has changed since it was written: it says the same in other bytes")
    for key, (is_right, what) in SHAPES.items():
        if not is_right(manifest.get(key)):
            wrong(file, f"has {key} {kinds.short(manifest.get(key))}; it should be {what}")
    check_provenance(file, manifest)
    _check_names(file, manifest)
    return manifest


def check_provenance(file: Path, manifest: Mapping[str, Any]) -> None:
    """Checks what a manifest says of how its set was made.

    Raises:
        InputError: it says what cannot be.
    """
    for key, (is_right, what) in PROVENANCE.items():
        if key in manifest and not is_right(manifest[key]):
            wrong(file, f"has {key} {kinds.short(manifest[key])}; it should be {what}")
    names = manifest["class_names"]
    offsets = manifest.get("label_offsets", names)
    if len(offsets) != len(names):
        wrong(file, f"has {len(offsets)} label_offsets for {len(names)} class_names")


def said(path: Path, manifest: Mapping[str, Any], *keys: str) -> Any:
    """What a manifest says under nested keys.

    Raises:
        InputError: it does not say it.
    """
    value: Any = manifest
    for key in keys:
        if not isinstance(value, Mapping) or value.get(key) is None:
            wrong(path / layout.MANIFEST, f"does not say {'.'.join(keys)}, which is needed here")
        value = value[key]
    return value


def _check_names(file: Path, manifest: Mapping[str, Any]) -> None:
    names, folders = manifest["class_names"], manifest["class_folders"]
    if len(names) != len(folders):
        wrong(file, f"has {len(folders)} class_folders for {len(names)} class_names")
    for what, values in (("class_names", names), ("class_folders", folders)):
        if len(set(values)) < len(values):
            wrong(file, f"has {what} that repeat; they should all be different")
    needed = {layout.SOFT_LABELS, layout.METADATA, layout.CARD}
    for name, sha256 in manifest["files"].items():
        layout.check_name(file.parent, name)
        parts = name.split("/")
        is_image = len(parts) == 3 and parts[0] == "images" and parts[1] in folders
        if not is_image and name not in needed:
            wrong(file, f"lists {name}, which is no file of a set")
        if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
            wrong(file, f"has sha256 {sha256!r} for {name}; it should be 64 hexadecimal digits")
    if missing := needed - manifest["files"].keys():
        wrong(file, f"does not list {min(missing)}, which is part of every set")


def _is_shape(value: Any) -> bool:
    few = kinds.many(kinds.count)(value) and len(value) == 3
    return few and max(value) <= layout.MOST_SIDE


MOST_OFFSET = 1e30
"""So that single precision holds it, and its sum with a logit."""
_NUMBERS = kinds.many(kinds.number)
_TEACHER = (
    kinds.having(
        **dict.fromkeys(("name", "stage", "digest"), kinds.text),
        **dict.fromkeys(("mean", "std"), _NUMBERS),
        accuracy=kinds.optional(kinds.number),
    ),
    "a mapping with the name, stage, digest, mean and std of a teacher",
)
SHAPES: Mapping[str, tuple[kinds.Kind, str]] = {
    "class_names": (kinds.many(kinds.text), "a list of strings"),
    "class_folders": (kinds.many(kinds.text), "a list of strings"),
    "image_shape": (_is_shape, f"three positive integers up to {layout.MOST_SIDE}"),
    "tiles": (kinds.count, "a positive integer"),
    "files": (kinds.mapping, "a mapping of each file to its sha256"),
}
"""What every manifest says."""
PROVENANCE: Mapping[str, tuple[kinds.Kind, str]] = {
    "images_per_class": (kinds.count, "a positive integer"),
    "images_by_class": (kinds.many(kinds.count), "a list of positive integers"),
    "normalisation": (kinds.having(mean=_NUMBERS, std=_NUMBERS), "a mapping with mean and std"),
    "training": (
        kinds.having(
            **dict.fromkeys(("temperature", "learning_rate"), kinds.number),
            **dict.fromkeys(("batch_size", "epochs"), kinds.count),
            **dict.fromkeys(("partition", "cutmix"), kinds.flag),
            labels=kinds.one_of("online", "stored", "hard"),
        ),
        "a mapping with temperature, learning_rate, batch_size and epochs, true or false for a "
        "partition and for cutmix, and labels that are online, stored or hard",
    ),
    "label_offsets": (
        kinds.many(lambda value: kinds.number(value) and abs(value) < MOST_OFFSET),
        f"a list of numbers below {MOST_OFFSET:g}",
    ),
    "teacher": _TEACHER,
    "label_teacher": _TEACHER,
    "source": (kinds.having(name=kinds.text, fingerprint=kinds.text), "a mapping with a name"),
    "rule": (kinds.text, "a sentence"),
    "licence": (kinds.text, "a string"),
    "forgotten": (
        kinds.having(
            examples=kinds.many(lambda value: type(value) is int and value >= 0),
            fingerprint=kinds.optional(kinds.text),
        ),
        "a mapping with the numbers of training images, and a fingerprint",
    ),
}
"""What a manifest says of how the set was made, where it says it."""


def labels_are_learnt(manifest: Mapping[str, Any]) -> bool:
    """Whether a set's soft labels were learnt with its pixels: no teacher has said them."""
    recipe = manifest.get("recipe")
    refine = recipe.get("refine") if isinstance(recipe, Mapping) else None
    return isinstance(refine, Mapping) and refine.get("labels") == "learnt"
