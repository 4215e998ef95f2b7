r"""How far one row leads others, set by set: the same pool, the same teacher, the same students.

    python -m experiments.leads                     # infoutil, on test images
    python -m experiments.leads --results experiments/results/validation \
        --row rded --rivals random
    python -m experiments.leads --results experiments/results/validation \
        --row infoutil-LABELS-uncentred

A lead is the mean over distilled sets of the difference between two rows on one set (the mean of
its students), beside half the width of its 95% interval (Student's t over the sets). A second table
has the mean over settings of the lead over whichever rival is best there, beside half the width of
its 95% interval over the settings. Writes `leads-ROW.md` into the results.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments import store
from experiments.cells import LABELS
from experiments.report import named, settings
from infoutil_jax.app.accounts import mean_interval

RESULTS = Path(__file__).parent / "results"
RIVALS = ("random", "rded", "rded-by-early")
OTHERS = ("tiles1-infoutil", "tiles1-random", "tiles1-rded")


@dataclass(frozen=True)
class Leads:
    """What is compared."""

    row: str = "infoutil"
    """The row that leads, or not; what names its labels goes to the end, or where LABELS stands."""
    results: Path = RESULTS
    """The folder that has a folder for each setting."""
    rivals: tuple[str, ...] = RIVALS
    """Rows over which the lead is told, each on its own."""
    others: tuple[str, ...] = OTHERS
    """Further rows that are shown."""

    def run(self) -> None:
        """Print and write the table."""
        text = f"{self.table()}\n{self.summary()}"
        self.file.write_text(text)
        print(text)

    @property
    def file(self) -> Path:
        """Where the table is written."""
        return self.results / f"leads-{self.row.replace('-LABELS', '')}.md"

    def table(self) -> str:
        """Every cell with at least one rival, as Markdown."""
        shown = (self.row, *self.rivals, *self.others)
        over = [f"over {rival}" for rival in self.rivals]
        lines = [
            "Top-1 in percent, mean ± deviation over distilled sets; the lead of "
            f"`{self.row}` over each rival, set by set, with its 95% interval.",
            "",
            "| " + " | ".join(["setting", "a class", "labels", "sets", *shown, *over]) + " |",
            "|" + " --- |" * (4 + len(shown) + len(over)),
        ]
        for folder in settings(self.results):
            found = by_row(store.cells(self.results / folder).values())
            for budget in sorted({budget for _, budget in found}):
                for end, labels in LABELS.items():
                    sets = {row: found.get((of_labels(row, end), budget), {}) for row in shown}
                    if not sets[self.row] or not any(sets[rival] for rival in self.rivals):
                        continue
                    place = f"{' '.join(named(folder))} | {budget} | {labels}"
                    lines.append(f"| {place} | {self._cells(sets)} |")
        return "\n".join(lines) + "\n"

    def summary(self) -> str:
        """The mean lead over the best rival, by budget and labels, as Markdown."""
        leads: dict[int, dict[str, list[float]]] = {}
        for folder in settings(self.results):
            found = by_row(store.cells(self.results / folder).values())
            for budget in sorted({budget for _, budget in found}):
                for end, labels in LABELS.items():
                    ours = found.get((of_labels(self.row, end), budget), {})
                    rivals = [found.get((of_labels(r, end), budget), {}) for r in self.rivals]
                    if not ours or any(one.keys() != ours.keys() for one in rivals):
                        continue  # not every set has every rival yet
                    best = max(float(np.mean(list(one.values()))) for one in rivals)
                    apart = float(np.mean(list(ours.values()))) - best
                    leads.setdefault(budget, {}).setdefault(labels, []).append(apart)
        lines = [
            f"The lead of `{self.row}` over the best of {', '.join(self.rivals)}, whichever that "
            "is in a setting: mean over settings, as many as are told, with its 95% interval.",
            "",
            "| a class | " + " | ".join(LABELS.values()) + " |",
            "|" + " --- |" * (1 + len(LABELS)),
        ]
        for budget, by_label in sorted(leads.items()):
            each = [by_label.get(labels, []) for labels in LABELS.values()]
            told = [f"{mean_lead(one)} (of {len(one)})" if one else "" for one in each]
            lines.append(f"| {budget} | {' | '.join(told)} |")
        return "\n".join(lines) + "\n"

    def _cells(self, sets: Mapping[str, Mapping[int, float]]) -> str:
        ours = sets[self.row]
        figures = [spread(list(found.values())) for found in sets.values()]
        leads = [lead(ours, sets[rival]) for rival in self.rivals]
        return " | ".join([str(len(ours)), *figures, *leads])


def of_labels(row: str, end: str) -> str:
    """The name of a row under labels, whose name is `end`."""
    return row.replace("-LABELS", end) if "-LABELS" in row else f"{row}{end}"


def by_row(results: Iterable[store.Result]) -> dict[tuple[str, int], dict[int, float]]:
    """(row, budget) -> set seed -> mean top-1 of the set's students."""
    found: dict[tuple[str, int], dict[int, float]] = {}
    for result in results:
        key = store.Key.of(result)
        found.setdefault((key.row, key.budget), {})[key.set_seed] = result["student"]["top1_mean"]
    return found


def lead(ours: Mapping[Any, float], theirs: Mapping[Any, float]) -> str:
    """Mean difference over the sets that both have, and half of its 95% interval."""
    both = sorted(ours.keys() & theirs.keys())
    if not both:
        return ""
    return mean_lead([ours[seed] - theirs[seed] for seed in both])


def mean_lead(leads: Sequence[float]) -> str:
    """Their mean and, of several, half of its 95% interval."""
    mean, half = mean_interval(leads)
    return f"{mean:+.1f}" if half is None else f"{mean:+.1f} ± {half:.1f}"


def spread(values: list[float]) -> str:
    """Mean and, of several, the standard deviation."""
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"


if __name__ == "__main__":
    tyro.cli(Leads, description=__doc__).run()
