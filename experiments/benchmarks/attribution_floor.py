"""Is attribution forward passes and nothing else? `patch_shapley` against the bare passes.

    python -m experiments.benchmarks.attribution_floor

Both sides see the same number of images, at the same batch size, in one process; runs alternate,
so that a busy machine slows both, and the ratio is that of their medians.
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
from flax import nnx

from infoutil_jax import provenance
from infoutil_jax.method.attribution import patch_shapley
from infoutil_jax.method.patch_game import patch_game
from infoutil_jax.models import as_predict, create
from infoutil_jax.shapley import coalition_design, staged_design, staged_shapley

RESULT = Path(__file__).parents[1] / "results" / "benchmarks" / "attribution_floor.json"


@dataclass(frozen=True)
class AttributionFloor:
    """Time `patch_shapley`, and in stages of which none stops, against as many forward passes."""

    backbone: str = "convnet3"
    """Any of `models.create`."""
    width: int = 128
    """Of the backbone."""
    image_size: int = 32
    """Side in pixels."""
    grid: int = 4
    """Patches a side."""
    budget: int = 128
    """Coalitions."""
    images: int = 64
    """Attributed in one call."""
    batch_size: int = 256
    """Masked images in flight at once."""
    repeats: int = 7
    """Of each side."""
    result: Path = RESULT
    """Where the JSON goes."""

    def run(self) -> None:
        """Measure, print, write."""
        module = create(
            self.backbone,
            num_classes=10,
            image_size=self.image_size,
            rngs=nnx.Rngs(0),
            width=self.width,
        )
        predict, variables = as_predict(module)
        shape = (self.images, self.image_size, self.image_size, 3)
        images = jax.random.normal(jax.random.key(0), shape)
        labels = jnp.zeros(self.images, jnp.int32)
        design = coalition_design(self.grid**2, self.budget)
        batches = self.images * self.budget // self.batch_size
        inputs = jnp.resize(images, (batches, self.batch_size, *shape[1:]))
        forward = jax.jit(lambda v, x: jax.lax.map(lambda batch: predict(v, batch), x))

        def attribute():
            return patch_shapley(
                predict,
                variables,
                images,
                labels,
                design,
                grid=self.grid,
                batch_size=self.batch_size,
            )

        stages = staged_design(self.grid, self.budget)

        def attribute_in_stages():
            game = patch_game(predict, variables, images, labels, grid=self.grid)
            at_once = self.batch_size // (2 * stages.half)
            return staged_shapley(game, stages, confidence=1.0, at_once=at_once)

        sides: dict[str, Callable] = {
            "forward passes": lambda: forward(variables, inputs),
            "patch_shapley": attribute,
            "staged_shapley": attribute_in_stages,
        }
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for repeat in range(self.repeats + 1):
            for name, call in sides.items():
                started = time.perf_counter()
                jax.block_until_ready(call())
                if repeat:  # the first compiles
                    seconds[name].append(time.perf_counter() - started)
        medians = {name: float(np.median(times)) for name, times in seconds.items()}
        ratio, staged = (
            medians[name] / medians["forward passes"]
            for name in ("patch_shapley", "staged_shapley")
        )
        print(f"{batches * self.batch_size} passes: {medians}; {ratio:.3f}, staged {staged:.3f}")
        self.result.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "ratio": ratio,
            "ratio_staged": staged,
            "median_seconds": medians,
            "arguments": {k: v for k, v in asdict(self).items() if k != "result"},
            "versions": provenance.versions(),
            "hardware": provenance.hardware(),
        }
        self.result.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(AttributionFloor).run()
