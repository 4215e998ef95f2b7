"""What images there are, before any is decoded: the digits, a folder, TFDS. NumPy on the host."""

import json
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Int32

from infoutil_jax.data.pixels import Encoded
from infoutil_jax.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled images still encoded: `read(i)` fetches the i-th, from any thread."""

    ids: tuple[str, ...]
    labels: Int32[np.ndarray, " n"]
    read: Callable[[int], Encoded]

    def take(self, indices: Int[np.ndarray, " k"]) -> "Examples":
        """These examples, in this order."""
        return Examples(
            tuple(self.ids[i] for i in indices),
            self.labels[indices],
            lambda i: self.read(int(indices[i])),
        )


@dataclass(frozen=True, eq=False)
class Listing:
    """The examples of one place; `test` is None where it has no test split of its own."""

    name: str
    class_names: tuple[str, ...]
    train: Examples
    test: Examples | None


def list_digits() -> Listing:
    """scikit-learn's 1,797 hand-written digits, 8x8 grey, 0..16 stretched to 0..255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    ids = tuple(f"digits/{i:04d}" for i in range(len(pixels)))
    examples = Examples(ids, digits.target.astype(np.int32), pixels.__getitem__)
    return Listing("digits", tuple("0123456789"), examples, None)


def list_folder(path: Path) -> Listing:
    """Lists the class subfolders of `path`, or of its train/ and of its test/, val/ or validation/.

    Only images directly in a class folder count; hidden files and other suffixes are passed over.
    """
    if not path.is_dir():
        raise InputError(f"{path} is not a folder; it should hold one subfolder of images a class")
    name = path.resolve().name
    # A class may itself be called "train": only a folder of folders is a split.
    if not _subfolders(path / "train"):
        classes, examples = _class_folders(path, path)
        return Listing(name, classes, examples, None)
    classes, train = _class_folders(path, path / "train")
    for split in ("test", "val", "validation"):
        if _subfolders(path / split):
            test_classes, test = _class_folders(path, path / split)
            if lone := sorted(set(classes) ^ set(test_classes)):
                where = "train" if lone[0] in classes else split
                raise InputError(
                    f"train/ and {split}/ of {path} should hold the same classes, "
                    f"but {lone[0]!r} is in {where}/ only"
                )
            return Listing(name, classes, train, test)
    return Listing(name, classes, train, None)


def list_tfds(name: str, data_dir: str | None) -> Listing:
    """Lists a prepared TensorFlow dataset, through `tfds.data_source`, without TensorFlow.

    `data_dir` None means TFDS's own default: the variable TFDS_DATA_DIR, or ~/tensorflow_datasets.
    Labels and class names keep the dataset's own order.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise InputError(
            "reading tfds: sources needs tensorflow-datasets: pip install 'infoutil-jax[tfds]'"
        ) from error
    try:
        builder = tfds.builder(name, **({"data_dir": data_dir} if data_dir else {}))
    except (ValueError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(
            f"tfds:{name} is neither prepared nor known to tensorflow-datasets ({reason})"
        ) from error
    image, label = _supervised_keys(tfds, name, builder.info)
    skip = {
        key: tfds.decode.SkipDecoding()
        for key, feature in builder.info.features.items()
        if isinstance(feature, tfds.features.Image)
    }
    class_names = tuple(builder.info.features[label].names)

    def examples(split: str) -> Examples:
        source = builder.as_data_source(split=split, decoders=skip)
        labels = np.array([source[i][label] for i in range(len(source))], np.int64)
        wrong = np.flatnonzero((labels < 0) | (labels >= len(class_names)))
        if wrong.size:
            raise InputError(
                f"example {wrong[0]} of tfds:{name}, split {split}, has label {labels[wrong[0]]}; "
                f"labels should be 0 to {len(class_names) - 1}"
            )
        ids = tuple(f"{split}/{i:07d}" for i in range(len(source)))
        return Examples(ids, labels.astype(np.int32), lambda i: source[i][image])

    splits = builder.info.splits
    if "train" not in splits:
        raise InputError(
            f"tfds:{name} is not prepared in {builder.data_dir}; where TensorFlow is installed, "
            f"this prepares it: {_prepare_command(name, data_dir)}"
        )
    test = next((split for split in ("test", "validation") if split in splits), None)
    try:
        train = examples("train")
        return Listing(builder.info.full_name, class_names, train, examples(test) if test else None)
    except NotImplementedError as error:  # TFDS's word for a format without random access
        other = str(Path(data_dir or tfds.core.constants.DATA_DIR) / "array_record")
        raise InputError(
            f"tfds:{name} in {builder.data_dir} is stored in a format without random access; "
            f"this prepares it anew beside it, for data_dir={other!r}: "
            f"{_prepare_command(name, other)}"
        ) from error


def _prepare_command(name: str, data_dir: str | None) -> str:
    where = f", data_dir={json.dumps(data_dir)}" if data_dir else ""
    return "python -c " + shlex.quote(
        "import tensorflow_datasets as tfds; "
        f'tfds.builder("{name}"{where}, file_format="array_record").download_and_prepare()'
    )


def _supervised_keys(tfds: Any, name: str, info: Any) -> tuple[str, str]:
    """Finds the names of the one image and the one label of a TFDS example."""
    kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    found = []
    for kind, feature in kinds.items():
        keys = [k for k, f in info.features.items() if isinstance(f, feature)]
        keys = [k for k in keys if k in (info.supervised_keys or ())] or keys
        if len(keys) != 1:
            raise InputError(
                f"tfds:{name} should have one {kind} feature an example, but has "
                f"{len(keys)} among {sorted(info.features)}"
            )
        found.append(keys[0])
    image = info.features[found[0]]
    if image.np_dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"tfds:{name} stores images as {np.dtype(image.np_dtype)}; uint8 or uint16 would do"
        )
    return found[0], found[1]


def _subfolders(path: Path) -> list[str]:
    if not path.is_dir():
        return []
    with os.scandir(path) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _class_folders(root: Path, path: Path) -> tuple[tuple[str, ...], Examples]:
    classes = _subfolders(path)
    if not classes:
        raise InputError(f"{path} has no class subfolders; it should hold one a class")
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        with os.scandir(path / name) as entries:
            images = sorted(
                entry.path
                for entry in entries
                if entry.name.lower().endswith(SUFFIXES)
                and not entry.name.startswith(".")
                and entry.is_file()
            )
        if not images:
            raise InputError(
                f"class folder {path / name} has no images directly in it; it should hold "
                f"files ending in {', '.join(SUFFIXES)}"
            )
        files += images
        labels += [label] * len(images)
    ids = tuple(Path(file).relative_to(root).as_posix() for file in files)
    return tuple(classes), Examples(ids, np.array(labels, np.int32), partial(_read_file, files))


def _read_file(files: list[str], index: int) -> bytes:
    return Path(files[index]).read_bytes()
