"""The whole distillation beside RDED's rule in PyTorch: seconds from files to a set on disk.

    python -m experiments.benchmarks.distill_peer --data folder:cifar10

The same images, the same teacher's weights, the same budget. The peer is RDED's rule as its users
run it: an image folder, workers that decode, torchvision's random-resized crops of one image at a
time, the teacher on a class's crops, the least loss of an image's five crops, the least losses of
the class, PNG files, soft labels. It gets as many workers as suit it best. Ours: `rded`, the same
rule, and `infoutil`, which attributes every image on top. Ours include compilation, in a process of
their own: once with nothing compiled before, once with what the first kept.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from infoutil_jax import provenance

HERE = Path(__file__).parents[1]
RESULT = HERE / "results" / "benchmarks" / "distill_peer.json"
CROPS = 5


@dataclass(frozen=True)
class DistillPeer:
    """Seconds of whole distillations."""

    data: str
    """folder:PATH of CIFAR-10."""
    teacher: Path = HERE / "teachers" / "cifar10_convnet3_reduced"
    """Folder of `infoutil teacher`, a ConvNet with batch normalisation."""
    per_class: int = 300
    """Training images of each class, all of which compete (RDED's pool)."""
    images_per_class: int = 10
    """Of the distilled set."""
    workers: tuple[int, ...] = (0, 2)
    """Of the peer's loader; the fastest counts."""
    alone: Literal["rded", "infoutil"] | None = None
    """Measure this recipe of ours here and print it."""
    result: Path = RESULT
    """Where the JSON goes."""

    def run(self) -> None:
        """Measure, print, write."""
        if self.alone:
            print(json.dumps(self._ours()))
            return
        peers = {str(n): self._peer(n) for n in self.workers}
        seconds = {"RDED's rule in PyTorch": min(peers.values())}
        for name in ("rded", "infoutil"):
            with tempfile.TemporaryDirectory() as kept:
                for state in ("first", "again"):
                    seconds[f"{name}, {state}"] = self._in_a_process(name, kept)
        peer = seconds["RDED's rule in PyTorch"]
        ratios = {name: value / peer for name, value in seconds.items()}
        for name, value in seconds.items():
            print(f"{name:>24} {value:8.2f} s {ratios[name]:6.2f}")
        record = {
            "what": "seconds from image files to a distilled set on disk, soft labels included",
            "seconds": seconds,
            "ratios": ratios,
            "peer_seconds_by_workers": peers,
            "arguments": {
                k: v
                for k, v in asdict(self).items()
                if k not in ("data", "teacher", "result", "alone")
            },
            "versions": provenance.versions()
            | {name: version(name) for name in ("torch", "torchvision")},
            "hardware": provenance.hardware(),
        }
        self.result.write_text(json.dumps(record, indent=1) + "\n")

    def _in_a_process(self, name: str, kept: str) -> float:
        call = [sys.executable, "-m", "experiments.benchmarks.distill_peer", "--alone", name]
        call += ["--data", self.data, "--teacher", str(self.teacher)]
        call += ["--per-class", str(self.per_class)]
        call += ["--images-per-class", str(self.images_per_class)]
        environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": kept,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        done = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        return json.loads(done.stdout.splitlines()[-1])

    def _ours(self) -> float:
        from infoutil_jax.data.sources import open_source
        from infoutil_jax.distillation import DistillConfig, distill
        from infoutil_jax.method.recipes import infoutil_paper, rded
        from infoutil_jax.method.shapley_maps import ShapleyConfig
        from infoutil_jax.training.teacher import load_teachers

        teacher = load_teachers(self.teacher)["converged"]
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            distill(
                open_source(self.data, max_per_class=self.per_class),
                teacher,
                rded() if self.alone == "rded" else infoutil_paper(shapley=ShapleyConfig()),
                images_per_class=self.images_per_class,
                workdir=Path(scratch) / "set",
                config=DistillConfig(pool=None, progress=False),
            )
            return time.perf_counter() - started

    def _peer(self, workers: int) -> float:
        from experiments.benchmarks.torch_convnet import network
        from experiments.torchvision_parity import torchvision_beside_cpu_torch
        from infoutil_jax.training.teacher import load_teachers

        torch, torchvision = torchvision_beside_cpu_torch()
        transforms = torchvision.transforms
        teacher = load_teachers(self.teacher)["converged"]
        model = network(_numpy(teacher.variables))
        normalise = transforms.Normalize(teacher.mean, teacher.std)
        cut = transforms.RandomResizedCrop(32, scale=(0.08, 1.0), ratio=(1.0, 1.0), antialias=True)
        folder = Path(self.data.removeprefix("folder:"))
        folder = folder / "train" if (folder / "train").is_dir() else folder
        torch.manual_seed(0)
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
            for label, classes in enumerate(sorted(p for p in folder.iterdir() if p.is_dir())):
                pool = _Crops(sorted(classes.iterdir())[: self.per_class], cut)
                loader = torch.utils.data.DataLoader(pool, batch_size=100, num_workers=workers)
                crops = torch.cat(list(loader))  # [images, crops, 3, 32, 32]
                losses = []
                for some in crops.split(20):
                    logits = model(normalise(some.flatten(0, 1)))
                    losses.append(-logits.log_softmax(-1)[:, label].reshape(len(some), CROPS))
                best, place = torch.cat(losses).min(1)
                kept = best.argsort()[: self.images_per_class]
                chosen = crops[kept, place[kept]]
                target = Path(scratch) / classes.name
                target.mkdir()
                for number, crop in enumerate(chosen):
                    transforms.functional.to_pil_image(crop).save(target / f"{number}.png")
                np.save(target / "labels.npy", model(normalise(chosen)).softmax(-1).numpy())
            return time.perf_counter() - started


class _Crops:
    """A folder's images as a dataset of PyTorch's: five crops each, decoded when asked for."""

    def __init__(self, files, cut):
        self.files, self.cut = files, cut

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        import torch
        from PIL import Image
        from torchvision.transforms import functional

        image = functional.to_tensor(Image.open(self.files[index]).convert("RGB"))
        return torch.stack([self.cut(image) for _ in range(CROPS)])


def _numpy(variables):
    import jax

    return jax.tree.map(np.asarray, variables)


if __name__ == "__main__":
    tyro.cli(DistillPeer).run()
