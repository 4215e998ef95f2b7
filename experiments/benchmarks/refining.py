"""What does a step of refinement take, beside a step of an ordinary student?

    python -m experiments.benchmarks.refining

On noise in the shape of CIFAR-10: the time of a step of each objective, in turn and divided by that
of a student's ordinary step on as many images as the set has, and what XLA sets aside for it;
FRePo also where each image is four; trajectory matching for several numbers of unrolled steps.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from infoutil_jax import provenance
from infoutil_jax.data.augment import Normalisation
from infoutil_jax.data.siamese import PLAIN
from infoutil_jax.method.contracts import Pool
from infoutil_jax.models import Architecture
from infoutil_jax.refine import REFINERS, Network, Refiner, TrajectoryMatching
from infoutil_jax.refine.spectrum import measured
from infoutil_jax.refine.steps import Given, Learnt, Program

RESULT = Path(__file__).parents[1] / "results" / "benchmarks" / "refining.json"
CLASSES = 10


@dataclass(frozen=True)
class Refining:
    """Time and memory of a step."""

    width: int = 64
    """Of the ConvNet-3."""
    batch_size: int = 256
    """Real images a step."""
    budgets: tuple[int, ...] = (1, 10)
    """Images a class."""
    student_steps: tuple[int, ...] = (2, 8, 32)
    """Of trajectory matching."""
    steps: int = 4
    """Timed at once."""
    repeats: int = 3
    """Of each, of which the median counts."""
    result: Path = RESULT
    """Where the JSON goes."""

    def run(self) -> None:
        """Measure, print, write."""
        record: dict[str, Any] = {
            "steps": [self._compared(budget) for budget in self.budgets],
            "trajectories": [self._memory(count) for count in self.student_steps],
            "arguments": {k: v for k, v in asdict(self).items() if k != "result"},
            "versions": provenance.versions(),
            "hardware": provenance.hardware(),
        }
        self.result.write_text(json.dumps(record, indent=1) + "\n")
        for row in record["steps"]:
            for name, one in row["objectives"].items():
                print(f"{row['budget']} a class, {name}: {one['students']:.1f} student steps")
        for row in record["trajectories"]:
            print(f"{row['student_steps']} steps unrolled: {row['temporary_bytes']:,} bytes")

    def _network(self) -> Network:
        options = (("norm", "batch"), ("width", self.width))
        return Network(Architecture("convnet3", CLASSES, (32, 32), 3, options), PLAIN)

    def _program(
        self, refiner: Refiner, budget: int, tiles: int = 1
    ) -> tuple[Any, tuple[Any, ...]]:
        """A compiled chunk of steps, and its arguments."""
        chance = np.random.default_rng(0)
        pixels = chance.integers(0, 256, (256, 32, 32, 3), np.uint8)
        pool = Pool(pixels, np.arange(256, dtype=np.int32) % CLASSES)
        scale = Normalisation.of((0.5,) * 3, (0.25,) * 3)
        network, count = self._network(), budget * CLASSES
        classes = jnp.repeat(jnp.eye(CLASSES), budget, 0)[:, None].repeat(tiles, 1)
        labels = jnp.log(jnp.maximum(classes, 1e-30))
        images = jax.random.normal(jax.random.key(0), (count, 32, 32, 3))
        first = Learnt(images, labels, refiner.objective.extra())
        known = refiner.objective.prepare(network, jax.random.key(1), pool, scale)
        program = Program(refiner, network)
        state = program.begin(first, jax.random.key(2))
        rows = np.arange(self.steps * self.batch_size).reshape(self.steps, -1) % 256
        given = Given(first, known, scale, jax.random.key(3), measured(pool, scale, tiles))
        rest = given, (pixels[rows], pool.labels[rows]), 0
        compiled = Program.chunk.lower(program, state, *rest, self.steps).compile()
        return compiled, (state, *rest, self.steps)

    def _compared(self, budget: int) -> dict[str, Any]:
        found: dict[str, dict[str, Any]] = {}
        few = TrajectoryMatching(
            experts=1, expert_epochs=2, latest=0, latest_at_first=0, student_steps=8
        )
        refiners = {**REFINERS, "mtt": replace(REFINERS["mtt"], objective=few)}
        programs = {
            name: self._program(replace(one, view=PLAIN), budget) for name, one in refiners.items()
        }
        parted = replace(REFINERS["frepo"], view=PLAIN)
        programs["frepo, 4 tiles"] = self._program(parted, budget, tiles=4)
        student = self._student(budget)
        seconds: dict[str, list[float]] = {name: [] for name in (*programs, "student")}
        for turn in range(self.repeats + 1):
            for name, (compiled, arguments) in programs.items():
                state = jax.tree.map(jnp.copy, arguments[0])  # it is donated
                started = time.perf_counter()
                jax.block_until_ready(compiled(state, *arguments[1:]))
                if turn:
                    seconds[name].append((time.perf_counter() - started) / self.steps)
            started = time.perf_counter()
            jax.block_until_ready(student())
            if turn:
                seconds["student"].append((time.perf_counter() - started) / self.steps)
        unit = statistics.median(seconds.pop("student"))
        for name, each in seconds.items():
            memory = programs[name][0].memory_analysis().temp_size_in_bytes
            found[name] = {"students": statistics.median(each) / unit, "temporary_bytes": memory}
        return {"budget": budget, "student_seconds": unit, "objectives": found}

    def _student(self, budget: int) -> Any:
        """As many ordinary steps on as many images."""
        network = self._network()
        variables = network.init(jax.random.key(0))
        images = jax.random.normal(jax.random.key(1), (budget * CLASSES, 32, 32, 3))
        labels = jnp.repeat(jnp.arange(CLASSES), budget)
        optimiser = optax.adamw(0.001)

        def step(_: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            params, state = carry

            def loss(params: Any) -> Any:
                logits, _ = network.train({**variables, "params": params}, images)
                return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

            updates, state = optimiser.update(jax.grad(loss)(params), state, params)
            return optax.apply_updates(params, updates), state

        params = variables["params"]
        start = params, optimiser.init(params)
        return jax.jit(lambda: jax.lax.fori_loop(0, self.steps, step, start))

    def _memory(self, count: int) -> dict[str, Any]:
        """What XLA sets aside for a step of trajectory matching."""
        objective = TrajectoryMatching(
            experts=1, expert_epochs=2, latest=0, latest_at_first=0, student_steps=count
        )
        compiled, _ = self._program(replace(REFINERS["mtt"], objective=objective), 1)
        memory = compiled.memory_analysis().temp_size_in_bytes
        return {"student_steps": count, "temporary_bytes": memory}


def main() -> None:
    """Entry point."""
    tyro.cli(Refining).run()


if __name__ == "__main__":
    main()
