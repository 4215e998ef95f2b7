"""Three students of one set: how long with each on a core of its own, beside one after another?

    python -m experiments.benchmarks.students_by_core

ConvNets on noise, ten images a class, in turn; the first round compiles and is not counted. On an
accelerator there is nothing to compare.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import tyro

from infoutil_jax import parallel, provenance
from infoutil_jax.training.config import StudentConfig
from infoutil_jax.training.student import train_student
from infoutil_jax.training.supervision import Supervision

RESULT = Path(__file__).parents[1] / "results" / "benchmarks" / "students_by_core.json"


@dataclass(frozen=True)
class StudentsByCore:
    """Seconds of students, by the side of their images."""

    sides: tuple[int, ...] = (8, 32, 64)
    """Pixels."""
    width: int = 64
    """Channels."""
    epochs: int = 20
    """Two steps of 50 images each."""
    rounds: int = 3
    """That count."""
    result: Path = RESULT
    """Where the JSON goes."""

    def run(self) -> None:
        """Measure, print, write."""
        found = {}
        for side in self.sides:
            seconds: dict[str, list[float]] = {"by core": [], "one after another": []}
            for number in range(self.rounds + 1):
                for name, took in seconds.items():
                    one = self._seconds(side, 1 if name == "one after another" else None)
                    took += [one] * (number > 0)
            ratio = statistics.median(seconds["by core"]) / statistics.median(
                seconds["one after another"]
            )
            found[str(side)] = {"seconds": seconds, "ratio": ratio}
            print(side, f"{ratio:.2f}", flush=True)
        about = {k: v for k, v in asdict(self).items() if k != "result"}
        record = {"sides": found, "benchmark": about, "cores": parallel.programs_at_once()}
        record |= {"versions": provenance.versions(), "hardware": provenance.hardware()}
        self.result.write_text(json.dumps(record, indent=1) + "\n")

    def _seconds(self, side: int, cores: int | None) -> float:
        labels = np.repeat(np.arange(10, dtype=np.int32), 10)
        pixels = np.random.default_rng(0).integers(0, 256, (100, side, side, 3)).astype(np.uint8)
        config = StudentConfig(width=self.width, epochs=self.epochs, labels="hard")
        noise = Supervision(num_classes=10, mean=(0.5,) * 3, std=(0.25,) * 3)
        many = parallel.programs_at_once() if cores is None else cores
        with mock.patch.object(parallel, "programs_at_once", lambda: many):
            data = pixels, labels
            return train_student(data, data, config, supervision=noise).seconds


if __name__ == "__main__":
    tyro.cli(StudentsByCore).run()
