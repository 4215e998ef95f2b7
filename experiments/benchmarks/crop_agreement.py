"""How many coalitions does the right crop take? Agreement of the chosen window, and cost.

    python -m experiments.benchmarks.crop_agreement --data folder:cifar10

The right window is the best of maps from 2,048 coalitions of another draw, whose error is below
0.001. Beside agreement stands how much of the best window's lead over the mean window is given up,
and the seconds an image relative to a fixed budget of 128, in one run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments.benchmarks.shapley_prior import first_of_classes
from infoutil_jax import provenance
from infoutil_jax.data.sources import open_source
from infoutil_jax.method.attribution import patch_shapley
from infoutil_jax.method.cropping import pool_maps
from infoutil_jax.method.patch_game import computing_in, patch_game
from infoutil_jax.shapley import coalition_design, staged_design, staged_shapley
from infoutil_jax.training.teacher import load_teachers

HERE = Path(__file__).parents[1]
RESULT = HERE / "results" / "benchmarks" / "crop_agreement.json"
GRID, PLAYERS, REFERENCE = 4, 16, 2048


@dataclass(frozen=True)
class CropAgreement:
    """Agreement and cost by the number of coalitions."""

    data: str
    """folder:PATH of the teacher's dataset."""
    teacher: Path = HERE / "teachers" / "cifar10_convnet3_reduced"
    """Folder of `infoutil teacher`."""
    images: int = 100
    """Test images, of every class as many."""
    skip: int = 20
    """Images of every class passed over: those that the prior was fitted on."""
    budgets: tuple[int, ...] = (32, 64, 128, 256)
    """Fixed numbers of coalitions."""
    confidence: tuple[float, ...] = (0.9, 0.98, 0.995)
    """Of the staged maps."""
    most: tuple[int, ...] = (128, 256)
    """Coalitions at most, of the staged maps."""
    result: Path = RESULT
    """Where the JSON goes."""

    def run(self) -> None:
        """Measure, print, write."""
        teacher = load_teachers(self.teacher)["converged"]
        config = json.loads((self.teacher / "config.json").read_text())
        source = open_source(self.data, image_size=tuple(config["image_size"]))
        chosen = first_of_classes(source.test.labels, self.images, self.skip)
        _, pixels = next(source.test.batches(chosen, self.images))
        game = teacher.predict, teacher.variables, teacher.normalise(pixels)
        labels = jnp.asarray(source.test.labels[chosen])

        def fixed(budget: int, strategy: str, seed: int = 0) -> Callable:
            design = coalition_design(PLAYERS, budget, strategy=strategy, seed=seed, grid=GRID)
            used = jnp.full(self.images, budget)
            return lambda: (patch_shapley(*game, labels, design, grid=GRID), used)

        def staged(most: int, confidence: float, predict=teacher.predict) -> Callable:
            design = staged_design(GRID, most)

            def estimate():
                games = patch_game(predict, *game[1:], labels, grid=GRID)
                phi, used = staged_shapley(games, design, confidence=confidence)
                return phi.reshape(-1, GRID, GRID), used

            return estimate

        estimators = {
            f"{strategy}, {budget}": fixed(budget, strategy)
            for strategy in ("gaussian", "kernel")
            for budget in self.budgets
        } | {
            f"staged, at most {most}, confidence {confidence:g}": staged(most, confidence)
            for most in self.most
            for confidence in (*self.confidence, 1.0)
        }
        half = computing_in(teacher.predict, "bfloat16")
        name = f"bfloat16, staged, at most {self.most[0]}, confidence 0.98"
        estimators[name] = staged(self.most[0], 0.98, half)
        right = np.asarray(worth(fixed(REFERENCE, "gaussian", seed=1)()[0]))
        rows = {}
        for name, estimate in estimators.items():
            jax.block_until_ready(estimate())
            started = time.perf_counter()
            maps, used = jax.block_until_ready(estimate())
            seconds = (time.perf_counter() - started) / self.images
            rows[name] = compare(right, np.asarray(worth(maps))) | {
                "coalitions": float(used.mean()),
                "seconds": seconds,
            }
            print(name, rows[name], flush=True)
        for row in rows.values():
            row["times_gaussian_128"] = row["seconds"] / rows["gaussian, 128"]["seconds"]
        record = {
            "what": "agreement of the chosen window with that of 2,048 coalitions",
            "estimators": rows,
            "arguments": {
                k: v for k, v in asdict(self).items() if k not in ("data", "teacher", "result")
            },
            "teacher": teacher.digest(),
            "source": {"name": source.name, "fingerprint": source.fingerprint()},
            "versions": provenance.versions(),
            "hardware": provenance.hardware(),
        }
        self.result.write_text(json.dumps(record, indent=1) + "\n")


def worth(maps: jax.Array) -> jax.Array:
    """Of each window."""
    return pool_maps(maps).reshape(len(maps), -1)


def compare(right: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Of windows `[images, windows]`."""
    window = found.argmax(1)
    lead = right.max(1) - right.mean(1)
    lost = right.max(1) - right[np.arange(len(right)), window]
    return {
        "agreement": float((window == right.argmax(1)).mean()),
        "lost": float((lost / lead).mean()),
    }


if __name__ == "__main__":
    tyro.cli(CropAgreement).run()
