"""Distilled sets under shift, attack, wrong labels, poor teachers, rare classes: cell by cell.

    python -m experiments.robustness shift noise teachers --dataset digits
    python -m experiments.robustness --tables

Each cell adds a line to `experiments/results/robustness/<study>.jsonl`; a cell that has a line is
not run again. `--tables` writes the tables of `docs/robustness.md` from the lines.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from flax import nnx
from scipy.special import softmax

from experiments import domains, store
from experiments.adversarial import attacked
from experiments.corruptions import KINDS, corrupted
from experiments.robustness_tables import write_tables
from experiments.small import Cell, Study, figures
from experiments.weather import photographs_in
from infoutil_jax import models
from infoutil_jax.app.accounts import own_class_share
from infoutil_jax.app.governance.mislabelled import doubted, judge
from infoutil_jax.data.sources import Source
from infoutil_jax.data.split import Split
from infoutil_jax.method.recipes import RECIPES
from infoutil_jax.training.classifier import Classifier
from infoutil_jax.training.evaluation import model_logits, top_k
from infoutil_jax.training.teacher import Teacher

RESULTS = Path(__file__).parent / "results" / "robustness"
BUDGET = 10
SEVERITIES = (1, 3, 5)
STEPS = {"fgsm": 1, "pgd": 10}
SIZES = (1, 2, 4, 8)  # of 255
RATES = (0, 10, 20, 40)  # percent
RATIOS = (2, 3, 5, 10)
THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
TEACHERS = ("own", "other_half", "tenth", "validation_images", "other_labels", "untrained")


@dataclass(frozen=True)
class Robustness:
    """Which studies, on which dataset."""

    studies: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """shift, noise, doubts, teachers, missing, views, imbalance."""
    dataset: str = "digits"
    """A name of experiments.small.SMALL."""
    data: str | None = None
    """folder:PATH; by default where the dataset lies."""
    recipes: tuple[str, ...] = ("random", "rded", "infoutil", "infoutil_paper")
    """Names of infoutil_jax's recipes."""
    frost: Path | None = None
    """Photographs of frost, for shift: folder `frost` of the package imagecorruptions."""
    cells: str = ""
    """Only cells whose names hold this."""
    tables: bool = False
    """Writes the tables, too."""
    workdir: Path = Path("runs/robustness")
    """Teachers and sets."""
    results: Path = RESULTS
    """Where the lines go."""

    def run(self) -> None:
        """Adds the lines that are not there."""
        for name in self.studies:
            file = self.results / f"{name}.jsonl"
            study = Study.open(self.dataset, self.data, self.workdir)
            if self.frost is not None:
                study = replace(study, frost=photographs_in(self.frost))
            for cell, measure in STUDIES[name](study, self.recipes):
                if self.cells not in cell or cell in store.read(file, _name):
                    continue
                started = time.perf_counter()
                line = {"name": cell} | measure() | study.about()
                line["seconds"] = round(time.perf_counter() - started, 1)
                store.add(file, line, _name)
                print(cell, line["seconds"], flush=True)
        if self.tables:
            write_tables(self.results)


def _name(line: dict[str, Any]) -> str:
    return str(line["name"])


def shift(study: Study, recipes: tuple[str, ...]) -> Iterator[Cell]:
    """Students of sets and the teacher, on corrupted and on attacked validation images."""
    for recipe in ("teacher", *recipes):
        yield f"{study.dataset}, {recipe}", partial(_shifted, study, recipe)


def _shifted(study: Study, recipe: str) -> dict[str, Any]:
    teachers = study.teachers(study.source, "own")
    if recipe == "teacher":
        models: list[Classifier] = [teachers["converged"]]
    else:
        sets, labeller = study.sets(study.source, teachers, RECIPES[recipe](), BUDGET)
        models = study.classifiers(study.students(sets, labeller, "online"), labeller)
    images, labels = study.source.test.arrays()
    frost = study.frost

    def accuracies(some: np.ndarray) -> list[float]:
        return figures(top_k(model_logits(one, some), labels, 1) for one in models)

    without = {"saturate"} if images.shape[3] == 1 else set()
    kinds = [kind for kind in KINDS if kind not in without | ({"frost"} if not frost else set())]
    return {
        "recipe": recipe,
        "clean": accuracies(images),
        "corrupted": {
            kind: {
                str(s): accuracies(corrupted(images, kind, s, photographs=frost))
                for s in SEVERITIES
            }
            for kind in kinds
        },
        "attacked": {
            name: {
                str(size): figures(
                    top_k(attacked(one, images, labels, size=float(size), steps=steps), labels, 1)
                    for one in models
                )
                for size in SIZES
            }
            for name, steps in STEPS.items()
        },
    }


def noise(study: Study, recipes: tuple[str, ...]) -> Iterator[Cell]:
    """Wrong labels in the source: which are kept, what students make of them, who finds them."""
    for rate in RATES:
        for recipe in recipes:
            name = f"{study.dataset}, {rate}% wrong, {recipe}"
            yield name, partial(_noisy, study, rate, recipe)


def with_wrong(labels: np.ndarray, classes: int, rate: float, seed: int = 0) -> np.ndarray:
    """Labels of which a share, drawn without regard to class, is another class at random."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(labels))[: round(rate * len(labels))]
    wrong = labels.copy()
    wrong[rows] = (labels[rows] + rng.integers(1, classes, len(rows))) % classes
    return wrong


def _with_wrong(study: Study, rate: int) -> tuple[np.ndarray, Source, dict[str, Teacher]]:
    """The right labels, the source with wrong ones, and the teachers that learn these."""
    right = study.source.train.labels
    source = study.relabelled(with_wrong(right, len(study.source.class_names), rate / 100))
    return right, source, study.teachers(source, f"wrong{rate}")


def _noisy(study: Study, rate: int, recipe: str) -> dict[str, Any]:
    right, source, teachers = _with_wrong(study, rate)
    sets, labeller = study.sets(source, teachers, RECIPES[recipe](), BUDGET)
    kept = [[tile["example"] for record in one.records for tile in record["tiles"]] for one in sets]
    wrong = [source.train.labels[rows] != right[rows] for rows in kept]
    return {
        "recipe": recipe,
        "rate": rate,
        "labelled_by": labeller.stage,
        "teachers": {stage: round(one.accuracy or 0, 2) for stage, one in teachers.items()},
        "wrong_kept": figures(100 * rows.mean() for rows in wrong),
        "top1": study.trained(sets, labeller),
        "doubted": {
            stage: _doubted(one, source.train, kept, wrong) for stage, one in teachers.items()
        },
    }


def _doubted(teacher: Teacher, train: Split, kept: list[Any], wrong: list[Any]) -> dict[str, Any]:
    """Kept images that a teacher takes for another class, by how sure it is: all, and the wrong."""
    rows, wrong_rows = np.concatenate(kept), np.concatenate(wrong)
    images = np.stack([train.image(row) for row in rows])
    shares = softmax(model_logits(teacher, images), axis=1)
    other = shares.argmax(1) != train.labels[rows]
    found: dict[str, Any] = {"kept": len(rows), "wrong": int(wrong_rows.sum())}
    for least in THRESHOLDS:
        doubted = other & (shares.max(1) >= least)
        found[str(least)] = [int(doubted.sum()), int((doubted & wrong_rows).sum())]
    return found


def doubts(study: Study, recipes: tuple[str, ...]) -> Iterator[Cell]:
    """Which kept images `audit` takes for mislabelled, by the teacher asked and by its ratio."""
    for rate in RATES:
        for recipe in recipes:
            yield f"{study.dataset}, {rate}% wrong, {recipe}", partial(_doubts, study, rate, recipe)


def _doubts(study: Study, rate: int, recipe: str) -> dict[str, Any]:
    right, source, teachers = _with_wrong(study, rate)
    sets, _ = study.sets(source, teachers, RECIPES[recipe](), BUDGET)
    kept = [{tile["example"] for record in one.records for tile in record["tiles"]} for one in sets]
    wrong = [{i for i in some if source.train.labels[i] != right[i]} for some in kept]

    def found(teacher: Teacher, ratio: float) -> list[int]:
        told = [set(doubted(one, source, teacher, ratio)) for one in sets]
        both = zip(told, wrong, strict=True)
        return [sum(map(len, told)), sum(len(these & those) for these, those in both)]

    return {
        "recipe": recipe,
        "rate": rate,
        "kept": sum(map(len, kept)),
        "wrong": sum(map(len, wrong)),
        "asked": judge(teachers).stage,
        "doubted": {
            stage: {f"{ratio:g}": found(one, ratio) for ratio in RATIOS}
            for stage, one in teachers.items()
        },
    }


def teachers(study: Study, recipes: tuple[str, ...]) -> Iterator[Cell]:
    """Sets scored and labelled by teachers of other training."""
    for teacher in TEACHERS:
        for recipe in recipes:
            name = f"{study.dataset}, {teacher}, {recipe}"
            yield name, partial(_by_teacher, study, teacher, recipe)


def _by_teacher(study: Study, name: str, recipe: str) -> dict[str, Any]:
    source, own = study.source, study.teachers(study.source, "own")
    halves = np.arange(len(source.train)) % 2
    taught, pool = source, source
    if name == "other_half":
        taught = study.of_images(np.flatnonzero(halves == 0))
        pool = study.of_images(np.flatnonzero(halves == 1))
    elif name == "tenth":
        taught = study.of_images(np.arange(0, len(source.train), 10))
    elif name == "validation_images":
        taught = replace(source, train=source.test, _fingerprint=f"{source.fingerprint()} test")
    elif name == "other_labels":
        rng, classes = np.random.default_rng(0), len(source.class_names)
        taught = study.relabelled(rng.integers(0, classes, len(source.train)))
    if name == "untrained":
        found = {"converged": _untrained(study, own["converged"])}
    elif name == "own":
        found = own
    else:
        found = study.teachers(taught, name)
    sets, labeller = study.sets(pool, found, RECIPES[recipe](), BUDGET)
    return {
        "recipe": recipe,
        "teacher": name,
        "labelled_by": labeller.stage,
        "accuracy": _accuracies(study, found),
        "top1": study.trained(sets, labeller),
        "own_class": figures(own_class_share(one) for one in sets),
    }


def _accuracies(study: Study, found: dict[str, Teacher]) -> dict[str, float]:
    images, labels = study.source.test.arrays()
    return {
        stage: round(top_k(model_logits(one, images), labels, 1), 2) for stage, one in found.items()
    }


def _untrained(study: Study, like: Teacher) -> Teacher:
    known = like.architecture
    assert known is not None
    module = models.create(
        known.name,
        num_classes=known.num_classes,
        image_size=known.image_size,
        channels=known.channels,
        rngs=nnx.Rngs(0),
        **dict(known.options),
    )
    predict, variables = models.as_predict(module)
    return replace(like, predict=predict, variables=variables, accuracy=None, known=None)


STUDIES: dict[str, Callable[[Study, tuple[str, ...]], Iterator[Cell]]] = {
    "shift": shift,
    "noise": noise,
    "doubts": doubts,
    "teachers": teachers,
    "missing": domains.missing,
    "views": domains.views,
    "imbalance": domains.imbalance,
}


def main() -> None:
    """Entry point."""
    tyro.cli(Robustness, description=__doc__).run()


if __name__ == "__main__":
    main()
