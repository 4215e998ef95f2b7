"""Do the programs of a set's README.md reach our own students' accuracy?

    python -m experiments.other_programs digits --images-per-class 10 --python VENV/bin/python

A set is distilled from raw images, and our students are trained on its stored soft labels, with
CutMix and without. Each program of its README.md is run as it stands, in a process of its own, and
tested on the same test images. `--python` is an interpreter with torch, torchvision, safetensors
and Pillow (the extra `parity`); Flax and Keras run in this one, Keras on any of its backends.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from infoutil_jax import provenance
from infoutil_jax.app.config import RecipeConfig, RunConfig
from infoutil_jax.app.pipeline import run
from infoutil_jax.app.students import train_students
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.sources import open_source
from infoutil_jax.errors import InputError
from infoutil_jax.training.config import StudentConfig, TeacherConfig

RESULTS = Path(__file__).parent / "results" / "other_programs"
# What tests the model that a program leaves behind: class by class, on images of our own size.
TESTS = {
    "PyTorch": """
model.eval()
with torch.no_grad():
    found = model(torch.tensor(test_images).permute(0, 3, 1, 2)).argmax(1).numpy()
versions = {"torch": torch.__version__, "torchvision": __import__("torchvision").__version__}
""",
    "JAX": """
model.eval()
found = np.asarray(model(test_images)).argmax(1)
versions = {"jax": jax.__version__, "flax": __import__("flax").__version__}
""",
    "Keras": """
found = model.predict(test_images, verbose=0).argmax(1)
versions = {"keras": keras.__version__, "backend": keras.backend.backend()}
""",
}
BEFORE = """
import numpy as np
test = np.load({test!r})
test_images, test_labels = test["images"], test["labels"]
"""
AFTER = """
import json
print(json.dumps({"top1": 100 * float((found == test_labels).mean()), "versions": versions}))
"""


def programs(readme: str) -> dict[str, str]:
    """The programs of a set's README.md by the library that they use."""
    found = re.findall(r"^(PyTorch|JAX|Keras)[^\n]*:\n\n```python\n(.*?)^```$", readme, re.M | re.S)
    return dict(found)


def lines_of(program: str) -> int:
    """How many lines of a program are not blank."""
    return sum(bool(line.strip()) for line in program.splitlines())


def normalised_tests(
    distilled: DistilledDataset, images: np.ndarray, labels: np.ndarray, to: Path
) -> None:
    """Writes test images, normalised as the manifest says, and labels."""
    mean, std = (distilled.manifest["normalisation"][name] for name in ("mean", "std"))
    np.savez(to, images=np.float32((images / 255 - mean) / std), labels=labels)


def accuracy(library: str, program: str, folder: Path, test: Path, python: str) -> dict:
    """Runs a program in `folder` and returns its model's accuracy, and the versions it ran on."""
    whole = BEFORE.format(test=str(test)) + program + TESTS[library] + AFTER
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": ""}
    done = subprocess.run(
        [python, "-c", whole], cwd=folder, capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise InputError(f"the program for {library} failed: {done.stderr[-2000:]}")
    found: dict = json.loads(done.stdout.splitlines()[-1])
    return found


@dataclass(frozen=True)
class OtherPrograms:
    """Compare the programs of a set's README.md with our students."""

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE")]
    """digits, folder:PATH or tfds:NAME."""
    images_per_class: int = 10
    """The budget."""
    tiles: int = 1
    """Crops an image."""
    width: int = 128
    """Of the students, as in the programs."""
    runs: int = 3
    """Of each program, and of our students: seeds 0, 1, ..."""
    libraries: tuple[str, ...] = tuple(TESTS)
    """Whose programs are run; of none, the file's name ends in -ours."""
    python: dict[str, str] = field(default_factory=dict)
    """Interpreter of a library, where it is not this one: `PyTorch PATH`."""
    image_size: int | Literal["auto"] = "auto"
    """Side in pixels."""
    max_per_class: int | None = None
    """Images of each class and split that are taken from the source; all by default."""
    teacher: TeacherConfig = TeacherConfig()
    """The network that is distilled with."""

    def run(self) -> None:
        """Run all and write a file."""
        source = open_source(
            self.source, image_size=self.image_size, max_per_class=self.max_per_class
        )
        student = StudentConfig(labels="stored", width=self.width, seeds=tuple(range(self.runs)))
        config = RunConfig(
            images_per_class=self.images_per_class,
            recipe=RecipeConfig(tiles=self.tiles),
            teacher=self.teacher,
            student=student,
        )
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            summary = run(source, work, config, progress=False)
            print("our students:", np.round(summary["student"]["top1"], 1), flush=True)
            distilled = DistilledDataset.load(work / "distilled")
            # Which the programs do not have.
            alike = replace(student, cutmix=False)
            unmixed = train_students(distilled, source, None, alike, progress=False).top1.tolist()
            print("our students without CutMix:", np.round(unmixed, 1), flush=True)
            normalised_tests(distilled, *source.test.arrays(), work / "test.npz")
            texts = programs((work / "distilled" / "README.md").read_text())
            rows = {}
            for library in self.libraries:
                text = texts[library]
                python = self.python.get(library, sys.executable)
                place = work / "distilled", work / "test.npz", python
                found = [accuracy(library, text, *place) for _ in range(self.runs)]
                rows[library] = {
                    "lines": lines_of(text),
                    "top1": [one["top1"] for one in found],
                    "versions": found[0]["versions"],
                }
                print(
                    library,
                    lines_of(text),
                    "lines:",
                    np.round(rows[library]["top1"], 1),
                    flush=True,
                )
        result = {
            "arguments": provenance.describe(replace(self, source=source.name, python={})),
            "ours": summary["student"]["top1"],
            "ours_without_cutmix": unmixed,
            "programs": rows,
            "versions": provenance.versions(),
            "hardware": provenance.hardware(),
        }
        RESULTS.mkdir(parents=True, exist_ok=True)
        ours = "" if self.libraries else "-ours"
        file = RESULTS / f"{source.name}-{self.images_per_class}-{self.tiles}{ours}.json"
        file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    try:
        tyro.cli(OtherPrograms).run()
    except InputError as error:
        sys.exit(f"other_programs: {error}")
