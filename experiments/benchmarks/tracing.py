"""How long JAX takes to trace a training step, beside what it takes with Flax's own batch norm.

    python -m experiments.benchmarks.tracing

Every program is traced anew in every process, whatever the cache of compilations holds. Seconds of
CPU, with both in turn.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import tyro
from flax import nnx

from infoutil_jax import provenance
from infoutil_jax.models import layers
from infoutil_jax.models.architecture import Architecture
from infoutil_jax.models.create import outline
from infoutil_jax.models.functional import Train

RESULT = Path(__file__).parents[1] / "results" / "benchmarks" / "tracing.json"


@dataclass(frozen=True)
class Tracing:
    """Seconds a training step, by backbone."""

    backbones: tuple[str, ...] = ("convnet3", "resnet18", "resnet50", "mobilenet_v2")
    """Those with batch norm."""
    rounds: int = 5
    """That count; one before them does not."""
    result: Path = RESULT
    """Where the JSON goes."""

    def run(self) -> None:
        """Measure, print, write."""
        ways = {"ours": layers.BatchNorm.__call__, "flax": nnx.BatchNorm.__call__}
        found = {}
        for name in self.backbones:
            seconds: dict[str, list[float]] = {way: [] for way in ways}
            for number in range(self.rounds + 1):
                for way, call in ways.items():
                    seconds[way] += [traced(name, call)] * (number > 0)
            ratio = statistics.median(seconds["ours"]) / statistics.median(seconds["flax"])
            found[name] = {"seconds": seconds, "ratio": ratio}
            print(name, f"{ratio:.2f}", flush=True)
        record = {"backbones": found, "rounds": self.rounds, "versions": provenance.versions()}
        record |= {"hardware": provenance.hardware()}
        self.result.write_text(json.dumps(record, indent=1) + "\n")


def traced(name: str, call: Callable[..., Any]) -> float:
    """Seconds to trace a step of a backbone whose batch norm is computed by `call`."""
    architecture = Architecture.of(name, num_classes=10, image_size=32, channels=3)
    predict, variables = outline(architecture)
    train = Train(predict.graphdef)
    rest = {kind: value for kind, value in variables.items() if kind != "params"}

    def loss(params: Any, rest: Any, images: Any) -> Any:
        logits, after = train({**rest, "params": params}, images)
        return jnp.square(logits).mean(), after

    with mock.patch.object(layers.BatchNorm, "__call__", call):
        begin = time.process_time()
        step = jax.jit(jax.value_and_grad(loss, has_aux=True))
        step.trace(variables["params"], rest, jnp.zeros((8, 32, 32, 3)))
        return time.process_time() - begin


if __name__ == "__main__":
    tyro.cli(Tracing).run()
