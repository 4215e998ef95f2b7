"""Four times as many images: how much more memory? And how soon does a verb start again?

    python -m experiments.benchmarks.large_sources --data PATH/imagenette128

Copies the first training images of each class, where there are fewer several times, and some test
images to a folder of each size. Then, in this order:

- opens the larger folder twice, with one index: seconds of `open_source` alone;
- runs the verbs on both folders, each in a process of its own, the images beyond 1 GiB read from
  disk: the most memory that the process used;
- trains on the smaller folder from memory and from disk: seconds of an epoch, from runs of one and
  of three epochs, which compile alike.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.numpy
import tyro
from flax import nnx

from infoutil_jax import models, provenance
from infoutil_jax.data.sources import open_source
from infoutil_jax.models.torch_weights import to_torchvision

RESULT = Path(__file__).parents[1] / "results" / "benchmarks" / "large_sources.json"
TESTED = 20  # test images of each class


@dataclass(frozen=True)
class LargeSources:
    """Memory and time by the number of images."""

    data: Path
    """Folder with train/ and val/ or test/, of class folders."""
    per_class: tuple[int, int] = (200, 800)
    """Training images of each class."""
    image_size: int = 224
    """Side in pixels."""
    width: int = 8
    """Of the ConvNet that is trained, and of the ResNet-18 whose weights are adopted."""
    result: Path = RESULT
    """Where the JSON goes."""

    def run(self) -> None:
        """Measure, print, write."""
        with tempfile.TemporaryDirectory() as scratch:
            work = Path(scratch)
            folders = [self._copy(count, work / f"of{count}") for count in self.per_class]
            record = {
                "opening": self._opening(folders[-1], work / "index.npz"),
                "memory": self._memory(folders, work),
                "epoch": self._epochs(folders[0], work),
            }
        record |= {
            "benchmark": {k: v for k, v in asdict(self).items() if k not in ("data", "result")},
            "images": [10 * count for count in self.per_class],
            "versions": provenance.versions(),
            "hardware": provenance.hardware(),
        }
        print(json.dumps({k: record[k] for k in ("opening", "memory", "epoch")}, indent=1))
        self.result.parent.mkdir(parents=True, exist_ok=True)
        self.result.write_text(json.dumps(record, indent=1) + "\n")

    def _copy(self, count: int, folder: Path) -> Path:
        """The first images of each class."""
        test = next(name for name in ("test", "val") if (self.data / name).is_dir())
        for split, most in (("train", count), (test, TESTED)):
            for kind in sorted((self.data / split).iterdir()):
                (folder / split / kind.name).mkdir(parents=True)
                images = itertools.cycle(sorted(kind.iterdir()))
                for number, image in zip(range(most), images, strict=False):
                    shutil.copy(image, folder / split / kind.name / f"{number}{image.suffix}")
        return folder

    def _opening(self, folder: Path, index: Path) -> dict[str, float]:
        seconds = []
        for _ in range(2):
            started = time.perf_counter()
            open_source(f"folder:{folder}", image_size=self.image_size, index=index)
            seconds.append(time.perf_counter() - started)
        return {"first": seconds[0], "second": seconds[1], "ratio": seconds[1] / seconds[0]}

    def _memory(self, folders: list[Path], work: Path) -> dict[str, dict[str, float]]:
        """GiB of each verb on both folders."""
        weights = work / "resnet18.safetensors"
        network = models.create(
            "resnet18", num_classes=10, image_size=64, width=self.width, rngs=nnx.Rngs(0)
        )
        safetensors.numpy.save_file(to_torchvision(network), weights)
        size = ["--image-size", str(self.image_size)]
        epoch = ["--width", str(self.width), "--epochs", "1", "--early-epochs", "0"]
        used: dict[str, list[float]] = {}
        for folder in folders:
            source, made = f"folder:{folder}", work / f"made{folder.name}"
            teacher = str(made / "teacher")
            verbs = {
                "teacher": ["teacher", source, *size, *epoch, "--workdir", teacher],
                "teacher, weights": [
                    *("teacher", source, *size, "--weights", str(weights)),
                    *("--backbone", "resnet18", "--workdir", str(made / "adopted")),
                ],
                "distill": [
                    *("distill", source, "--teacher", teacher, "--workdir", str(made / "set")),
                    *("--recipe", "rded", "--images-per-class", "1", "--pool", "20"),
                ],
                "student": [
                    *("student", str(made / "set"), source, "--teacher", teacher),
                    *("--epochs", "2", "--seeds", "0", "--width", str(self.width)),
                ],
            }
            for verb, words in verbs.items():
                used.setdefault(verb, []).append(_peak(words, work))
                print(folder.name, verb, round(used[verb][-1], 2), flush=True)
        return {v: {"small": a, "large": b, "ratio": b / a} for v, (a, b) in used.items()}

    def _epochs(self, folder: Path, work: Path) -> dict[str, float]:
        """Seconds of an epoch from memory and from disk, and how many from memory one from disk is.

        Each is the median of three rounds; rounds alternate.
        """
        seconds: dict[str, list[float]] = {"memory": [], "disk": []}
        for number in range(3):
            for place, flag in (("memory", "True"), ("disk", "False")):
                took = []
                for epochs in (1, 3):
                    words = [
                        *("teacher", f"folder:{folder}", "--image-size", str(self.image_size)),
                        *("--width", str(self.width), "--epochs", str(epochs)),
                        *("--early-epochs", "0", "--in-memory", flag),
                        *("--workdir", str(work / f"epochs{number}{place}{epochs}")),
                    ]
                    started = time.perf_counter()
                    _peak(words, work)
                    took.append(time.perf_counter() - started)
                seconds[place].append((took[1] - took[0]) / 2)
                print(place, round(seconds[place][-1], 2), flush=True)
        memory, disk = (sorted(seconds[place])[1] for place in ("memory", "disk"))
        return {"memory": memory, "disk": disk, "throughput": memory / disk}


def _peak(words: list[str], work: Path) -> float:
    """GiB that a verb used at most."""
    places = {"XDG_CACHE_HOME": str(work / "cache"), "JAX_COMPILATION_CACHE_DIR": str(work / "jax")}
    process = subprocess.Popen(
        [sys.executable, "-m", "infoutil_jax.app.cli", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, **places},
    )
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"infoutil {' '.join(words)} failed: {said}")
    return usage.ru_maxrss / 2**20


if __name__ == "__main__":
    tyro.cli(LargeSources).run()
