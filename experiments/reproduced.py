"""Compares two folders of results, for instance of two machines, cell by cell.

    python -m experiments.run table1 --dataset cifar10 --backbone convnet3 --data folder:PATH \
        --results MINE
    python -m experiments.reproduced MINE

It compares the cells that both folders have with the same number of students, two or more. A
cell's difference is that of the means; it is within the spread if it is at most the larger of the
two standard deviations over students.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments import store
from experiments.report import RESULTS, settings
from infoutil_jax.errors import InputError


@dataclass(frozen=True)
class Reproduced:
    """Compares two folders of results."""

    mine: tyro.conf.Positional[Path]
    """One folder, as `experiments.run --results` writes it."""
    theirs: Path = RESULTS
    """The other one; by default the committed results."""
    save: Path | None = None
    """The JSON file to write the comparison to; by default none."""

    def run(self) -> dict[str, Any]:
        """Compare, print and save."""
        found = {folder: self._compared(folder) for folder in settings(self.mine)}
        found = {folder: compared for folder, compared in found.items() if compared["cells"]}
        if not found:
            raise InputError(f"{self.mine} and {self.theirs} have no cell in common to compare.")
        for folder, compared in found.items():
            cells, apart = compared["cells"], compared["outside"]
            print(
                f"{folder}: {len(cells)} cells; means differ by {compared['mean']:.2f} on average, "
                f"{compared['median']:.2f} in the median; {len(cells) - len(apart)} within the "
                f"spread of students. Not: {', '.join(apart) or 'none'}"
            )
        if self.save:
            self.save.write_text(json.dumps(found, indent=1) + "\n")
        return found

    def _compared(self, folder: str) -> dict[str, Any]:
        cells = {}
        theirs = store.cells(self.theirs / folder)
        for key, mine in store.cells(self.mine / folder).items():
            pair = [mine, theirs[key]] if key in theirs else [mine]
            students = [result["student"] for result in pair]
            counts = {len(student["top1"]) for student in students}
            if len(pair) == 2 and pair[0] != pair[1] and len(counts) == 1 and counts != {1}:
                cells[str(key)] = {
                    "means": [student["top1_mean"] for student in students],
                    "stds": [student["top1_std"] for student in students],
                    "devices": [result["hardware"]["device"] for result in pair],
                    "versions": [result["versions"] for result in pair],
                    "teachers": [result["teacher_digest"]["converged"][:8] for result in pair],
                }
        apart = {name: abs(np.diff(cell["means"])[0]) for name, cell in cells.items()}
        return {
            "mean": float(np.mean(list(apart.values()))) if apart else None,
            "median": float(np.median(list(apart.values()))) if apart else None,
            "outside": [name for name, d in apart.items() if d > max(cells[name]["stds"])],
            "cells": cells,
        }


def main() -> int:
    """Entry point; returns the exit code."""
    try:
        tyro.cli(Reproduced, description=__doc__).run()
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
