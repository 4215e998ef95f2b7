"""One library's reader on every case: what arrives, as plain facts.

    python -m experiments.readers.peers NAME CASES FACTS

It runs in the library's own environment, so it imports nothing but that library and NumPy.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

Fact = dict[str, Any]  # of a split: its classes and images, or the error; of an image: see `image`
Facts = dict[str, Fact]  # by split
SPLITS = ("train", "val", "test")


def image(pixels: Any, label: Any, file: str | None = None) -> Fact:
    """What is known of an image: shape, type, range, and the pixel in the middle of each quarter.

    A Pillow image with a palette counts as the colours that it shows.
    """
    if getattr(pixels, "mode", None) == "P":
        pixels = pixels.convert()
    array = np.asarray(pixels)
    planes = array if array.ndim == 3 else array[..., None]
    if planes.shape[0] < planes.shape[-1]:
        planes = np.moveaxis(planes, 0, -1)
    height, width = planes.shape[:2]
    quarters = [(y * height // 4, x * width // 4) for y in (1, 3) for x in (1, 3)]
    return {
        "file": file,
        "label": label,
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "levels": len(np.unique(planes[..., 0])),
        "range": [float(planes.min()), float(planes.max())],
        "quarters": [[float(value) for value in planes[at]] for at in quarters],
    }


def failed(error: Exception, root: Path) -> str:
    """The first line of what an error says, without the temporary folder's name."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0] if said else ''}".replace(str(root), "SET")[:300]


def each(root: Path, count: int, read: Callable[[int], Fact]) -> Iterator[Fact]:
    """Facts of every image of a split; of one that fails, its error."""
    for index in range(count):
        try:
            yield read(index)
        except Exception as error:
            yield {"error": failed(error, root)}


def of_split(root: Path, classes: Iterable[str] | None, images: Iterable[Fact]) -> Fact:
    """Classes and images of a split, or the error of reading them."""
    try:
        found = list(images)
        named = None if classes is None else list(classes)
        return {"classes": named, "images": found[:1] + [_named(one) for one in found[1:]]}
    except Exception as error:
        return {"error": failed(error, root)}


def _named(fact: Fact) -> Fact:
    """An image without its pixels, which the first one of a split shows."""
    return {key: fact[key] for key in ("file", "label", "error") if key in fact}


def folders(root: Path) -> dict[str, Path]:
    """The split folders of a set; the set itself where it has none."""
    found = {name: root / name for name in SPLITS if (root / name).is_dir()}
    return found if len(found) > 1 else {"train": root}


def attempt(root: Path, read: Callable[[Path], Fact], path: Path) -> Fact:
    """What `read` gives for a file or folder, or its error."""
    try:
        return read(path)
    except Exception as error:
        return {"error": failed(error, root)}


def torchvision(case: Path) -> Facts:
    from torchvision.datasets import ImageFolder

    root = case / "set"

    def listed(folder: Path) -> Fact:
        data = ImageFolder(str(folder))

        def read(index: int) -> Fact:
            pixels, label = data[index]
            file = str(Path(data.samples[index][0]).relative_to(root))
            return image(pixels, data.classes[label], file)

        return of_split(root, data.classes, each(root, len(data), read))

    return {split: attempt(root, listed, folder) for split, folder in folders(root).items()}


def keras(case: Path, **options: Any) -> Facts:
    import keras

    root = case / "set"

    def listed(folder: Path) -> Fact:
        data = keras.utils.image_dataset_from_directory(
            str(folder), image_size=(16, 16), batch_size=1, shuffle=False, verbose=False, **options
        )
        names, files = data.class_names, data.file_paths
        images = (
            image(pixels[0].numpy(), names[int(label[0])], str(Path(file).relative_to(root)))
            for (pixels, label), file in zip(data, files, strict=True)
        )
        return of_split(root, names, images)

    return {split: attempt(root, listed, folder) for split, folder in folders(root).items()}


def tfds(case: Path, **options: Any) -> Facts:
    import tensorflow as tf
    import tensorflow_datasets

    root = case / "set"
    if "dtype" in options:
        options["dtype"] = getattr(tf, options["dtype"])
    try:
        builder = tensorflow_datasets.ImageFolder(str(root), **options)
    except Exception as error:
        return {"train": {"error": failed(error, root)}}
    names = builder.info.features["label"].names

    def images(split: str) -> Iterator[Fact]:
        for example in builder.as_dataset(split=split):
            file = Path(example["image/filename"].numpy().decode())
            label = names[int(example["label"])]
            yield image(example["image"].numpy(), label, str(file.relative_to(root)))

    return {split: of_split(root, names, images(split)) for split in builder.info.splits}


def datasets(case: Path) -> Facts:
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    root = case / "set"
    with tempfile.TemporaryDirectory() as cache:
        try:
            found = load_dataset("imagefolder", data_dir=str(root), cache_dir=cache)
        except Exception as error:
            return {"train": {"error": failed(error, root)}}
        facts = {}
        for split, data in found.items():
            names = data.features["label"].names if "label" in data.features else None

            def read(index: int, data: Any = data, names: Any = names) -> Fact:
                row = data[index]
                file = getattr(row["image"], "filename", "")
                label = None if names is None else names[row["label"]]
                return image(row["image"], label, _below(root, file))

            facts[str(split)] = of_split(root, names, each(root, len(data), read))
    return facts


def _below(root: Path, file: str) -> str | None:
    return str(Path(file).relative_to(root)) if file else None


def tifffile(case: Path) -> Facts:
    from tifffile import imread

    file = case / "image.tif"
    if not file.exists():
        return {}
    return {"train": attempt(case, lambda f: {"images": [image(imread(f), None)]}, file)}


def medmnist(case: Path) -> Facts:
    from medmnist import PathMNIST

    if not (case / "pathmnist.npz").exists():
        return {}
    facts = {}
    for split in SPLITS:
        data = PathMNIST(split=split, root=str(case))

        def read(index: int, data: Any = data) -> Fact:
            pixels, label = data[index]
            return image(pixels, int(label[0]))

        facts[split] = of_split(case, None, each(case, len(data.imgs), read))
    return facts


def ours(case: Path, **options: Any) -> Facts:
    return _opened(f"folder:{case / 'set'}", case / "set", **options)


def ours_npz(case: Path) -> Facts:
    """The same pixels in MedMNIST's layout."""
    file = case / "pathmnist.npz"
    return _opened(f"npz:{file}", case) if file.exists() else {}


def _opened(spec: str, root: Path, **options: Any) -> Facts:
    from infoutil_jax import open_source

    try:
        source = open_source(spec, **options)
    except Exception as error:
        return {"train": {"error": failed(error, root)}}
    return {
        name: of_split(
            root,
            source.class_names,
            (
                image(split.image(index), source.class_names[split.labels[index]], split.ids[index])
                for index in range(len(split))
            ),
        )
        for name, split in (("train", source.train), ("test", source.test))
    }


Reader = Callable[..., Facts]
READERS: dict[str, Reader] = {
    "torchvision": torchvision,
    "tfds": tfds,
    "datasets": datasets,
    "keras": keras,
    "tifffile": tifffile,
    "medmnist": medmnist,
    "ours": ours,
    "ours_npz": ours_npz,
}
# What a reader's own options can ask for beyond its default.
ASKS: dict[str, dict[str, dict[str, Any]]] = {
    "keras": {
        "alpha_rgba": {"color_mode": "rgba"},
        "alpha_palette": {"color_mode": "rgba"},
    },
    "tfds": {
        "depth_grey16": {"shape": (None, None, 1), "dtype": "uint16"},
        "depth_rgb16": {"shape": (None, None, 3), "dtype": "uint16"},
        "alpha_rgba": {"shape": (None, None, 4)},
        "alpha_palette": {"shape": (None, None, 4)},
    },
    "ours": {
        "bands_grey": {"channels": 6},
        "bands_rgb": {"channels": 6},
        "bands_pages": {"channels": 6},
        "alpha_rgba": {"channels": 4},
        "alpha_palette": {"channels": 4},
    },
}
PACKAGES = {
    "torchvision": ("torchvision", "pillow"),
    "tfds": ("tensorflow-datasets", "tensorflow-cpu"),
    "datasets": ("datasets", "pillow"),
    "keras": ("keras", "tensorflow-cpu"),
    "tifffile": ("tifffile",),
    "medmnist": ("medmnist", "pillow"),
    "ours": ("infoutil-jax", "pillow", "tifffile"),
    "ours_npz": ("infoutil-jax", "pillow"),
}


def main(name: str, cases: Path, facts: Path) -> None:
    """Writes what one library makes of every case, with its versions."""
    read, found = READERS[name], {}
    for case in sorted(path for path in cases.iterdir() if path.is_dir()):
        found[case.name] = {"default": read(case)}
        if asked := ASKS.get(name, {}).get(case.name):
            found[case.name] |= {"asked": read(case, **asked), "options": asked}
    versions = {}
    for package in PACKAGES[name]:
        with suppress(PackageNotFoundError):  # tifffile is a part of ours that one may leave out
            versions[package] = version(package)
    lines = ",\n".join(f"{json.dumps(case)}: {json.dumps(fact)}" for case, fact in found.items())
    facts.write_text(f'{{"versions": {json.dumps(versions)},\n"cases": {{\n{lines}\n}}}}\n')


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
