"""Do readers of folders number the classes of a distilled set as we do?

    python -m experiments.folder_order --python torchvision VENV/bin/python datasets VENV/bin/python

Class lists are drawn at random from plain, spaced, accented, dotted and hostile names and those of
splits, and a set is written for each. torchvision's ImageFolder, TFDS's ImageFolder and Hugging
Face's `datasets` then read every set, each in a process of its own, and must find image i under the
label that we gave it; `datasets` also our class names and soft labels.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from infoutil_jax import provenance
from infoutil_jax.data.distilled import write_distilled

RESULTS = Path(__file__).parent / "results" / "folder_order.json"
ALPHABET = (
    *"abcXYZ0189",
    *" ._-/\\'\"|:*?",
    *"éüñßøЖ犬अा",
    "e\u0301",
    "\U0001d518",
    *("CON", "nul"),
    *("train", "test", "dev"),  # names of splits
    "\t",
)

# Each prints, a line a set, the sorted pairs of an image's number and its label.
READERS = {
    "torchvision": """
import json, sys, torchvision
from torchvision.datasets import ImageFolder
for path in json.load(sys.stdin):
    samples = ImageFolder(path + "/images").samples
    print(json.dumps(sorted((int(file[-10:-4]), label) for file, label in samples)))
print(json.dumps(torchvision.__version__))
""",
    "tensorflow_datasets": """
import json, sys, tensorflow_datasets as tfds
for path in json.load(sys.stdin):
    rows = tfds.ImageFolder(path).as_dataset(split="images").as_numpy_iterator()
    print(json.dumps(sorted((int(r["image/filename"][-10:-4]), int(r["label"])) for r in rows)))
print(json.dumps(tfds.__version__))
""",
    "datasets": """
import json, sys, datasets, tempfile, numpy as np, safetensors.numpy
datasets.disable_progress_bars()
for path in json.load(sys.stdin):
    manifest = json.load(open(path + "/manifest.json"))
    with tempfile.TemporaryDirectory() as cache:
        rows = datasets.load_dataset(path, cache_dir=cache, split="train").cast_column(
            "image", datasets.Image(decode=False))
        assert rows.features["label"].names == manifest["class_names"], rows.features
        logits = safetensors.numpy.load_file(path + "/soft_labels.safetensors")["soft_labels"]
        assert np.array_equal(np.float32(rows["soft_labels"]), logits)
        pairs = [(int(row["image"]["path"][-10:-4]), row["label"]) for row in rows]
        assert pairs == sorted(pairs)
        print(json.dumps(pairs))
print(json.dumps(datasets.__version__))
""",
}


def class_list(rng: np.random.Generator, most: int) -> list[str]:
    """Names that differ, of up to eight pieces each."""
    count = int(rng.integers(1, most + 1))
    names: dict[str, None] = {}
    while len(names) < count:
        names["".join(rng.choice(ALPHABET, rng.integers(1, 9)))] = None
    return list(names)


def write(path: Path, names: Sequence[str]) -> list[tuple[int, int]]:
    """Writes a set of one or two images a class, and returns what a reader must find."""
    labels = np.sort(np.concatenate([np.arange(len(names)), np.arange(0, len(names), 2)]))
    rng = np.random.default_rng(len(names))
    written = write_distilled(
        path,
        images=rng.integers(0, 256, (len(labels), 4, 4, 3)).astype(np.uint8),
        labels=labels.astype(np.int32),
        soft_labels=rng.normal(size=(len(labels), 1, len(names))).astype(np.float32),
        class_names=names,
        records=[{}] * len(labels),
        manifest={},
    )
    return [(i, int(label)) for i, label in enumerate(written.labels)]


def read(reader: str, paths: Sequence[Path], python: str = sys.executable) -> tuple[list, str]:
    """What a reader finds in each set, and its version."""
    done = subprocess.run(
        [python, "-c", READERS[reader]],
        input=json.dumps([str(path) for path in paths]),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{reader} failed: {done.stderr[-2000:]}")
    *found, version = map(json.loads, done.stdout.splitlines())
    return [[tuple(pair) for pair in pairs] for pairs in found], version


@dataclass(frozen=True)
class FolderOrder:
    """Write sets of random class names and read them by other libraries."""

    sets: int = 300
    """How many."""
    most_classes: int = 30
    """Of each, 1 to that many."""
    seed: int = 0
    """Of the names."""
    python: dict[str, str] = field(default_factory=dict)
    """Interpreter of a reader, where it is not this one."""
    readers: tuple[str, ...] = tuple(READERS)
    """Which read."""
    results: Path = RESULTS
    """Where the result goes."""

    def run(self) -> dict[str, Any]:
        """Run it, write the result, and return it."""
        rng = np.random.default_rng(self.seed)
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder, f"{i:04d}") for i in range(self.sets)]
            right = [write(path, class_list(rng, self.most_classes)) for path in paths]
            rows = {}
            for reader in self.readers:
                found, version = read(reader, paths, self.python.get(reader, sys.executable))
                agree = sum(one == other for one, other in zip(found, right, strict=True))
                rows[reader] = {"version": version, "sets": self.sets, "agree": agree}
                print(f"{reader} {version}: {agree} of {self.sets} sets")
        result = {
            "arguments": {"sets": self.sets, "most_classes": self.most_classes, "seed": self.seed},
            "readers": rows,
            "versions": provenance.versions(),
        }
        self.results.write_text(json.dumps(result, indent=1) + "\n")
        return result


if __name__ == "__main__":
    tyro.cli(FolderOrder).run()
