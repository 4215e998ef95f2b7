"""Runs one table on all its settings, several processes at once, each of which takes a setting.

    python -m experiments.grid --data DIR --validation    # to choose by
    python -m experiments.freeze                          # what was chosen
    python -m experiments.grid --data DIR                 # and its test

`DIR` holds the image folders that `PLACES` names; a setting without its folder is passed over. Test
images are read only for what `experiments.freeze` has written down. Give a command again to go on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.freeze import FROZEN, check_frozen
from experiments.run import RESULTS
from infoutil_jax.errors import InputError


@dataclass(frozen=True)
class Place:
    """A dataset and a backbone, and where and how the table is run on them."""

    dataset: str
    backbone: str
    folder: str | None
    """Below the folder of all data; None for a dataset that is built in."""
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As the folder of its results begins."""
        return f"{self.dataset}_{self.backbone}"


PLACES = (
    Place("imagenette", "convnet5", "imagenette128", ("--image-size", "128", "--width", "32")),
    Place("cifar10", "resnet18", "cifar10", ("--note", "JPEG")),
    Place("imagenette", "convnet4", "imagenette128"),
    Place("cifar10", "convnet3", "cifar10", ("--note", "JPEG")),
    # Pools of a part of the images, so that each set has another.
    Place("rsscn7", "convnet4", "rsscn7_96", ("--pool", "200")),
    Place("chest_xray", "convnet4", "chest_xray_96"),
    Place("hymenoptera", "convnet4", "hymenoptera", ("--pool", "80")),
    Place("digits", "convnet3", None, ("--pool", "100")),
)


@dataclass(frozen=True)
class Grid:
    """What is run."""

    data: Path
    """The folder of the image folders."""
    table: str = "recommended"
    """A name of experiments.tables.TABLES."""
    places: tuple[str, ...] = tuple(place.name for place in PLACES)
    """Settings, dataset_backbone; by default all."""
    rows: tuple[str, ...] = ()
    """Rows to run; by default all of the table."""
    budgets: tuple[int, ...] = (1, 10, 50)
    """Images a class."""
    set_seeds: tuple[int, ...] = (0, 1, 2)
    """Of the distilled sets."""
    seeds: tuple[int, ...] = ()
    """Of the students of each set; by default as `experiments.run` chooses."""
    validation: bool = False
    """As of `experiments.run`."""
    processes: int = 2
    """At once."""
    students: int = 1
    """As of `experiments.together`: on an accelerator, a few dozen."""
    workdir: Path = Path("runs/experiments")
    """As of `experiments.run`."""
    results: Path | None = None
    """As of `experiments.run`; by default `results`, or `results/recommended` for the test."""

    def run(self) -> int:
        """Run what has no result yet; returns how many processes failed."""
        if not self.validation:
            check_frozen()
        places = [place for place in PLACES if place.name in self.places]
        places = [p for p in places if p.folder is None or (self.data / p.folder).is_dir()]
        with ThreadPoolExecutor(self.processes) as pool:
            return sum(code != 0 for code in pool.map(self._call, places))

    def _call(self, place: Place) -> int:
        command = [sys.executable, "-m", "experiments.together", self.table]
        command += ["--dataset", place.dataset, "--backbone", place.backbone, "--reduced", "True"]
        if place.folder:
            command += ["--data", f"folder:{self.data / place.folder}"]
        command += [*place.options, "--students", str(self.students)]
        chosen = {
            "--rows": self.rows,
            "--budgets": self.budgets,
            "--set-seeds": self.set_seeds,
            "--seeds": self.seeds,
        }
        for flag, values in chosen.items():
            command += [flag, *map(str, values)] if values else []
        command += ["--validation"] if self.validation else []
        results = self.results or (RESULTS if self.validation else FROZEN.parent)
        command += ["--workdir", str(self.workdir), "--results", str(results)]
        shared = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # the accelerator's memory
        return subprocess.run(command, env={**os.environ, **shared}, check=False).returncode


def main() -> int:
    """Entry point; returns the exit code."""
    try:
        return min(1, tyro.cli(Grid, description=__doc__).run())
    except InputError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
