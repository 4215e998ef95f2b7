r"""A whole set by the printed rule: how long beside an earlier revision, and beside RDED's rule?

    python -m experiments.benchmarks.whole_sets REVISION --data folder:PATH/cifar10

`infoutil distill` by the working tree and by a checkout of REVISION, with one teacher, in turn,
each in a process of its own. The first round compiles and is not counted. Crops are the same where
example and box are. Of RDED's rule the working tree's own is timed; that in PyTorch takes longer
(`distill_peer`).
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments.revisions import ROOT, checkout, seconds_of
from infoutil_jax import provenance

RESULT = ROOT / "experiments" / "results" / "benchmarks" / "whole_sets.json"
TEACHER = ROOT / "experiments" / "teachers" / "cifar10_convnet3_reduced"


@dataclass(frozen=True)
class WholeSets:
    """Seconds of a set, from files to files."""

    revision: Annotated[str, tyro.conf.Positional]
    """Of the repository."""
    data: str
    """folder:PATH of CIFAR-10."""
    teacher: Path = TEACHER
    """Folder of `infoutil teacher`."""
    recipe: str = "infoutil_paper"
    """The printed rule."""
    budgets: tuple[int, ...] = (1, 10)
    """Images a class."""
    pool: int = 300
    """Training images of a class."""
    rounds: int = 2
    """That count."""
    result: Path = RESULT
    """Where the JSON goes."""

    def run(self) -> None:
        """Measure, print, write."""
        record: dict[str, Any] = {}
        with (
            tempfile.TemporaryDirectory() as scratch,
            checkout(self.revision, Path(scratch) / "before") as before,
        ):
            sides = {
                "now": (ROOT, self.recipe),
                "before": (before, self.recipe),
                "rded": (ROOT, "rded"),
            }
            for budget in self.budgets:
                seconds: dict[str, list[float]] = {name: [] for name in sides}
                for number in range(self.rounds + 1):
                    for name, (tree, recipe) in sides.items():
                        place = Path(scratch) / f"{name}-{budget}-{number}"
                        took = self._seconds(tree, recipe, budget, place, Path(scratch) / name)
                        if number:
                            seconds[name].append(took)
                        print(name, budget, round(took, 1), flush=True)
                median = {name: statistics.median(took) for name, took in seconds.items()}
                now, then = (
                    set(_crops(Path(scratch) / f"{name}-{budget}-0")) for name in ("now", "before")
                )
                record[str(budget)] = {
                    "seconds": seconds,
                    "ratio": median["now"] / median["before"],
                    "ratio_to_rded": median["now"] / median["rded"],
                    "same_crops": len(now & then) / len(then),
                }
                print(budget, record[str(budget)], flush=True)
        about = {k: v for k, v in asdict(self).items() if k not in ("data", "teacher", "result")}
        record |= {"benchmark": about, "versions": provenance.versions()}
        record["hardware"] = provenance.hardware()
        self.result.write_text(json.dumps(record, indent=1) + "\n")

    def _seconds(self, tree: Path, recipe: str, budget: int, place: Path, cache: Path) -> float:
        words = ["distill", self.data, "--teacher", str(self.teacher), "--workdir", str(place)]
        words += ["--recipe", recipe, "--images-per-class", str(budget), "--pool", str(self.pool)]
        return seconds_of(tree, words, cache)


def _crops(place: Path) -> Iterator[tuple[Any, ...]]:
    """Example and box of each crop of a set."""
    for line in (place / "metadata.jsonl").read_text().splitlines():
        for tile in json.loads(line)["tiles"]:
            yield tile["example"], *tile["box"]


if __name__ == "__main__":
    tyro.cli(WholeSets).run()
