"""What do gradient norms cost beside one ordinary gradient of the batch? Ours and the peers'.

    python -m experiments.benchmarks.gradient_norm_cost            # JAX alone
    python -m experiments.benchmarks.gradient_norm_cost --peers    # with torch and opacus installed

Three parts, each a list in the JSON:

- `cost`: one network, one batch. A peer's cost is divided by an ordinary gradient of its own
  library, as ours by JAX's; all of them run in turn, so that a busy machine slows all. Weights are
  the same, and so are the norms.
- `backbones`: norms by layers against `vmap(grad)`, as a relative difference and in time.
- `memory`: what XLA sets aside for a large batch in microbatches, beside an ordinary gradient of
  one microbatch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import nnx

from infoutil_jax import models, provenance
from infoutil_jax.gradients import gradient_norms

RESULT = Path(__file__).parents[1] / "results" / "benchmarks" / "gradient_norm_cost.json"
CLASSES = 10
BACKBONES: dict[str, dict[str, Any]] = {
    "convnet3": {"width": 128},
    "convnet4": {"width": 64, "norm": "instance"},
    "resnet18": {"stem": "cifar"},
    "resnet50": {},
    "resnet101": {},
    "mobilenet_v2": {},
    "vgg11_bn": {},
    "swin_v2_t": {},
}


@dataclass(frozen=True)
class GradientNormCost:
    """Time and memory of `gradient_norms`."""

    width: int = 128
    """Of the ConvNet-3."""
    norm: str = "instance"
    """Of the ConvNet-3; opacus knows no batch normalisation."""
    image_size: int = 32
    """Side in pixels."""
    batches: tuple[int, ...] = (32, 128)
    """Examples at once."""
    repeats: int = 9
    """Of each side."""
    backbones: tuple[str, ...] = tuple(BACKBONES)
    """Compared with `vmap(grad)`, eight examples at once."""
    memory: tuple[tuple[str, int, int], ...] = (("convnet3", 1024, 128), ("resnet18", 256, 32))
    """(backbone, batch, microbatch)."""
    peers: bool = False
    """torch.func and opacus too."""
    result: Path = RESULT
    """Where the JSON goes."""

    def run(self) -> None:
        """Measure, print, write."""
        options = {"width": self.width, "norm": self.norm}
        record: dict[str, Any] = {
            "cost": [self._cost("convnet3", options, batch) for batch in self.batches],
            "backbones": [self._backbone(name) for name in self.backbones],
            "memory": [self._memory(*case) for case in self.memory],
            "arguments": {k: v for k, v in asdict(self).items() if k != "result"},
            "versions": provenance.versions(),
            "hardware": provenance.hardware(),
        }
        if self.peers:
            import opacus
            import torch

            record["versions"] |= {"torch": torch.__version__, "opacus": opacus.__version__}
        self.result.parent.mkdir(parents=True, exist_ok=True)
        self.result.write_text(json.dumps(record, indent=1) + "\n")

    def _cost(self, name: str, options: dict[str, Any], batch: int) -> dict[str, Any]:
        case = Case.of(name, options, self.image_size, batch)
        sides = {"JAX gradient": case.gradient, "ours": case.norms, "vmap(grad)": case.reference}
        floors = {"ours": "JAX gradient", "vmap(grad)": "JAX gradient"}
        norms = {"vmap(grad)": case.reference()}
        if self.peers:
            from experiments.benchmarks import torch_gradient_norms

            peers = torch_gradient_norms.sides(case)
            sides |= peers
            floors |= dict.fromkeys(set(peers) - {"torch gradient"}, "torch gradient")
            norms |= {name: side() for name, side in peers.items() if name != "torch gradient"}
        ours = np.asarray(case.norms())
        differences = {k: float(np.abs(np.asarray(v) / ours - 1).max()) for k, v in norms.items()}
        seconds = measure(sides, self.repeats)
        ratios = {side: seconds[side] / seconds[floor] for side, floor in floors.items()}
        print(f"{name}, {batch} at once: " + ", ".join(f"{k} {v:.2f}" for k, v in ratios.items()))
        return {
            "backbone": name,
            "batch": batch,
            "ratios_to_own_gradient": ratios,
            "median_seconds": seconds,
            "largest_relative_difference_to_ours": differences,
        }

    def _backbone(self, name: str) -> dict[str, Any]:
        case = Case.of(name, BACKBONES[name], self.image_size, 8)
        difference = float(jnp.abs(case.norms() / case.reference() - 1).max())
        sides = {"gradient": case.gradient, "ours": case.norms, "vmap(grad)": case.reference}
        seconds = measure(sides, self.repeats)
        ratios = {side: seconds[side] / seconds["gradient"] for side in ("ours", "vmap(grad)")}
        print(f"{name:14s} {ratios} relative difference {difference:.1e}")
        return {"backbone": name, "ratios": ratios, "largest_relative_difference": difference}

    def _memory(self, name: str, batch: int, microbatch: int) -> dict[str, Any]:
        case = Case.of(name, BACKBONES[name], self.image_size, batch, microbatch)
        small = Case.of(name, BACKBONES[name], self.image_size, microbatch)
        bytes_of = {
            "gradient of a microbatch": small.compiled(small.gradient_of),
            "ours": case.compiled(case.norms_of),
            "vmap(grad)": case.compiled(case.reference_of),
        }
        print(name, batch, {side: f"{n / 2**20:.0f} MiB" for side, n in bytes_of.items()})
        return {"backbone": name, "batch": batch, "microbatch": microbatch, "bytes": bytes_of}


@dataclass(frozen=True)
class Case:
    """A network, a batch, and what is done with them."""

    variables: Any
    batch: tuple[jax.Array, jax.Array]
    gradient_of: Callable
    norms_of: Callable
    reference_of: Callable

    @classmethod
    def of(
        cls,
        name: str,
        options: dict[str, Any],
        size: int,
        batch: int,
        microbatch: int | None = None,
    ) -> Case:
        """With random weights and pixels."""
        module = models.create(
            name, num_classes=CLASSES, image_size=size, rngs=nnx.Rngs(0), **options
        )
        predict, _ = models.as_predict(module)
        images = jax.random.normal(jax.random.key(0), (batch, size, size, 3))
        variables = settled(*models.as_train(module), images[:32])

        def loss(params, example):
            images, labels = (x[None] for x in example)
            return mean_loss(params, (images, labels))

        def mean_loss(params, batch):
            logits = predict({**variables, "params": params}, batch[0])
            losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, batch[1])
            return losses.mean()

        def norms(method):
            return lambda params, batch: gradient_norms(
                loss, params, batch, microbatch_size=microbatch, method=method
            )

        labels = jnp.arange(batch) % CLASSES
        sides = jax.grad(mean_loss), norms("layerwise"), norms("vmap")
        return cls(variables, (images, labels), *map(jax.jit, sides))

    def gradient(self) -> Any:
        """One ordinary gradient, of the mean loss."""
        return jax.block_until_ready(self.gradient_of(self.variables["params"], self.batch))

    def norms(self) -> jax.Array:
        """Ours."""
        return jax.block_until_ready(self.norms_of(self.variables["params"], self.batch))

    def reference(self) -> jax.Array:
        """By `vmap(grad)`."""
        return jax.block_until_ready(self.reference_of(self.variables["params"], self.batch))

    def compiled(self, side: Any) -> int:
        """Bytes that the compiled `side` works in, beside its arguments."""
        analysis = side.lower(self.variables["params"], self.batch).compile().memory_analysis()
        return int(analysis.temp_size_in_bytes)


def settled(apply: Callable, variables: Any, images: jax.Array) -> Any:
    """Variables whose running statistics are those of `images`, as a trained network's would be.

    Without them the activations of a deep network grow from block to block, out of float32.
    """
    step = jax.jit(lambda variables: apply(variables, images)[1])
    for _ in range(40):
        variables = step(variables)
    return variables


def measure(sides: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each; the first run, which compiles, does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, call in sides.items():
            started = time.perf_counter()
            call()
            if repeat:
                seconds[name].append(time.perf_counter() - started)
    return {name: float(np.median(times)) for name, times in seconds.items()}


if __name__ == "__main__":
    tyro.cli(GradientNormCost).run()
