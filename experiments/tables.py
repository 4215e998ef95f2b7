"""The tables and figures of the paper, and studies of ours, as rows by budgets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from experiments import published
from experiments.cells import EVERYTHING, LABELS, ROWS, SCORED, SCORERS, Cell


@dataclass(frozen=True)
class Table:
    """A table or figure of the paper, or a study of ours: rows by budgets on some settings."""

    title: str
    settings: tuple[tuple[str, str], ...]
    """(dataset, backbone), as the paper has them."""
    rows: tuple[str, ...]
    budgets: tuple[int, ...] = (1, 10, 50)
    paper: Callable[[str, str, str, int], float | None] = field(default=lambda *_: None)
    """(dataset, backbone, row, budget) -> the published top-1, percent; None: not published. For
    rows of several steps the place of a budget is taken by that of a step, from 0."""

    def cells(self, budgets: tuple[int, ...] | None = None) -> list[Cell]:
        """All its cells, small budgets first; training on everything has no budget, and is last."""
        rows = [ROWS[row] for row in self.rows]
        cells = [Cell(row, b) for b in budgets or self.budgets for row in rows if row != EVERYTHING]
        return cells + [Cell(row, 0) for row in rows if row == EVERYTHING]


_CONVNETS = (
    ("cifar10", "convnet3"),
    ("cifar100", "convnet3"),
    ("imagenette", "convnet5"),
    ("imagewoof", "convnet5"),
    ("tiny_imagenet", "convnet4"),
    ("imagenet100", "convnet6"),
    ("imagenet1k", "convnet4"),
)
_STUDENTS = (
    *("convnet3-instance", "convnet3-none", "convnet4-batch", "convnet5-batch", "resnet18"),
)
_MAIN = ("infoutil_paper_gp", "infoutil_clear", "rded", "random")
_OURS = (*_MAIN, "infoutil_kernel")
_FAIR = (*_OURS, "herding", "k_means", "forgetting", "grad_cam")

_COMPARED = (
    *("infoutil", "tiles1-infoutil", "random", "tiles1-random", "tiles4-random"),
    *("herding", "k_means", "el2n", "ccs", "forgetting"),
    *("rded", "rded-by-early", "tiles1-rded", "infoutil_paper_gp", "grad_cam"),
)

_RIVALS = ("random-stored", "rded-stored", "rded-by-early-stored")
_UNCENTRED = ("infoutil-stored-uncentred", "tiles1-infoutil-stored-uncentred")
_STORED = (
    *_UNCENTRED,
    *(f"{row}-centred" for row in _RIVALS),
    *(f"{row}-at1" for row in (*_UNCENTRED, *_RIVALS)),
)

TABLES: dict[str, Table] = {
    "recommended": Table(
        "The recommended recipe beside its rivals",
        (
            ("digits", "convnet3"),
            ("cifar10", "convnet3"),
            ("cifar10", "resnet18"),
            ("imagenette", "convnet4"),
            ("imagenette", "convnet5"),
            ("rsscn7", "convnet4"),
            ("chest_xray", "convnet4"),
            ("hymenoptera", "convnet4"),
        ),
        (
            *(f"{name}{end}" for end in LABELS for name in _COMPARED),
            # Rivals whose tiles are images, too; who has centred labels, and at which temperature.
            *(f"tiles4-{name}{end}-parted" for end in LABELS for name in ("random", "rded")),
            *_STORED,
        ),
    ),
    "table1": Table(
        "Table 1: the main comparison",
        tuple((d, b) for d, convnet in _CONVNETS for b in (convnet, "resnet18", "resnet101")),
        (
            *("infoutil_paper_gp", "infoutil_clear", "infoutil_kernel", "rded", "random", "sre2l"),
            "everything",
        ),
        paper=published.main,
    ),
    "table4": Table(
        "Table 4: classes in five steps (after each, a new student on all seen)",
        (("imagenette", "convnet5"),),
        tuple(f"{name}-steps5" for name in _MAIN),
        (50,),
        published.continual,
    ),
    "table3": Table(
        "Table 3: ImageNet-1K",
        (("imagenet1k", "resnet18"), ("imagenet1k", "resnet101")),
        ("infoutil_paper_gp", "rded", "sre2l"),
        paper=published.imagenet,
    ),
    "table5": Table(
        "Table 5: large budgets",
        (("tiny_imagenet", "resnet18"), ("imagenet1k", "resnet18")),
        ("infoutil_paper_gp", "rded", "sre2l"),
        (50, 100, 200),
        published.large,
    ),
    "table6": Table(
        "Table 6: crop and score",
        (("imagewoof", "resnet18"), ("imagenette", "resnet18"), ("imagenet1k", "resnet18")),
        ("rded", "random_crop_gradient_norm", "shapley_crop_loss", "infoutil_paper_gp"),
        paper=published.ablation,
    ),
    "table7": Table(
        "Table 7: noise on the map",
        tuple((d, "resnet18") for d in ("imagenette", "imagewoof", "imagenet100", "imagenet1k")),
        ("infoutil_paper_gp", "no_noise"),
        paper=published.noise,
    ),
    "table8": Table(
        "Table 8: the attribution",
        (("imagenet1k", "resnet18"),),
        ("grad_cam", "infoutil_paper_gp"),
        paper=published.attribution,
    ),
    "table9": Table(
        "Tables 9 and 10: coresets",
        (
            *((d, b) for d, b in _CONVNETS if d in ("cifar10", "cifar100", "tiny_imagenet")),
            ("tiny_imagenet", "resnet18"),
            ("imagenet1k", "resnet18"),
        ),
        (
            "infoutil_paper_gp",
            "infoutil_clear",
            "random",
            "herding",
            "k_means",
            "k_center",
            "forgetting",
        ),
        paper=published.coresets,
    ),
    "table11": Table(
        "Table 11: a converged teacher labels",
        (("imagewoof", "convnet5"), ("imagewoof", "resnet18"), ("imagewoof", "resnet101")),
        ("infoutil_paper_gp-converged-labels", "rded-converged-labels"),
        paper=published.converged,
    ),
    "labels": Table(
        "Label policies",
        (("cifar10", "convnet3"),),
        (
            *(f"{name}{end}" for end in ("", "-stored", "-hard") for name in _FAIR),
            *(f"rded-by-early{end}" for end in ("", "-stored", "-hard")),
            *(f"{name}-converged-labels" for name in _MAIN),
            *(f"{name}-plain-views" for name in _FAIR),
        ),
    ),
    "augmentation": Table(
        "AutoAugment on the student's views",
        _CONVNETS,
        tuple(f"{name}{end}" for end in ("", "-autoaugment") for name in _MAIN),
        # The paper's Table 1 has it on.
        paper=lambda d, b, row, n: published.main(d, b, row.removesuffix("-autoaugment"), n),
    ),
    "dsa": Table(
        "DSA's colours and cutout on the student's views",
        (*_CONVNETS, ("digits", "convnet3")),
        tuple(
            f"{row}{end}"
            for labels in LABELS
            for row in (
                f"tiles1-infoutil{labels}" + "-uncentred" * (labels == "-stored"),
                *(f"{name}{labels}" for name in ("rded", "random")),
            )
            for end in ("", "-dsa")
        ),
    ),
    "why": Table(
        "Why the printed rule loses: its labels, its teacher, its highest scores, its crops",
        (("cifar10", "convnet3"), ("imagenette", "convnet4")),
        (
            *(
                "random",
                "random-hard",
                "infoutil_paper_gp",
                "infoutil_paper_gp-hard",
                "side0.5-highest-early",
            ),
            *("cap0.9", "cap0.5", "cap0.25", "side0.5-lowest", "side1.0-highest"),
            *("side1.0-lowest", "side1.0-lowest-early", "infoutil_clear"),
        ),
        (1, 10),
    ),
    "crops": Table(
        "Crop side and direction of the score",
        (("cifar10", "convnet3"),),
        (
            *(f"side{side}-{keep}" for side in (1.0, 0.75) for keep in ("lowest", "highest")),
            *("side0.5-lowest", "infoutil_paper_gp"),  # whose side is 0.5, the highest kept
        ),
        (1, 10),
    ),
    "scoring": Table(
        "Which teacher scores",
        (("cifar10", "convnet3"),),
        (
            *("side1.0-lowest", "side1.0-lowest-early"),
            *(
                "side0.5-lowest",
                "side0.5-lowest-early",
                "infoutil_paper_gp",
                "side0.5-highest-early",
            ),
            *(f"{name}-by-{scorer}" for name in SCORED for scorer in SCORERS),
        ),
        (1, 10),
    ),
    "grids": Table(
        "Crop side, grid and noise",
        (("cifar10", "convnet3"),),
        tuple(name for name in ROWS if name.startswith("grid")),
        (10,),
    ),
    "coalitions": Table(
        "Coalitions evaluated for each image",
        (("cifar10", "convnet3"),),
        # The first: until the window is chosen, 256 at most.
        ("infoutil_paper_gp", *(f"budget{n}" for n in (32, 64, 128, 256, 512))),
        (10,),
    ),
    "tiles": Table(
        "Four tiles an image, at low resolution",
        (("cifar10", "convnet3"),),
        tuple(f"{s}{name}" for s in ("", "tiles4-") for name in _OURS),
    ),
    "transfer": Table(
        "Table 2: other students than the teacher's kind",
        (("cifar10", "convnet3"),),
        tuple(f"{name}-to-{student}" for student in _STUDENTS for name in _OURS),
        (1, 10),
    ),
    "transfer_resnet18": Table(
        "Table 2: other students than ResNet-18",
        (("cifar10", "resnet18"),),
        tuple(f"{name}-to-convnet3" for name in _OURS),
        (1, 10),
    ),
}
