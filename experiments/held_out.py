"""Do the leads hold on images and on a draw of the pool that no reduced run has used?

    python -m experiments.held_out all --dataset cifar10 --backbone convnet3 --data folder:PATH \
        --reduced True

Our recipes were chosen by the accuracy of students on the test images. A reduced run uses only some
of the training images: here students are tested on all others, and the pool is another draw.
Arguments are those of `experiments.run`. Writes to `experiments/results/held_out`, laid out as
`experiments.run` does it, and `table.md` from all results there.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import tyro

from experiments import store
from experiments.cells import ROWS, Cell
from experiments.report import named, settings, top1
from experiments.run import Experiment
from experiments.setting import Setting
from infoutil_jax import open_source
from infoutil_jax.data.sources import Source
from infoutil_jax.errors import InputError

RESULTS = Path(__file__).parent / "results" / "held_out"
ROWS_BY_DEFAULT = tuple(
    f"{name}{end}"
    for end in ("", "-hard")
    for name in ("infoutil_kernel", "rded", "rded-by-early", "random")
)
SET_SEED = 3  # the grids drew 0 to 2


def untouched(small: Source, whole: Source) -> Source:
    """`small`, with the training images of `whole` that it does not have as test images."""
    used = set(small.train.ids)
    rest = [index for index, name in enumerate(whole.train.ids) if name not in used]
    if not rest:
        raise InputError(f"{small.spec} is used whole, so no image is left to test on: reduce it")
    return replace(small, test=whole.train.take(np.array(rest)))


def run(experiment: Experiment) -> None:
    """Run the rows that have no result yet, then write the table."""
    chosen = replace(experiment, set_seed=experiment.set_seed or SET_SEED)
    setting = Setting.prepare(chosen)
    used = setting.source
    whole = open_source(used.spec, image_size=used.image_size, data_dir=chosen.data_dir)
    setting = replace(setting, source=untouched(used, whole))
    folder = chosen.results / chosen.folder
    for budget in chosen.budgets or (1, 10):
        for row in chosen.rows or ROWS_BY_DEFAULT:
            cell = Cell(ROWS[row], budget)
            if not store.has(folder, cell.key(chosen.set_seed)):
                store.add_cell(folder, setting.run(cell))
    (chosen.results / "table.md").write_text(table(chosen.results))


def table(results: Path) -> str:
    """The results of all settings, as Markdown."""
    lines = ["Students of another draw of the pool, tested on images that no reduced run had used."]
    for setting in settings(results):
        found = list(store.cells(results / setting).values())
        cells = {store.Key.of(result)[:2]: result for result in found}
        budgets = sorted({budget for _, budget in cells})
        rows = [row for row in ROWS if any(name == row for name, _ in cells)]
        images = found[0]["source"]["test_images"]
        lines += ["", f"## {found[0]['dataset']}, {named(setting)[1]}, {images} images", ""]
        lines += ["| | " + " | ".join(f"{b} / class" for b in budgets) + " |"]
        lines += ["|" + " --- |" * (len(budgets) + 1)]
        lines += [
            f"| {row} | " + " | ".join(top1(cells.get((row, b))) for b in budgets) + " |"
            for row in rows
        ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Entry point; returns the exit code."""
    experiment = tyro.cli(Experiment, description=__doc__, default=Experiment("all"))
    if experiment.results == Experiment("all").results:
        experiment = replace(experiment, results=RESULTS)
    try:
        run(experiment)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
