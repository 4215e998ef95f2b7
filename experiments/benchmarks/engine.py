"""A pool scored as tasks of a Ray cluster beside one process: time, bytes sent, a worker lost.

    python -m experiments.benchmarks.engine --data folder:cifar10

Every process computes with one thread, so that two workers of one machine are two machines to each
other as far as computing goes. Each case runs in a process of its own. The first pool compiles; the
second, with another seed, is what is timed. `start` is what the first took more. `predicted` is the
seconds of one process, shared by the workers in whole parts. By the same sum the hours of
scaling_model.json, of one accelerator, become those of many: a start, and the share of the one that
has most tasks.
"""

from __future__ import annotations

import json
import logging
import math
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import tyro

from experiments.benchmarks.scaling_model import SETS
from infoutil_jax import provenance
from infoutil_jax.data.sources import open_source
from infoutil_jax.distillation import DistillConfig, Ray, distill, parts, pool
from infoutil_jax.method.recipes import infoutil_paper
from infoutil_jax.method.shapley_maps import ShapleyConfig
from infoutil_jax.training.teacher import load_teachers

HERE = Path(__file__).parents[1]
RESULT = HERE / "results" / "benchmarks" / "engine.json"
MODEL = RESULT.with_name("scaling_model.json")
CHIP, MACHINES = "H100 SXM", (1, 8, 64)
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
Case = Literal["here", "1 worker", "2 workers", "1 of 2 workers killed"]
CASES: tuple[Case, ...] = ("here", "1 worker", "2 workers", "1 of 2 workers killed")


@dataclass(frozen=True)
class Engine:
    """Time of `distill` by who scores."""

    data: str
    """folder:PATH of CIFAR-10."""
    teacher: Path = HERE / "teachers" / "cifar10_convnet3_reduced"
    """Folder of `infoutil teacher`."""
    per_class: int = 50
    """Training images of each class."""
    part: int = 50
    """Images of a task."""
    coalitions: int = 64
    """Of the printed rule's Shapley maps."""
    alone: Case | None = None
    """Measure one case here and print it, instead of each in a process of its own."""
    result: Path = RESULT
    """Where the JSON goes."""

    def run(self) -> None:
        """Measure, print, write."""
        if self.alone:
            print(json.dumps(self._measure(self.alone)))
            return
        cases: dict[str, Any] = {}
        for case in CASES:
            call = [sys.executable, "-m", "experiments.benchmarks.engine", "--alone", case]
            call += ["--data", self.data, "--teacher", str(self.teacher)]
            call += ["--per-class", str(self.per_class), "--part", str(self.part)]
            call += ["--coalitions", str(self.coalitions)]
            environment = os.environ | {"XLA_FLAGS": ONE_THREAD, "RAY_worker_niceness": "0"}
            done = subprocess.run(
                call, check=True, stdout=subprocess.PIPE, text=True, env=environment
            )
            cases[case] = json.loads(done.stdout.splitlines()[-1])
            print(case, cases[case], flush=True)
        here = cases["here"]
        tasks = math.ceil(10 * self.per_class / self.part)
        for workers in (1, 2):
            case = CASES[workers]
            share = math.ceil(tasks / workers) / tasks
            cases[case]["ratio"] = cases[case]["seconds"] / here["seconds"]
            cases[case]["predicted"] = share * here["seconds"]
        slowest = max(case["start"] for case in cases.values())
        assert len({case["digest"] for case in cases.values()}) == 1, "another set"
        record = {
            "cases": cases,
            "hours": {name: hours_of(name, slowest) for name in SETS},
            "arguments": {
                k: v for k, v in asdict(self).items() if k not in ("data", "teacher", "result")
            },
            "versions": provenance.versions(),
            "hardware": provenance.hardware(),
        }
        self.result.write_text(json.dumps(record, indent=1) + "\n")

    def _measure(self, case: Case) -> dict[str, Any]:
        parts.PART = self.part
        teacher = load_teachers(self.teacher)["converged"]
        source = open_source(self.data, max_per_class=self.per_class)
        recipe = infoutil_paper(shapley=ShapleyConfig(budget=self.coalitions))
        config = DistillConfig(pool=None, progress=False)
        found: dict[str, Any] = {}
        if case != "here":
            import ray

            ray.init("local", num_cpus=1 if case == "1 worker" else 2, logging_level=logging.ERROR)
            config = replace(config, engine=Ray())
            run = pool._Run(source, teacher, recipe, 0, config)
            score = partial(pool._part, run, lambda rows: rows)
            found["bytes sent to a process"] = len(ray.cloudpickle.dumps(score))
            rows = score(np.arange(self.part))
            found["bytes back of an image"] = len(pickle.dumps(rows)) / self.part
        seconds: list[float] = []
        for seed in (1, 0):
            if seed == 0 and "killed" in case:
                threading.Timer(seconds[0] / 8, _kill_a_worker).start()
            started = time.perf_counter()
            with tempfile.TemporaryDirectory() as scratch:
                made = distill(
                    source,
                    teacher,
                    recipe,
                    images_per_class=1,
                    workdir=Path(scratch, "set"),
                    seed=seed,
                    config=config,
                )
            seconds.append(time.perf_counter() - started)
        found |= {"seconds": seconds[1], "start": seconds[0] - seconds[1]}
        return found | {"images": len(source.train), "digest": made.digest}


def hours_of(name: str, start: float) -> dict[int, float]:
    """Hours to distil a large set by the number of machines, each with one accelerator.

    Args:
        name: of the set, in the scaling model.
        start: seconds until a machine scores its first task.
    """
    alone = json.loads(MODEL.read_text())["large"]["hours"][name][CHIP]
    tasks = math.ceil(SETS[name] / parts.PART)
    return {n: start / 3600 + math.ceil(tasks / n) / tasks * alone for n in MACHINES}


def _kill_a_worker() -> None:
    """Ends a process that scores, with no warning."""
    scoring = [
        one
        for one in psutil.Process().children(recursive=True)
        if one.name().startswith("ray::") and one.cpu_percent(0.2) > 0
    ]
    print(f"killed one of {len(scoring)}", file=sys.stderr)
    scoring[0].kill()


if __name__ == "__main__":
    tyro.cli(Engine).run()
