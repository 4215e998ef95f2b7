"""Runs the cells of a table, from raw images: teacher, distilled set, students, one JSON a cell.

    python -m experiments.run table1 --dataset cifar10 --backbone convnet3 --data folder:PATH

Results go to `experiments/results/<dataset>_<backbone>/`, those of a reduced run to that name with
`_reduced`. A cell that has a result is not run again; teachers and scored pools in the working
directory are shared between cells, tables and calls. Without an accelerator width, training set,
image side and seeds are reduced (see `experiments.datasets.DATASETS`), and every file says so;
`--reduced` asks for that elsewhere. `smoke` runs every table at toy size.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro

from experiments.cells import ROWS, TABLES, Cell
from experiments.datasets import DATASETS
from experiments.report import write_reports
from experiments.setting import Setting
from infoutil_jax import models
from infoutil_jax.errors import InputError

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Experiment:
    """One table on one dataset with one backbone."""

    table: Annotated[str, tyro.conf.Positional]
    """A name of experiments.cells.TABLES, "all", or "smoke": all at toy size on the digits."""
    dataset: str = "cifar10"
    """A name of experiments.datasets.DATASETS."""
    backbone: str = "convnet3"
    """Of the teacher, and of the student where a row does not name another."""
    data: str | None = None
    """folder:PATH or tfds:NAME; by default where the dataset is published."""
    data_dir: str | None = None
    """Where TFDS keeps its datasets."""
    note: str | None = None
    """What sets this copy of the dataset apart, said beside its figures: "JPEG", say."""
    rows: tuple[str, ...] | None = None
    """Only these rows; by default all of the table."""
    budgets: tuple[int, ...] | None = None
    """Images a class; by default the table's."""
    reduced: bool | None = None
    """Whether to shrink what takes the time; by default where there is no accelerator."""
    width: int | None = None
    """By default 128, or the dataset's reduced width."""
    image_size: int | None = None
    """Side in pixels; by default the paper's, or the reduced one."""
    max_per_class: int | None = None
    """Training images a class; by default all, or the reduced number."""
    teacher_epochs: int | None = None
    """Of the converged teacher; by default 30, or 20 on a reduced set."""
    early_epochs: int = 10
    """Of the early teacher (paper: 10)."""
    teacher: Path | None = None
    """Where teachers lie that were trained with these arguments, as `experiments/teachers` has
    them; by default they are trained in the working directory."""
    student_epochs: int = 300
    """Passes over a distilled set (RDED: 300)."""
    inversion_iterations: int = 1000
    """Of SRe2L (its authors': 1,000 at 32 pixels, 4,000 above)."""
    pool: int = 300
    """Training images of a class that compete (paper: 300)."""
    seeds: tuple[int, ...] | None = None
    """Students; by default three, or on a reduced set one at 50 and more images a class."""
    seed: int = 0
    """Of the teacher."""
    set_seed: int = 0
    """Of the pool, its crops and what is drawn among them: each seed is another distilled set."""
    workdir: Path = Path("runs/experiments")
    """Teachers, pools and distilled sets."""
    results: Path = RESULTS
    """Where the JSON files go."""

    @property
    def small(self) -> bool:
        """Whether this run is reduced."""
        return jax.default_backend() == "cpu" if self.reduced is None else self.reduced

    @property
    def folder(self) -> str:
        """Of its results, and of what it makes on the way."""
        return f"{self.dataset}_{self.backbone}" + ("_reduced" if self.small else "")

    def run(self) -> None:
        """Run what has no result yet, then render the tables."""
        if self.table not in (*TABLES, "all"):
            raise InputError(f"table {self.table!r} is unknown: choose {', '.join(TABLES)} or all.")
        tables = list(TABLES) if self.table == "all" else [self.table]
        if self.dataset not in DATASETS:
            raise InputError(f"dataset {self.dataset!r} is unknown: choose {', '.join(DATASETS)}.")
        if self.backbone not in models.BACKBONES:
            raise InputError(
                f"not run: backbone {self.backbone!r} is not there; choose "
                f"{', '.join(models.BACKBONES)}."
            )
        for name in self.rows or ():
            if name not in ROWS:
                raise InputError(f"row {name!r} is unknown: experiments.cells.ROWS lists them.")
        cells = {
            self._file(cell): cell
            for name in tables
            for cell in TABLES[name].cells(self.budgets)
            if not self.rows or cell.row.name in self.rows
        }
        folder = self.results / self.folder
        missing = [cell for file, cell in cells.items() if not (folder / file).exists()]
        if missing:
            folder.mkdir(parents=True, exist_ok=True)
            self._run_cells(missing, folder)
        write_reports(self.results)

    def _file(self, cell: Cell) -> str:
        """Name of a cell's result; the first set's is the cell's own."""
        stem = cell.file.removesuffix(".json")
        return f"{stem}-set{self.set_seed}.json" if self.set_seed else cell.file

    def _run_cells(self, cells: list[Cell], folder: Path) -> None:
        setting = Setting.prepare(self)
        print({stage: t.accuracy for stage, t in setting.teachers.items()}, flush=True)
        for cell in cells:
            try:
                result = setting.run(cell)
            except InputError as error:
                print(f"{self._file(cell):44s} not run: {error}", file=sys.stderr, flush=True)
                continue
            path = folder / self._file(cell)
            save(path, result)
            print(f"{path.name:44s} {result['student']['top1_mean']:.1f}", flush=True)


def save(path: Path, result: dict[str, Any]) -> None:
    """Write a result, whole or not at all."""
    path.with_suffix(".part").write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".part").rename(path)


def smoke(results: Path | None = None) -> None:
    """Every row of every table on the digits, at toy size."""
    with tempfile.TemporaryDirectory() as scratch:
        toy = partial(
            Experiment,
            dataset="digits",
            budgets=(1,),
            width=8,
            max_per_class=20,
            teacher_epochs=2,
            early_epochs=1,
            student_epochs=2,
            inversion_iterations=5,
            image_size=32,  # convnet5 halves five times
            pool=15,
            seeds=(0,),
            workdir=Path(scratch) / "work",
            results=results or Path(scratch) / "results",
        )
        toy("all").run()
        done = len(list((results or Path(scratch) / "results").rglob("*.json")))
        wanted = len({c.file for table in TABLES.values() for c in table.cells((1,))})
        print(f"smoke: {done} of {wanted} cells ran")
        if done != wanted:
            raise InputError(f"smoke: {wanted - done} cells did not run; see above.")


def main() -> int:
    """Entry point; returns the exit code."""
    experiment = tyro.cli(Experiment, description=__doc__)
    try:
        if experiment.table == "smoke":
            # Its programs run for milliseconds; compiling them well is what would take the time.
            jax.config.update("jax_disable_most_optimizations", True)
            smoke()
        else:
            experiment.run()
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
