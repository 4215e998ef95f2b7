"""Hours to distil a large set, from FLOPs an image; checked against a run of this machine.

    python -m experiments.benchmarks.scaling_model --data folder:cifar10

An image costs the forward passes of its Shapley map and the gradient norms of its crops; all else
is small. XLA counts the FLOPs of both. Here each is timed by itself, and the seconds that this
predicts for a whole distillation, where every image takes the whole budget, are compared with the
measured ones. On large sets an image is done once its window is chosen, and takes `coalitions`. On
other hardware the peak is the maker's (dense, bfloat16) and the share of it that is reached is
assumed: `utilisation`.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx

from infoutil_jax import models, provenance
from infoutil_jax.data.sources import open_source
from infoutil_jax.distillation import DistillConfig, distill
from infoutil_jax.method.recipes import infoutil_paper
from infoutil_jax.method.scores import GradientNorm
from infoutil_jax.method.shapley_maps import ShapleyConfig
from infoutil_jax.training.teacher import load_teachers

HERE = Path(__file__).parents[1]
RESULT = HERE / "results" / "benchmarks" / "scaling_model.json"
# TFLOP/s, dense, bfloat16: NVIDIA's and Google's data sheets.
PEAK = {"A100": 312, "H100 SXM": 989, "TPU v5e": 197, "TPU v5p": 459}
# Images that compete: 300 of each class, as in the paper, or all.
SETS = {
    "ImageNet-1K, 300 a class": 300_000,
    "ImageNet-1K, all": 1_281_167,
    "ImageNet-21K, 300 a class": 300 * 21_841,
    "ImageNet-21K, all": 14_197_122,
}


@dataclass(frozen=True)
class ScalingModel:
    """Predict, check, extrapolate."""

    data: str
    """folder:PATH of CIFAR-10, for the check."""
    teacher: Path = HERE / "teachers" / "cifar10_convnet3_reduced"
    """Folder of `infoutil teacher`, for the check."""
    images: int = 500
    """Distilled in the check."""
    budget: int = 128
    """Coalitions of each image of the check."""
    coalitions: int = 80
    """Of an image of the large sets on average; the most that `crop_agreement` measured."""
    crops: int = 5
    """Of each image."""
    backbone: str = "resnet18"
    """Teacher of the large sets, at 224 pixels."""
    utilisation: float = 0.35
    """Share of the peak that a convolutional network reaches; an assumption."""
    result: Path = RESULT
    """Where the JSON goes."""

    def run(self) -> None:
        """Measure, print, write."""
        check = self._check()
        module = models.create(self.backbone, num_classes=1000, image_size=224, rngs=nnx.Rngs(0))
        forward, gradient = flops(*models.as_predict(module), (224, 224))
        each = self.coalitions * forward + self.crops * gradient
        hours = {
            name: {
                device: images * each / (peak * 1e12 * self.utilisation) / 3600
                for device, peak in PEAK.items()
            }
            for name, images in SETS.items()
        }
        print(f"predicted / measured here: {check['predicted'] / check['measured']:.2f}")
        for name, row in hours.items():
            cells = ", ".join(f"{device} {value:.1f} h" for device, value in row.items())
            print(f"{name}: {cells}")
        record = {
            "check": check,
            "large": {
                "backbone": self.backbone,
                "flops": {"forward": forward, "gradient norm": gradient, "image": each},
                "bytes_read": {"image": 224 * 224 * 3},
                "hours": hours,
                "peak_tflops": PEAK,
            },
            "arguments": {
                k: v for k, v in asdict(self).items() if k not in ("data", "teacher", "result")
            },
            "versions": provenance.versions(),
            "hardware": provenance.hardware(),
        }
        self.result.write_text(json.dumps(record, indent=1) + "\n")

    def _check(self) -> dict[str, Any]:
        """Seconds of a distillation on this machine: from its parts, and as it is."""
        teacher = load_teachers(self.teacher)["converged"]
        source = open_source(self.data, max_per_class=max(20, self.images // 10))
        shapley = ShapleyConfig(budget=self.budget, confidence=1.0)
        recipe = infoutil_paper(shapley=shapley, num_crops=self.crops)
        predict, variables = teacher.predict, teacher.variables
        forward, gradient = flops(predict, variables, source.image_size)
        images = jnp.zeros((256, *source.image_size, source.channels))
        labels = jnp.zeros(len(images), jnp.int32)
        passes = jax.jit(predict)
        seconds = {
            "forward": timed(lambda: passes(variables, images)) / len(images),
            "gradient norm": timed(lambda: GradientNorm()(predict, variables, images, labels))
            / len(images),
        }
        count = len(source.train)
        each = self.budget * seconds["forward"] + self.crops * seconds["gradient norm"]
        make = partial(distill, source, teacher, recipe, images_per_class=10)
        with tempfile.TemporaryDirectory() as scratch:
            elapsed = []
            for name in ("compiles", "counts"):
                started = time.perf_counter()
                make(
                    workdir=Path(scratch) / name,
                    config=DistillConfig(pool=None, progress=False),
                )
                elapsed.append(time.perf_counter() - started)
        return {
            "images": count,
            "flops": {"forward": forward, "gradient norm": gradient},
            "seconds": seconds,
            "flops_per_second": {
                "forward": forward / seconds["forward"],
                "gradient norm": gradient / seconds["gradient norm"],
            },
            "predicted": count * each,
            "measured": elapsed[-1],
        }


def flops(predict: Callable, variables: Any, size: tuple[int, int]) -> tuple[float, float]:
    """Of one image: a forward pass, and the gradient norm of a crop, as XLA counts them."""
    images, labels = jnp.zeros((1, *size, 3)), jnp.zeros(1, jnp.int32)
    norm = partial(GradientNorm(microbatch_size=None), predict)
    both = predict, lambda variables, images: norm(variables, images, labels)
    found: list[Any] = [jax.jit(f).lower(variables, images).compile().cost_analysis() for f in both]
    return found[0]["flops"], found[1]["flops"]


def timed(call: Callable[[], Any], repeats: int = 5) -> float:
    """Median seconds; the first call, which compiles, does not count."""
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[1:]))


if __name__ == "__main__":
    tyro.cli(ScalingModel).run()
