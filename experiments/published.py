"""The paper's figures, table by table, under our names of datasets, backbones and rows.

Each function maps (dataset, backbone, row, budget) to the published top-1 in percent, or to None
where nothing is published. The figures are in `paper_results.json`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from experiments.datasets import DATASETS

PAPER: dict[str, Any] = json.loads((Path(__file__).parent / "paper_results.json").read_text())
NAMES = {"infoutil_paper_gp": "InfoUtil", "rded": "RDED", "sre2l": "SRe2L", "random": "Random"}
NAMES |= {"herding": "Herding", "forgetting": "Forgetting", "k_means": "K-Means"}
BACKBONES = {"resnet18": "ResNet-18", "resnet101": "ResNet-101"}


def look(*keys: Any) -> float | None:
    """The published figure under the keys, one inside the other."""
    found: Any = PAPER
    for key in keys:
        if found is None:
            return None
        found = found[key] if isinstance(found, list) else found.get(str(key))
    return found


def main(dataset: str, backbone: str, row: str, budget: int) -> float | None:
    """Table 1."""
    name = "ConvNet" if backbone.startswith("convnet") else BACKBONES.get(backbone)
    title = DATASETS[dataset].title
    return look("table1_main", title, budget, f"{name}/{NAMES.get(row)}")


def continual(dataset: str, backbone: str, row: str, step: int) -> float | None:
    """Table 4; the place of the budget is taken by the step, from 0."""
    del backbone  # the paper does not say which
    share = look(
        "table4_continual_imagenette_ipc50_5_steps", NAMES.get(row.removesuffix("-steps5")), step
    )
    return None if share is None or dataset != "imagenette" else round(100 * share, 2)


def coresets(dataset: str, backbone: str, row: str, budget: int) -> float | None:
    """Tables 9 and 10."""
    title, name = DATASETS[dataset].title, NAMES.get(row)
    if backbone == "resnet18":
        return look("table10_coresets_resnet18_ipc10", title, name) if budget == 10 else None
    return look("table9_coresets_convnet", title, budget, name)


def ablation(dataset: str, backbone: str, row: str, budget: int) -> float | None:
    """Table 6."""
    columns = [("imagewoof", 10), ("imagewoof", 50), ("imagenette", 50), ("imagenet1k", 10)]
    names = {"rded": "random crop + loss score (RDED)"}
    names |= {"random_crop_gradient_norm": "random crop + gradient norm"}
    names |= {"infoutil_paper_gp": "Shapley crop + gradient norm"}
    if backbone != "resnet18" or (dataset, budget) not in columns or row not in names:
        return None
    return look("table6_ablation_resnet18", names[row], columns.index((dataset, budget)))


def noise(dataset: str, backbone: str, row: str, budget: int) -> float | None:
    """Table 7."""
    order = ["imagenette", "imagewoof", "imagenet100", "imagenet1k"]
    if (
        backbone != "resnet18"
        or dataset not in order
        or row not in ("infoutil_paper_gp", "no_noise")
    ):
        return None
    return look("table7_noise_resnet18", budget, 2 * order.index(dataset) + (row == "no_noise"))


def attribution(dataset: str, backbone: str, row: str, budget: int) -> float | None:
    """Table 8."""
    name = {"infoutil_paper_gp": "Shapley", "grad_cam": "Grad-CAM"}.get(row)
    if (dataset, backbone) != ("imagenet1k", "resnet18"):
        return None
    return look("table8_attribution_imagenet1k_resnet18", name, budget)


def converged(dataset: str, backbone: str, row: str, budget: int) -> float | None:
    """Table 11."""
    name = "ConvNet" if backbone.startswith("convnet") else BACKBONES.get(backbone)
    method = NAMES.get(row.removesuffix("-converged-labels"))
    if dataset != "imagewoof" or budget not in (1, 10, 50):
        return None
    return look("table11_converged_teacher_imagewoof", name, method, (1, 10, 50).index(budget))


def large(dataset: str, backbone: str, row: str, budget: int) -> float | None:
    """Table 5."""
    column = f"{NAMES.get(row)} {backbone[0].upper()}{backbone.removeprefix('resnet')}"
    return look("table5_large_ipc", DATASETS[dataset].title, budget, column)


def imagenet(dataset: str, backbone: str, row: str, budget: int) -> float | None:
    """Table 3."""
    first = {"resnet18": 0, "resnet101": 3}.get(backbone)
    if dataset != "imagenet1k" or first is None or budget not in (1, 10, 50):
        return None
    return look("table3_imagenet1k", NAMES.get(row), first + (1, 10, 50).index(budget))
