"""Our `rded` against RDED's own code, under one teacher: CIFAR-10 (JPEG), ConvNet-3 of width 128.

    python -m experiments.rded_parity --data folder:PATH --teacher conv3_cifar10_teacher.npz

RDED's own training and evaluation code reached 27.3 at 1 and 59.6 at 10 images a class with this
teacher (one seed, the best of the evaluated epochs; 58.2 at 10 after the last one). The teacher
comes as PyTorch weights in an npz file, one array a tensor.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import tyro

from infoutil_jax import (
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

RESULTS = Path(__file__).parent / "results" / "rded_parity"
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
        "convnet3", num_classes=len(weight), image_size=(8 * side, 8 * side), width=width
    )
    variables = {"params": params, "batch_stats": statistics}
    return Teacher(
        predict, _on_device(variables), MEAN, STD, num_classes=len(weight), name="conv3_cifar10"
    )


def _on_device(tree):
    if isinstance(tree, dict):
        return {key: _on_device(value) for key, value in tree.items()}
    return jnp.asarray(tree, jnp.float32)


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
    """Seeds of the pool and its crops, a distilled set each: at 1 image a class they decide more
    than the students' do."""
    seeds: tuple[int, ...] = (0,)
    """Students."""
    workdir: Path = Path("runs/rded_parity")
    """Distilled sets."""
    results: Path = RESULTS
    """Where the JSON files go."""

    def run(self) -> None:
        """Run the budgets that have no result yet."""
        source = open_source(self.data)
        teacher = load_teacher(self.teacher)
        self.results.mkdir(parents=True, exist_ok=True)
        for budget, seed in itertools.product(self.budgets, self.sets):
            name = f"ipc{budget}" + (f"-set{seed}" if seed else "")
            path = self.results / f"{name}.json"
            if path.exists():
                continue
            distilled = distill(
                source,
                teacher,
                rded(),
                images_per_class=budget,
                workdir=self.workdir / name,
                seed=seed,
                overwrite=True,
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
            path.write_text(json.dumps(result, indent=1) + "\n")
            print(name, result["top1_best"], result["top1_last"], flush=True)


if __name__ == "__main__":
    tyro.cli(Parity).run()
