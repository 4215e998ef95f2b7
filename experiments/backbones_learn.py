"""Does every backbone learn? Forty photographs by heart, in float32 and in bfloat16.

    python -m experiments.backbones_learn --data folder:cifar10

Each network starts from the same weights and sees the same batches in both precisions. It is
asked, in evaluation mode, for the classes of its training images every ten steps, and stops once it
knows 95% of them. A backbone's result is one line: steps, accuracy, and the loss of every step.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import nnx

from experiments import store
from infoutil_jax import models, provenance
from infoutil_jax.data.augment import Normalisation, channel_statistics
from infoutil_jax.data.sources import open_source
from infoutil_jax.errors import InputError
from infoutil_jax.training.fit import Fit, run_steps

RESULTS = Path(__file__).parent / "results" / "backbones_learn.jsonl"
# Narrow enough for a CPU, where the network has a width.
NARROW: dict[str, dict[str, Any]] = {
    **{f"convnet{depth}": {"width": 64} for depth in (3, 4, 5)},
    "convnet6": {"width": 64, "image_size": 64},
    "resnet18": {"width": 32},
    "resnet50": {"width": 16},
    "resnet101": {"width": 16},
    "mobilenet_v2": {},
    "vgg11": {},
    "vgg11_bn": {},
    "swin_v2_t": {},
}


def backbone(result: store.Result) -> str:
    """The key of a result."""
    name: str = result["backbone"]
    return name


@dataclass(frozen=True)
class BackbonesLearn:
    """Train each backbone on few images until it knows them."""

    data: str
    """folder:PATH or tfds:NAME of photographs."""
    backbones: tuple[str, ...] = tuple(NARROW)
    """Any of `models.create`."""
    per_class: int = 4
    """Images of each class."""
    most_steps: int = 300
    """When to give up."""
    known: float = 95.0
    """Accuracy, percent, that is enough."""
    learning_rate: float = 5e-4
    """AdamW's, after a warm-up of twenty steps."""
    results: Path = RESULTS
    """File of the results, one a line; a backbone that has one is not trained again."""

    def run(self) -> None:
        """Run what has no result yet."""
        failed = []
        for name in self.backbones:
            if name not in store.read(self.results, backbone):
                store.add(self.results, self._learn(name), backbone)
            found = store.read(self.results, backbone)[name]
            for kind, run in found["runs"].items():
                print(f"{name:13s} {kind:9s} {run['top1']:5.1f}% after {run['steps']} steps")
                failed += [f"{name} in {kind}"] if run["top1"] < self.known else []
        if failed:
            raise InputError(f"did not learn {self.known}%: {', '.join(failed)}.")

    def _learn(self, name: str) -> dict[str, Any]:
        options = {"image_size": 32} | NARROW.get(name, {})
        size = options.pop("image_size")
        source = open_source(self.data, image_size=size, max_per_class=self.per_class)
        images, labels = source.train.arrays()
        normalise = Normalisation.of(*channel_statistics(images))
        data = normalise(images), jnp.asarray(labels, jnp.int32)
        runs = {}
        for kind in ("float32", "bfloat16"):
            module = models.create(
                name,
                num_classes=len(source.class_names),
                image_size=size,
                dtype=jnp.bfloat16 if kind == "bfloat16" else None,
                rngs=nnx.Rngs(0),
                **options,
            )
            runs[kind] = self._until_known(module, data)
            print(name, kind, {k: v for k, v in runs[kind].items() if k != "loss"}, flush=True)
        return {
            "backbone": name,
            "options": options | {"image_size": size},
            "images": len(labels),
            "runs": runs,
            "arguments": {k: v for k, v in asdict(self).items() if k not in ("data", "results")},
            "source": {"name": source.name, "fingerprint": source.fingerprint()},
            "versions": provenance.versions(),
            "hardware": provenance.hardware(),
        }

    def _until_known(self, module: nnx.Module, data: tuple[jax.Array, jax.Array]) -> dict[str, Any]:
        predict, variables = models.as_predict(module)
        rate = optax.schedules.linear_schedule(0.0, self.learning_rate, 20)
        cross_entropy = optax.losses.softmax_cross_entropy_with_integer_labels
        fit = Fit(
            models.as_train(module)[0],
            view=lambda context, key, batch: batch,
            loss=lambda logits, labels: cross_entropy(logits, labels).mean(),
            optimiser=optax.adamw(rate),
            batch_size=len(data[1]),
        )
        state, key, started = fit.init(variables), jax.random.key(0), time.perf_counter()
        rows = jnp.tile(jnp.arange(len(data[1])), (10, 1))
        steps = jax.jit(partial(run_steps, fit))
        asked = jax.jit(predict)
        losses: list[float] = []
        top1 = 0.0
        while top1 < self.known and len(losses) < self.most_steps:
            state, loss, _ = steps(state, key, None, data, rows, len(losses))
            losses += np.asarray(loss, float).round(4).tolist()
            answers = asked(state.variables, data[0]).argmax(-1)
            top1 = 100 * float((answers == data[1]).mean())
        seconds = round(time.perf_counter() - started, 1)
        return {"steps": len(losses), "top1": top1, "seconds": seconds, "loss": losses}


def main() -> int:
    """Entry point; returns the exit code."""
    try:
        tyro.cli(BackbonesLearn, description=__doc__).run()
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
