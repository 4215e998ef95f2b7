"""Twice as many images: how much longer, and how much more memory?

    python -m experiments.benchmarks.distill_scaling --data folder:cifar10

Distils the whole of a source with the committed CIFAR-10 teacher, each size in a process of its
own, with pixels decoded as they are needed. `--recipe chained` has a selector of the user's own
behind a shortlist, over features of 12,288 numbers a crop; `--recipe whole` the same selector
without the shortlist, so that every row stays in memory.

Seconds are those of `distill` alone, compilation included; memory is the most that the process
used. Every round measures all sizes in turn, so that
a machine that slows down slows all of them; the ratios are those of the medians.
"""

from __future__ import annotations

import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import tyro

from infoutil_jax import provenance
from infoutil_jax.data import sources
from infoutil_jax.distillation import DistillConfig, distill
from infoutil_jax.distillation.examine import examine
from infoutil_jax.method.contracts import Candidates
from infoutil_jax.method.recipes import Recipe, infoutil_paper, rded
from infoutil_jax.method.selection import Chain, Coreset, Shortlist, facility_location
from infoutil_jax.method.shapley_maps import ShapleyConfig
from infoutil_jax.training.teacher import load_teachers

HERE = Path(__file__).parents[1]
RESULT = HERE / "results" / "benchmarks" / "distill_scaling.json"


@dataclass(frozen=True)
class DistillScaling:
    """Time and memory of `distill` by the number of images."""

    data: str
    """folder:PATH of CIFAR-10."""
    teacher: Path = HERE / "teachers" / "cifar10_convnet3_reduced"
    """Folder of `infoutil teacher`."""
    per_class: tuple[int, ...] = (100, 200, 400)
    """Training images of each class."""
    recipe: Literal["printed", "chained", "whole"] = "printed"
    """The printed rule; or RDED's crops, chosen by a selector of the user's own."""
    coalitions: int = 32
    """Of the printed rule's Shapley maps."""
    rounds: int = 3
    """Times that every size is measured."""
    alone: bool = False
    """Measure the first size here and print it, instead of each in a process of its own."""
    result: Path = RESULT
    """Where the JSON goes."""

    def run(self) -> None:
        """Measure, print, write."""
        if self.alone:
            print(json.dumps(self._measure(self.per_class[0])))
            return
        runs: dict[int, list[dict[str, float]]] = {size: [] for size in self.per_class}
        for per_class in self.per_class * self.rounds:
            call = [sys.executable, "-m", "experiments.benchmarks.distill_scaling", "--alone"]
            call += ["--data", self.data, "--teacher", str(self.teacher)]
            call += ["--per-class", str(per_class), "--coalitions", str(self.coalitions)]
            call += ["--recipe", self.recipe]
            done = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True)
            runs[per_class].append(json.loads(done.stdout.splitlines()[-1]))
            print(runs[per_class][-1], flush=True)
        rows = [
            {key: statistics.median(run[key] for run in of_size) for key in of_size[0]}
            for of_size in runs.values()
        ]
        steps = list(itertools.pairwise(rows))
        times = [big["seconds"] / small["seconds"] for small, big in steps]
        memory = [big["peak_bytes"] / small["peak_bytes"] for small, big in steps]
        print(f"twice as many images: {times} times as long, {memory} times the memory")
        record = {
            "rows": rows,
            "seconds_of_every_round": [[run["seconds"] for run in r] for r in runs.values()],
            "seconds_ratio": times,
            "peak_bytes_ratio": memory,
            "arguments": {
                k: v for k, v in asdict(self).items() if k not in ("data", "teacher", "result")
            },
            "versions": provenance.versions(),
            "hardware": provenance.hardware(),
        }
        self.result.write_text(json.dumps(record, indent=1) + "\n")

    def _recipe(self) -> Recipe:
        if self.recipe == "printed":
            return infoutil_paper(shapley=ShapleyConfig(budget=self.coalitions))
        chain = Chain(Shortlist(4), spread) if self.recipe == "chained" else spread
        return replace(rded(), select=chain, embed=pixels)

    def _measure(self, per_class: int) -> dict[str, float]:
        sources.IN_MEMORY_BYTES = 0
        teacher = load_teachers(self.teacher)["converged"]
        source = sources.open_source(self.data, max_per_class=per_class)
        recipe = self._recipe()
        before, started = _peak(), time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            distill(
                source,
                teacher,
                recipe,
                images_per_class=10,
                workdir=Path(scratch) / "set",
                config=DistillConfig(pool=None, progress=False),
            )
        seconds = time.perf_counter() - started
        return {
            "images": len(source.train),
            "seconds": seconds,
            "images_per_second": len(source.train) / seconds,
            "peak_bytes": _peak(),
            "peak_bytes_before": before,
            "compilations_of_the_scoring": examine._cache_size(),  # type: ignore[attr-defined]
        }


def spread(key: Any, rows: Candidates, per_class: int) -> Candidates:
    """A selector of the user's own: the medoids of the features."""
    return Coreset(facility_location).finalize(key, rows, per_class)


def pixels(predict: Any, variables: Any, crops: Any, labels: Any) -> dict[str, Any]:
    """Features of the user's own: each pixel four times, so that the table is large."""
    return {"pixels": jnp.tile(crops.reshape(len(crops), -1), 4)}


def _peak() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    tyro.cli(DistillScaling).run()
