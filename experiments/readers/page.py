"""The documentation's page: what each reader makes of each case, from the measured facts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from experiments.readers.words import refusal, verdict

TITLES = {
    "torchvision": "torchvision",
    "tfds": "TFDS",
    "datasets": "Hugging Face",
    "keras": "Keras",
    "tifffile": "tifffile",
    "medmnist": "MedMNIST",
    "ours": "infoutil_jax",
    "ours_npz": "infoutil_jax, NPZ",
}
SECTIONS = {
    "Orientation": ("orientation",),
    "Depth and polarity": ("depth", "white"),
    "Bands": ("bands",),
    "Alpha, palette, ink and motion": ("alpha", "palette", "cmyk", "gif"),
    "Class names and their order": ("classes",),
    "Hidden labels": ("hidden_loose", "hidden_folder"),
    "Folders and files": ("nested", "cut", "hidden_files", "endings", "links"),
}
CALLS = {
    "torchvision": "`torchvision.datasets.ImageFolder(FOLDER)`, a folder a split, default loader",
    "tfds": "`tfds.ImageFolder(FOLDER).as_dataset(SPLIT)`",
    "datasets": '`load_dataset("imagefolder", data_dir=FOLDER)`, images as they come',
    "keras": "`keras.utils.image_dataset_from_directory(FOLDER)`, a folder a split, TensorFlow",
    "tifffile": "`tifffile.imread(FILE)`, the same pixels in a TIFF file",
    "medmnist": "`medmnist.PathMNIST(SPLIT, root=FOLDER)`, the same pixels in `pathmnist.npz`",
    "ours": "`infoutil_jax.open_source('folder:FOLDER')`",
    "ours_npz": "`infoutil_jax.open_source('npz:FILE')`, MedMNIST's `pathmnist.npz`",
}
SOURCES = {
    "torchvision": (
        "https://docs.pytorch.org/vision/stable/generated/torchvision.datasets.ImageFolder.html",
        "`torchvision/datasets/folder.py`",
    ),
    "tfds": (
        "https://www.tensorflow.org/datasets/api_docs/python/tfds/folder_dataset/ImageFolder",
        "`tensorflow_datasets/core/folder_dataset/image_folder.py`",
    ),
    "datasets": (
        "https://huggingface.co/docs/datasets/image_dataset",
        "`datasets/packaged_modules/folder_based_builder/folder_based_builder.py`, "
        "`datasets/data_files.py`",
    ),
    "keras": (
        "https://keras.io/api/data_loading/image/",
        "`keras/src/utils/image_dataset_utils.py`",
    ),
    "tifffile": ("https://github.com/cgohlke/tifffile", "`tifffile/tifffile.py`"),
    "medmnist": ("https://github.com/MedMNIST/MedMNIST", "`medmnist/dataset.py`"),
    "ours": ("[your own images](images.md)", "`infoutil_jax/data/`"),
    "ours_npz": ("[your own images](images.md)", "`infoutil_jax/data/`"),
}
INTRODUCTION = """\
# What readers do with the images that people have

Rendered by `python -m experiments.readers` from `experiments/results/real_readers/`. Small valid
sets, made by code (`experiments/readers/cases.py`), are opened with each library and its defaults;
where an option of the reader asks for more, its outcome follows. Of an image the words say what
arrives in the array. *wrong* means that something is lost or changed without a word; *refuses*
means an error, whose type stands in brackets; nothing means that the reader has no such case.
"""

Measured = dict[str, Any]


def load(results: Path) -> Measured:
    """The cases' titles and every reader's facts."""
    return {
        "titles": json.loads((results / "titles.json").read_text()),
        "libraries": {name: json.loads((results / f"{name}.json").read_text()) for name in TITLES},
    }


def page(measured: Measured) -> str:
    """The whole page in Markdown."""
    lines = [INTRODUCTION, *_versions(measured)]
    for title, prefixes in SECTIONS.items():
        cases = [name for name in measured["titles"] if name.startswith(prefixes)]
        lines += ["", f"## {title}", "", *_table(measured, cases), *_sentences(measured, cases)]
    return "\n".join(lines) + "\n"


def _versions(measured: Measured) -> list[str]:
    lines = ["| reader | versions | how | documentation and source |", "|" + " --- |" * 4]
    for name, title in TITLES.items():
        versions = measured["libraries"][name]["versions"]
        stated = ", ".join(f"{package} {version}" for package, version in versions.items())
        lines.append(f"| {title} | {stated} | {CALLS[name]} | {'; '.join(SOURCES[name])} |")
    return lines


def _table(measured: Measured, cases: list[str]) -> list[str]:
    """Rows are cases; a reader that has none of them has no column."""
    cells = {
        name: [cell(case, measured["libraries"][name]["cases"][case]) for case in cases]
        for name in TITLES
    }
    shown = [name for name in TITLES if any(cells[name])]
    head = "| | " + " | ".join(TITLES[name] for name in shown) + " |"
    rows = [
        f"| {measured['titles'][case]} | " + " | ".join(cells[n][row] for n in shown) + " |"
        for row, case in enumerate(cases)
    ]
    return [head, "|" + " --- |" * (len(shown) + 1), *rows]


def cell(case: str, found: Measured) -> str:
    """What a reader does by default and, where its options ask for more, then."""
    text = verdict(case, found["default"])
    if "asked" in found:
        options = ", ".join(f"{name}={value!r}" for name, value in found["options"].items())
        text += f"; with `{options}`: {verdict(case, found['asked'])}"
    return text


def _sentences(measured: Measured, cases: list[str]) -> list[str]:
    """What ours says where it refuses."""
    said = []
    for case in cases:
        for reader in ("ours", "ours_npz"):
            found = measured["libraries"][reader]["cases"][case]
            for how in ("default", "asked"):
                if error := refusal(found.get(how, {})):
                    sentence = error.partition(": ")[2].removesuffix(".")
                    said.append(f"- {measured['titles'][case]}: {sentence}.")
    said = list(dict.fromkeys(said))
    return ["", "What infoutil_jax says where it refuses:", "", *said] if said else []
