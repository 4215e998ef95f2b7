"""Runs the cells of a table, from raw images: teacher, distilled set, students, one result a cell.

    python -m experiments.run table1 --dataset cifar10 --backbone convnet3 --data folder:PATH

Results go to `experiments/results/<dataset>_<backbone>/`, those of a reduced run to that name with
`_reduced`, as `experiments.store` lays them out. A cell that has a result is not run again; cells,
tables and calls share the teachers and scored pools in the working directory. Without an
accelerator, width, training set, image side and seeds are reduced (see
`experiments.datasets.DATASETS`), and every result says so; `--reduced` asks for that elsewhere.
`smoke` runs every table at toy size.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import tyro

from experiments import store
from experiments.cells import ROWS, Cell
from experiments.datasets import DATASETS
from experiments.report import write_reports
from experiments.setting import Setting
from experiments.tables import TABLES
from infoutil_jax import models
from infoutil_jax.distillation import DistillConfig
from infoutil_jax.errors import InputError
from infoutil_jax.training.config import StudentConfig

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Experiment:
    """One table on one dataset with one backbone."""

    table: Annotated[str, tyro.conf.Positional]
    """A name of experiments.tables.TABLES, "all", or "smoke" for all at toy size on the digits."""
    dataset: str = "cifar10"
    """A name of experiments.datasets.DATASETS."""
    backbone: str = "convnet3"
    """The teacher's, and the student's unless a row names another."""
    data: str | None = None
    """folder:PATH or tfds:NAME; by default where the dataset is published."""
    data_dir: str | None = None
    """Where TFDS keeps its datasets."""
    note: str | None = None
    """What sets this copy of the dataset apart, such as "JPEG"; it is shown beside the figures."""
    rows: tuple[str, ...] | None = None
    """Rows to run; by default all of the table."""
    budgets: tuple[int, ...] | None = None
    """Images a class; by default the table's."""
    reduced: bool | None = None
    """Whether to run at reduced size; by default only where there is no accelerator."""
    width: int | None = None
    """Channels of the backbone; by default 128, or the dataset's reduced width."""
    image_size: int | None = None
    """Side in pixels; by default the paper's, or the reduced one."""
    max_per_class: int | None = None
    """Training images a class; by default all, or the reduced number."""
    teacher_epochs: int | None = None
    """Epochs of the converged teacher; by default 30, or 20 at reduced size."""
    early_epochs: int = 10
    """Epochs of the early teacher (paper: 10)."""
    teacher: Path | None = None
    """Folder of teachers trained with these arguments, such as those in `experiments/teachers`; by
    default they are trained in the working directory."""
    student_epochs: int = StudentConfig.epochs
    """Passes of a student over a distilled set (RDED: 300)."""
    inversion_iterations: int = 1000
    """Optimisation steps of SRe2L (its authors: 1,000 at 32 pixels, 4,000 above)."""
    pool: int | None = DistillConfig.pool
    """Training images of a class that compete (paper: 300); None for all."""
    seeds: tuple[int, ...] | None = None
    """One student each; by default three, or at reduced size one from 50 images a class on."""
    seed: int = 0
    """Seed of the teacher."""
    set_seed: int = 0
    """Seed of the pool, its crops and all further draws: each gives another distilled set."""
    validation: bool = False
    """Whether a fifth of the training images, which neither teachers nor pools see, take the place
    of the test images, for choices. Results lie under `validation`."""
    workdir: Path = Path("runs/experiments")
    """Folder of teachers, pools and distilled sets."""
    results: Path = RESULTS
    """The folder that has a folder for each setting."""

    @property
    def small(self) -> bool:
        """Whether this run is reduced."""
        return jax.default_backend() == "cpu" if self.reduced is None else self.reduced

    @property
    def folder(self) -> str:
        """Name of the setting: the folder of its results and, in `workdir`, of what it makes."""
        name = f"{self.dataset}_{self.backbone}" + ("_reduced" if self.small else "")
        return f"validation/{name}" if self.validation else name

    def run(self) -> None:
        """Run what has no result yet, then render the tables."""
        if self.table not in (*TABLES, "all"):
            raise InputError(f"table {self.table!r} is unknown: choose {', '.join(TABLES)} or all.")
        tables = list(TABLES) if self.table == "all" else [self.table]
        if self.dataset not in DATASETS:
            raise InputError(f"dataset {self.dataset!r} is unknown: choose {', '.join(DATASETS)}.")
        if self.backbone not in models.BACKBONES:
            raise InputError(
                f"not run: backbone {self.backbone!r} does not exist; choose "
                f"{', '.join(models.BACKBONES)}."
            )
        for name in self.rows or ():
            if name not in ROWS:
                raise InputError(f"row {name!r} is unknown: experiments.cells.ROWS lists them.")
        folder = self.results / self.folder
        cells = {
            cell.key(): cell
            for name in tables
            for cell in TABLES[name].cells(self.budgets)
            if not self.rows or cell.row.name in self.rows
        }
        self.fill(list(cells.values()), folder)
        if not self.validation:
            self.results.mkdir(parents=True, exist_ok=True)
            write_reports(self.results)

    def fill(self, cells: list[Cell], folder: Path) -> None:
        """Run those of the cells that have no result in the folder."""
        done = store.cells(folder)
        missing = [cell for cell in cells if cell.key(self.set_seed) not in done]
        if not missing:
            return
        setting = Setting.prepare(self)
        print({stage: t.accuracy for stage, t in setting.teachers.items()}, flush=True)
        for cell in missing:
            key = cell.key(self.set_seed)
            if store.has(folder, key):  # a process beside this one has run it meanwhile
                continue
            try:
                result = setting.run(cell)
            except InputError as error:
                print(f"{key!s:44s} not run: {error}", file=sys.stderr, flush=True)
                continue
            store.add_cell(folder, result)
            print(f"{key!s:44s} {result['student']['top1_mean']:.1f}", flush=True)


def smoke(results: Path | None = None) -> None:
    """Run every row of every table on the digits, at toy size."""
    with tempfile.TemporaryDirectory() as scratch:
        toy = Experiment(
            "all",
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
        toy.run()
        done = len(store.cells(toy.results / toy.folder))
        wanted = len({cell.key() for table in TABLES.values() for cell in table.cells((1,))})
        print(f"smoke: {done} of {wanted} cells ran")
        if done != wanted:
            raise InputError(f"smoke: {wanted - done} cells did not run; see above.")


def main() -> int:
    """Entry point; returns the exit code."""
    experiment = tyro.cli(Experiment, description=__doc__)
    try:
        if experiment.table == "smoke":
            # Its programs run for milliseconds, so optimising them takes longer than it saves.
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
