"""What is run: rows (a method with its teachers, labels and student), and the tables they fill.

A cell is a row at a budget on a dataset with a backbone. Tables share cells: what one has run,
another finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from experiments.store import Key
from infoutil_jax.app.config import RecipeConfig, Stage
from infoutil_jax.method.selection import Keep
from infoutil_jax.training.config import LabelPolicy


@dataclass(frozen=True)
class Row:
    """A method, and everything beside it that an accuracy depends on."""

    name: str
    recipe: RecipeConfig
    scorer: str = "converged"
    """The teacher that attributes and scores: a stage ("auto" labels, too), "untrained", or another
    backbone's name."""
    label_stage: Stage = "auto"
    labels: LabelPolicy = "online"
    augment: bool = True
    autoaugment: bool = False
    dsa: bool = False
    """DSA's colours and cutout on the student's views."""
    partition: bool | None = None
    """Students take each tile for an image of its own, enlarged; None: as the set asks."""
    temperature: float | None = None
    """Of the soft labels; None: as the set asks."""
    centred: bool | None = None
    """Of soft labels, each class's mean over the set is taken; None: as the recipe has it."""
    student: str | None = None
    """The student's backbone; None for the teacher's."""
    norm: str | None = None
    """The student's normalisation; None for the teacher's."""
    steps: int = 1
    """The classes come in this many equal steps. After each a new student is trained on the sets
    of all classes seen, and tested on them (GDumb, Prabhu et al., ECCV 2020)."""


@dataclass(frozen=True)
class Cell:
    """One row at one budget."""

    row: Row
    images_per_class: int

    def key(self, set_seed: int = 0) -> Key:
        """Names the result of one of its distilled sets."""
        return Key(self.row.name, self.images_per_class, set_seed)


# The printed rule, its Shapley values by our estimator: it finds the same windows (98 of 100) from
# fewer coalitions. Its row is called infoutil_paper_gp.
PRINTED = RecipeConfig("infoutil_paper", strategy="gaussian")


def _crop(side: float, keep: Keep, **options: Any) -> RecipeConfig:
    chosen = replace(PRINTED, side=side, keep=keep, **options)
    # The whole image is one crop, wherever its patches matter: no need to ask.
    return replace(chosen, num_crops=1, budget=2) if side == 1.0 else chosen


METHODS = (
    *("infoutil", "infoutil_paper_gp", "infoutil_paper", "infoutil_clear", "infoutil_kernel"),
    *("rded", "random", "herding", "k_means", "k_center", "el2n", "ccs"),
    *("forgetting", "sre2l"),
    *("grad_cam", "random_crop_gradient_norm", "shapley_crop_loss", "no_noise"),
)


def _method(name: str) -> Row:
    recipe = PRINTED if name == "infoutil_paper_gp" else RecipeConfig(name)
    labels_too = recipe.recipe in ("infoutil", "infoutil_clear", "infoutil_kernel")
    return Row(name, recipe, scorer="auto" if labels_too else "converged")


EVERYTHING = Row("everything", RecipeConfig("everything"), labels="hard")
SCORED = ("infoutil_paper_gp", "infoutil_clear", "rded", "herding")
SCORERS = ("untrained", "early", "convnet4")
LABELS: dict[str, LabelPolicy] = {"": "online", "-stored": "stored", "-hard": "hard"}
POLICIES: dict[str, Mapping[str, Any]] = {
    "stored": {"labels": "stored"},
    "hard": {"labels": "hard"},
    "converged-labels": {"label_stage": "converged"},
    "plain-views": {"augment": False},
    "autoaugment": {"autoaugment": True},
    "dsa": {"dsa": True},
    "stored-dsa": {"labels": "stored", "dsa": True},
    "hard-dsa": {"labels": "hard", "dsa": True},
}


def _rows() -> dict[str, Row]:
    rows = [EVERYTHING, *map(_method, METHODS)]
    rows += [
        replace(_method(name), name=f"{name}-{policy}", **change)
        for name in METHODS
        for policy, change in POLICIES.items()
    ]
    rows += [
        replace(_method(name), name=f"{name}-to-{student}-{norm}", student=student, norm=norm)
        for name in METHODS
        for student in ("convnet3", "convnet4", "convnet5")
        for norm in ("batch", "instance", "none")
    ]
    rows += [
        replace(_method(name), name=f"{name}-to-{student}", student=student)
        for name in METHODS
        for student in ("convnet3", "resnet18")
    ]
    for side in (1.0, 0.75, 0.5):
        for keep in get_args(Keep):
            row = Row(f"side{side}-{keep}", _crop(side, keep))
            rows += [row, replace(row, name=f"{row.name}-early", scorer="early")]
    rows += [
        Row(f"grid{grid}-side{side}-alpha{alpha}", _crop(side, "highest", grid=grid, alpha=alpha))
        for grid in (3, 4, 5, 7)
        for side in (0.5, 0.75)
        for alpha in (0.0, 2.0)
    ]
    rows += [
        replace(_method(name), name=f"{name}-by-{scorer}", scorer=scorer)
        for name in SCORED
        for scorer in SCORERS
    ]
    # One teacher for both, as in RDED's own code, where an early one labels.
    rows += [
        replace(_method("rded"), name=f"rded-by-early-{labels}", scorer="early", labels=labels)
        for labels in ("stored", "hard")
    ]
    rows += [Row(f"cap{q}", replace(PRINTED, max_quantile=q)) for q in (0.9, 0.5, 0.25)]
    # At this confidence no image is done before its last coalition.
    rows += [
        Row(f"budget{n}", replace(PRINTED, budget=n, confidence=1.0))
        for n in (32, 64, 128, 256, 512)
    ]
    rows += [replace(_method(name), name=f"{name}-steps5", steps=5) for name in METHODS]
    rows += [
        replace(
            _method(name),
            name=f"tiles{tiles}-{name}{end}",
            recipe=replace(_method(name).recipe, tiles=tiles),
            labels=labels,
        )
        for tiles in (1, 4)
        for name in METHODS
        for end, labels in LABELS.items()
    ]
    tiled = [row for row in rows if row.recipe.tiles == 4]
    rows += [replace(row, name=f"{row.name}-parted", partition=True) for row in tiled]
    rows += _stored({row.name: row for row in rows})
    whole = [row for row in rows if row.recipe.tiles == 1 and row.temperature is None]
    rows += [replace(row, name=f"{row.name}-dsa", dsa=True) for row in whole]
    return {row.name: row for row in rows}


def _stored(of: Mapping[str, Row]) -> list[Row]:
    """Stored labels, centred or not, and read at temperature 1 instead of RDED's."""
    rivals = ("random", "rded", "rded-by-early")
    plain = [
        replace(of[f"{name}-stored"], name=f"{name}-stored-uncentred", centred=False)
        for name in ("infoutil", "tiles1-infoutil", "tiles4-infoutil")
    ]
    rows = [
        replace(of[f"{name}-stored"], name=f"{name}-stored-centred", centred=True)
        for name in rivals
    ]
    rows += [
        replace(row, name=f"{row.name}-at1", temperature=1.0)
        for row in (*plain, *(of[f"{name}-stored"] for name in rivals))
    ]
    return plain + rows


ROWS = _rows()
