"""How far one folder of results is from another: what a second machine made of the same cells.

    python -m experiments.run table1 --dataset cifar10 --backbone convnet3 --data folder:PATH \
        --results MINE
    python -m experiments.reproduced MINE

Compared are cells that both have, with as many students, more than one. A cell's difference is that
of the means; it is within the spread where it is at most the larger of the two standard deviations
over students.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments.report import RESULTS, settings
from infoutil_jax.errors import InputError


@dataclass(frozen=True)
class Reproduced:
    """Compares two folders of results."""

    mine: tyro.conf.Positional[Path]
    """Results of one machine, as `experiments.run --results` writes them."""
    theirs: Path = RESULTS
    """Of the other; by default those that are committed."""
    save: Path | None = None
    """Where the comparison goes, as JSON."""

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
        for path in sorted((self.mine / folder).glob("*.json")):
            other = self.theirs / folder / path.name
            pair = [json.loads(p.read_text()) for p in (path, other) if p.exists()]
            students = [result["student"] for result in pair]
            counts = {len(student["top1"]) for student in students}
            if len(pair) == 2 and pair[0] != pair[1] and len(counts) == 1 and counts != {1}:
                cells[path.stem] = {
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
