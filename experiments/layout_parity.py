"""Our backbones against timm's and Hugging Face's own modules, under the same random weights.

    pip install -e ".[parity]"
    python -m experiments.layout_parity

Prints and writes the relative error of the logits, and records names, shapes and logits, from which
the test suite makes the same files without PyTorch. Weights are drawn by the library's own names.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from experiments.torchvision_parity import ours, random_images, random_tensor
from infoutil_jax import provenance

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "layout_parity.json"
RECORDED = HERE.parent / "tests" / "fixtures" / "layouts.json.gz"
CLASSES = 10
# Ours, the side of the recorded images (of Swin V2 the one that its windows divide: these libraries
# shrink windows that do not fit where torchvision pads), the library, its model.
CASES: dict[str, tuple[str, int, str, Any]] = {
    "timm resnet18": ("resnet18", 64, "timm", "resnet18"),
    "timm resnet50": ("resnet50", 64, "timm", "resnet50"),
    "timm resnet101": ("resnet101", 64, "timm", "resnet101"),
    "timm mobilenetv2_100": ("mobilenet_v2", 64, "timm", "mobilenetv2_100"),
    "timm vgg11": ("vgg11", 64, "timm", "vgg11"),
    "timm vgg11_bn": ("vgg11_bn", 64, "timm", "vgg11_bn"),
    "timm swinv2_tiny": ("swin_v2_t", 256, "timm", "swinv2_tiny_window8_256"),
    "Hugging Face resnet-18": (
        *("resnet18", 64, "transformers"),
        {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]},
    ),
    "Hugging Face resnet-50": ("resnet50", 64, "transformers", {}),
    "Hugging Face resnet-101": ("resnet101", 64, "transformers", {"depths": [3, 4, 23, 3]}),
    "Hugging Face swinv2-tiny": (
        *("swin_v2_t", 256, "transformers"),
        {"image_size": 256, "window_size": 8},
    ),
}
SIDES = (224,)


def drawn(shapes: Mapping[str, list[int]]) -> dict[str, np.ndarray]:
    """A state dict of these names and shapes."""
    return {name: random_tensor(name, tuple(shape)) for name, shape in shapes.items()}


def theirs(library: str, model: Any):
    """The library's own module, in evaluation mode, and its function from images to logits."""
    if library == "timm":
        import timm

        module = timm.create_model(model, pretrained=False, num_classes=CLASSES).eval()
        return module, module
    import transformers

    name = "Swinv2" if "window_size" in model else "ResNet"
    config = getattr(transformers, f"{name}Config")(num_labels=CLASSES, **model)
    module = getattr(transformers, f"{name}ForImageClassification")(config).eval()
    return module, lambda images: module(images).logits


def main() -> int:
    """Compare every case; returns 1 where one is off."""
    import timm
    import torch
    import transformers

    errors: dict[str, dict[str, float]] = {}
    recorded = {}
    for case, (name, side, library, model) in CASES.items():
        module, logits = theirs(library, model)
        shapes = {
            key: list(value.shape)
            for key, value in module.state_dict().items()
            if value.is_floating_point()
        }
        tensors = drawn(shapes)
        module.load_state_dict({k: torch.tensor(v) for k, v in tensors.items()}, strict=False)
        errors[case] = {}
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "model.safetensors"
            safetensors.numpy.save_file(tensors, path)
            for size in (side,) if side == 256 else (*SIDES, side):
                images = random_images(size)[:1]
                with torch.no_grad():
                    wanted = logits(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()
                got = ours(name, {}, path, size)[:1]
                errors[case][str(size)] = float(np.abs(got - wanted).max() / np.abs(wanted).max())
        recorded[case] = {"shapes": shapes, "logits": wanted[0].tolist()}
        print(case, errors[case], flush=True)
    result = {
        "what": "largest difference of the logits over their largest size, by image side",
        "errors": errors,
        "versions": {
            **provenance.versions(),
            "torch": torch.__version__,
            "timm": timm.__version__,
            "transformers": transformers.__version__,
        },
        "hardware": provenance.hardware(),
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    RECORDED.write_bytes(gzip.compress(json.dumps(recorded).encode(), mtime=0))
    return int(max(max(sizes.values()) for sizes in errors.values()) > 1e-4)


if __name__ == "__main__":
    sys.exit(main())
