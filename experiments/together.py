r"""Runs cells as `experiments.run` does, the students of many distilled sets side by side.

    python -m experiments.together recommended --dataset digits --validation --set-seeds 0 1 2

On an accelerator that one student of a small set leaves idle, this takes a fraction of the time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro

from experiments import store
from experiments.cells import Cell
from experiments.run import Experiment
from experiments.setting import Setting
from infoutil_jax.app.students import summarise
from infoutil_jax.errors import InputError
from infoutil_jax.training.student import train_student
from infoutil_jax.training.supervision import Supervision

Job = tuple[Setting, Cell]
APART = ("everything", "sre2l")  # no pool is scored for these


@dataclass(frozen=True)
class Together(Experiment):
    """One table on one dataset with one backbone, of several sets at once."""

    set_seeds: tuple[int, ...] = (0, 1, 2)
    """Of the distilled sets, instead of set_seed."""
    students: int = 24
    """Trained side by side, at most."""

    def fill(self, cells: list[Cell], folder: Path) -> None:
        """Run those of the cells that have no result in the folder.

        Rows of several steps, and those that score no pool, run one by one.
        """
        apart = [c for c in cells if c.row.steps > 1 or c.row.recipe.recipe in APART]
        for seed in self.set_seeds:
            Experiment.fill(replace(self, set_seed=seed), apart, folder)
        done, rest = store.cells(folder), [cell for cell in cells if cell not in apart]
        missing = [(s, c) for c in rest for s in self.set_seeds if c.key(s) not in done]
        if not missing:
            return
        one = Setting.prepare(self)
        print({stage: t.accuracy for stage, t in one.teachers.items()}, flush=True)
        seeds = {s: replace(one, experiment=replace(self, set_seed=s)) for s in self.set_seeds}
        groups: dict[str, list[Job]] = {}
        for seed, cell in missing:
            recipe = one.recipe(cell)
            about = f"{cell.images_per_class} {recipe.tiles} {recipe.parted}"
            key = f"{about} {cell.row.label_stage} {one.student(cell)}"
            groups.setdefault(key, []).append((seeds[seed], cell))
        for group in groups.values():
            at_once = max(1, self.students // len(one.student(group[0][1]).seeds))
            for first in range(0, len(group), at_once):
                for result in run_together(group[first : first + at_once], at_once, self.students):
                    store.add_cell(folder, result)
                    print(store.Key.of(result), result["student"]["top1_mean"], flush=True)


def run_together(jobs: list[Job], at_once: int, students: int) -> Iterator[store.Result]:
    """The results of cells whose students learn alike, from sets of as many images.

    Args:
        jobs: settings of one source, with a cell each; one budget, one kind of student.
        at_once: sets that one program trains on. Fewer jobs are filled up, so that it serves all.
        students: that it trains side by side, at most.
    """
    made = []
    for setting, cell in jobs:
        try:
            made.append((setting, cell, *setting.distil(cell)))
        except InputError as error:
            key = cell.key(setting.experiment.set_seed)
            print(f"{key!s:44s} not run: {error}", file=sys.stderr, flush=True)
    if not made:
        return
    setting, cell = made[0][:2]
    labeller = setting.labeller(cell)
    sets = [distilled for _, _, distilled, _ in made]
    config = setting.student(cell).asked(sets[0].manifest["training"])
    filled = [*sets, *[sets[-1]] * (at_once - len(sets))]
    each = [one for one in filled for _ in config.seeds]
    many = replace(config, seeds=config.seeds * len(filled), seeds_at_once=min(students, len(each)))
    trained = train_student(
        (np.stack([one.images for one in each]), sets[0].labels),
        setting.source.test.arrays(),
        many.resolve(setting.source),
        supervision=Supervision(
            num_classes=len(setting.source.class_names),
            teacher=labeller,
            soft_labels=np.stack([one.soft_labels for one in each]),
            tiles=sets[0].soft_labels.shape[1],
        ),
    )
    for number, (setting, cell, _, about) in enumerate(made):
        own = slice(number * len(config.seeds), (number + 1) * len(config.seeds))
        mine = trained._replace(
            top1=trained.top1[own],
            top5=trained.top5[own],
            ece=trained.ece[own],
            seconds=trained.seconds / len(made),
        )
        seconds = round(about["distill_seconds"] + mine.seconds, 1)
        shared = {"seconds": seconds, "students_at_once": many.seeds_at_once}
        yield setting.result(cell, [summarise(mine)], {**about, **shared})


def main() -> int:
    """Entry point; returns the exit code."""
    try:
        tyro.cli(Together, description=__doc__).run()
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
