"""Our `rded` against RDED's own code, under one teacher: CIFAR-10 (JPEG), ConvNet-3 of width 128.

    python -m experiments.rded_parity --data folder:PATH --teacher conv3_cifar10_teacher.npz

RDED's own training and evaluation code reached 27.3 at 1 and 59.6 at 10 images a class with this
teacher (one seed, the best of the evaluated epochs; 58.2 at 10 after the last one). The teacher
comes as PyTorch weights in an npz file, one array a tensor.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments import store
from infoutil_jax import (
    DistillConfig,
    StudentConfig,
    Supervision,
    Teacher,
    distill,
    models,
    open_source,
    provenance,
    rded,
    train_student,
)

RESULTS = Path(__file__).parent / "results" / "rded_parity.jsonl"
RDED_ITSELF = {1: 27.3, 10: 59.6}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_teacher(path: Path) -> Teacher:
    """The PyTorch ConvNet-3 in our layout: kernels HWIO, the flattening channels last."""
    with np.load(path) as file:
        arrays = dict(file)
    blocks = {
        f"block{i}": {
            "conv": {
                "kernel": arrays[f"layers.conv.{i}.weight"].transpose(2, 3, 1, 0),
                "bias": arrays[f"layers.conv.{i}.bias"],
            },
            "norm": {
                "scale": arrays[f"layers.norm.{i}.weight"],
                "bias": arrays[f"layers.norm.{i}.bias"],
            },
        }
        for i in range(3)
    }
    statistics = {
        f"block{i}": {
            "norm": {
                "mean": arrays[f"layers.norm.{i}.running_mean"],
                "var": arrays[f"layers.norm.{i}.running_var"],
            }
        }
        for i in range(3)
    }
    weight = arrays["classifier.weight"]
    width = len(arrays["layers.conv.2.bias"])
    side = round((weight.shape[1] / width) ** 0.5)
    kernel = weight.reshape(-1, width, side, side).transpose(2, 3, 1, 0).reshape(-1, len(weight))
    params = {**blocks, "classifier": {"kernel": kernel, "bias": arrays["classifier.bias"]}}
    predict, _ = models.outline(
        models.Architecture.of(
            "convnet3", num_classes=len(weight), image_size=(8 * side, 8 * side), width=width
        )
    )
    variables = {"params": params, "batch_stats": statistics}
    return Teacher(
        predict,
        jax.tree.map(_float32, variables),
        MEAN,
        STD,
        num_classes=len(weight),
        name="conv3_cifar10",
    )


def _float32(array: np.ndarray) -> jax.Array:
    return jnp.asarray(array, jnp.float32)


def budget_and_set(result: store.Result) -> tuple[int, int]:
    """The key of a result: images a class, and the seed of the distilled set."""
    return result["images_per_class"], result["distilled"]["seed"]


@dataclass(frozen=True)
class Parity:
    """Distil by `rded` and train students of width 128, as RDED's code does."""

    data: str
    """folder:PATH of the unpacked CIFAR-10 (JPEG)."""
    teacher: Path
    """conv3_cifar10_teacher.npz."""
    budgets: tuple[int, ...] = (1, 10)
    """Images a class."""
    sets: tuple[int, ...] = (0,)
    """Seeds of the pool and its crops, one distilled set each: at 1 image a class they move
    accuracy more than the students' seeds do."""
    seeds: tuple[int, ...] = (0,)
    """Students."""
    workdir: Path = Path("runs/rded_parity")
    """Distilled sets."""
    results: Path = RESULTS
    """File of the results, one a line."""

    def run(self) -> None:
        """Run each budget and set that has no result yet."""
        source = open_source(self.data)
        teacher = load_teacher(self.teacher)
        done = store.read(self.results, budget_and_set)
        for budget, seed in itertools.product(self.budgets, self.sets):
            name = f"ipc{budget}" + (f"-set{seed}" if seed else "")
            if (budget, seed) in done:
                continue
            distilled = distill(
                source,
                teacher,
                rded(),
                images_per_class=budget,
                workdir=self.workdir / name,
                seed=seed,
                config=DistillConfig(overwrite=True),
            )
            student = train_student(
                (distilled.images, distilled.labels),
                source.test.arrays(),
                StudentConfig(width=128, evaluate_every=30, seeds=self.seeds),
                supervision=Supervision(num_classes=10, teacher=teacher),
                progress=True,
            )
            assert student.top1_best is not None
            result = {
                "dataset": "CIFAR-10 (JPEG)",
                "images_per_class": budget,
                "rded_itself": RDED_ITSELF.get(budget),
                "top1_best": student.top1_best.tolist(),
                "top1_last": student.top1.tolist(),
                "seeds": list(self.seeds),
                "distilled": {
                    key: distilled.manifest[key]
                    for key in ("recipe", "pool", "seed", "source", "teacher")
                },
                "seconds": round(student.seconds, 1),
                "versions": provenance.versions(),
                "hardware": provenance.hardware(),
            }
            store.add(self.results, result, budget_and_set)
            print(name, result["top1_best"], result["top1_last"], flush=True)


if __name__ == "__main__":
    tyro.cli(Parity).run()
