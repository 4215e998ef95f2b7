"""Our backbones against torchvision's own modules, under the same random weights.

    pip install -e ".[parity]"
    python -m experiments.torchvision_parity

Prints and writes the relative error of the logits at several sizes, and records small cases that
the test suite checks without PyTorch. Weights and images are drawn by name with NumPy, so that
both sides draw the same; round trips through files must keep every bit.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from infoutil_jax import models, provenance
from infoutil_jax.models.torch_weights import load_torchvision, to_torchvision

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "torchvision_parity.json"
RECORDED = HERE.parent / "tests" / "fixtures" / "torchvision_logits.json"
CLASSES, RECORDED_SIZE = 10, 64
# Ours, its options, torchvision's.
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "resnet18": ("resnet18", {}, "resnet18"),
    "resnet50": ("resnet50", {}, "resnet50"),
    "resnet101": ("resnet101", {}, "resnet101"),
    "mobilenet_v2": ("mobilenet_v2", {}, "mobilenet_v2"),
    "vgg11": ("vgg11", {}, "vgg11"),
    "vgg11_bn": ("vgg11_bn", {}, "vgg11_bn"),
    "swin_v2_t": ("swin_v2_t", {}, "swin_v2_t"),
}
# 193 is odd; at every one of these Swin's later stages need padding.
SIZES = (224, 193, 200)


def random_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor that keeps activations in range, the same for the same name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("logit_scale"):
        return np.log(10 + rng.uniform(size=shape)).astype(np.float32)
    if len(shape) > 1:
        fan_in = int(np.prod(shape[1:]))
        return rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / fan_in))
    if name.endswith(("running_var", "weight")):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return rng.standard_normal(shape, np.float32) / 10


def random_images(size: int) -> np.ndarray:
    """Two normalised square images."""
    return np.random.default_rng(size).standard_normal((2, size, size, 3), np.float32)


def ours(name: str, options: Mapping[str, Any], path: Path, size: int) -> np.ndarray:
    """Logits of our backbone with the weights of a file."""
    predict, variables = models.as_predict(load_torchvision(name, path, image_size=size, **options))
    return np.asarray(jax.jit(predict)(variables, random_images(size)))


def torchvision_beside_cpu_torch():
    """PyTorch and torchvision; PyPI's torchvision wants two operators declared beside CPU torch."""
    import torch

    try:
        import torchvision
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    return torch, torchvision


def main() -> int:
    """Compare every case; returns 1 where one is off."""
    torch, torchvision = torchvision_beside_cpu_torch()
    errors: dict[str, dict[str, float]] = {}
    recorded = {}
    for case, (name, options, theirs) in CASES.items():
        module = torchvision.models.get_model(theirs, weights=None, num_classes=CLASSES).eval()
        tensors = {
            key: random_tensor(key, tuple(value.shape))
            for key, value in module.state_dict().items()
            if value.is_floating_point() and not key.endswith("relative_coords_table")
        }
        module.load_state_dict({k: torch.tensor(v) for k, v in tensors.items()}, strict=False)
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "weights.pth"
            torch.save(module.state_dict(), path)
            _check_round_trip(name, options, path, tensors)
            errors[case] = {}
            for size in (*SIZES, RECORDED_SIZE):
                with torch.no_grad():
                    images = torch.tensor(random_images(size).transpose(0, 3, 1, 2))
                    wanted = module(images).numpy()
                got = ours(name, options, path, size)
                errors[case][str(size)] = float(np.abs(got - wanted).max() / np.abs(wanted).max())
        recorded[case] = wanted.tolist()
        print(case, errors[case], flush=True)
    versions = {
        **provenance.versions(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
    result = {
        "what": "largest difference of the logits over their largest size, by image side",
        "errors": errors,
        "round_trip": "bit-identical",
        "versions": versions,
        "hardware": provenance.hardware(),
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    RECORDED.write_text(json.dumps(recorded) + "\n")
    return int(max(max(sizes.values()) for sizes in errors.values()) > 1e-4)


def _check_round_trip(name, options, path, tensors) -> None:
    back = to_torchvision(load_torchvision(name, path, **options))
    if back.keys() != tensors.keys():
        raise SystemExit(f"{name}: names differ: {sorted(back.keys() ^ tensors.keys())[:5]}")
    for key, value in tensors.items():
        if value.tobytes() != back[key].tobytes():
            raise SystemExit(f"{name}: {key} came back changed")


if __name__ == "__main__":
    sys.exit(main())
