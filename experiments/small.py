"""What small studies share: a set of images without its test images, teachers, sets, students.

A fifth of the training images, which neither teachers nor distilled sets see, takes the place of
the test images, so that anything may be chosen by these studies. Set s of a recipe is drawn with
the seed s and teaches the student s; all sets of a study have one teacher.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from experiments.datasets import validating
from experiments.weather import Photographs
from infoutil_jax import DistillConfig, distill, provenance
from infoutil_jax.app.pipeline import choose_teacher, train_teachers
from infoutil_jax.app.students import train_students
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.sources import Source, open_source
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.training.classifier import Classifier
from infoutil_jax.training.config import StudentConfig, TeacherConfig
from infoutil_jax.training.student import StudentResult
from infoutil_jax.training.teacher import Teacher

Cell = tuple[str, Callable[[], dict[str, Any]]]
"""A cell's name, and what measures it."""
LABELS = ("online", "hard")
"""What students are taught."""


@dataclass(frozen=True)
class Small:
    """How much of a dataset a study takes, and how long it trains."""

    title: str
    spec: str
    per_class: int | None
    """Training images of a class, at most, before a fifth is cut off."""
    image_size: int | None = None
    teacher_epochs: int | None = None
    student_epochs: int = 300
    sets: int = 5
    width: int = 32


SMALL: dict[str, Small] = {
    "digits": Small("the digits", "digits", None),
    "cifar10": Small("CIFAR-10, JPEG", "folder:cifar10", 500, None, 20, student_epochs=100, sets=3),
    "cifar10_whole": Small(
        "CIFAR-10, JPEG, all of it", "folder:cifar10", None, None, 8, student_epochs=100, sets=3
    ),
    "rsscn7": Small("RSSCN7", "folder:rsscn7_96", 160, 32, 15, student_epochs=60, sets=3, width=16),
    "chest_xray": Small(
        "chest X-rays", "folder:chest_xray_96", 250, 32, 15, student_epochs=60, sets=3, width=16
    ),
}


@dataclass(frozen=True)
class Study:
    """One dataset, cut into training and validation images."""

    dataset: str
    small: Small
    source: Source
    workdir: Path
    flips: dict[str, Any] = field(default_factory=dict)
    """Of teachers and students, where they are not the dataset's own."""
    frost: Photographs = ()
    """Photographs of it, for that corruption."""

    @classmethod
    def open(cls, dataset: str, data: str | None, workdir: Path) -> Study:
        """Opens a dataset of `SMALL`.

        Args:
            dataset: its name there.
            data: folder:PATH; None for where `SMALL` has it.
            workdir: of teachers and distilled sets.
        """
        if dataset not in SMALL:
            raise InputError(f"dataset {dataset!r} is unknown: choose {', '.join(SMALL)}")
        small = SMALL[dataset]
        source = open_source(
            data or small.spec, image_size=small.image_size, max_per_class=small.per_class
        )
        return cls(dataset, small, validating(source), workdir / dataset)

    def of_images(self, rows: Int[np.ndarray, " k"]) -> Source:
        """The source with some training images only, in that order."""
        about = f"{self.source.fingerprint()} {rows.tolist()}".encode()
        return replace(
            self.source,
            train=self.source.train.take(rows),
            _fingerprint=hashlib.sha256(about).hexdigest(),
            _told=None,
        )

    def relabelled(self, labels: Int[np.ndarray, " n"]) -> Source:
        """The source with other labels of its training images."""
        about = f"{self.source.fingerprint()} {labels.tolist()}".encode()
        labels = labels.astype(np.int32)
        return replace(
            self.source,
            train=replace(self.source.train, labels=labels, fingerprint=None),
            _fingerprint=hashlib.sha256(about).hexdigest(),
            _told=None,
        )

    def teachers(self, source: Source, name: str, **options: Any) -> dict[str, Teacher]:
        """Trains teachers, or loads those of that name."""
        config = TeacherConfig(
            backbone="convnet3", width=self.small.width, epochs=self.small.teacher_epochs
        )
        config = replace(config, **self.flips, **options)
        return train_teachers(source, self.workdir / "teachers" / name, config, progress=False)

    def sets(
        self,
        source: Source,
        teachers: dict[str, Teacher],
        recipe: Recipe,
        budget: int,
        by_class: tuple[int, ...] | None = None,
    ) -> tuple[list[DistilledDataset], Teacher]:
        """Distils sets, and says who labelled them."""
        labeller = choose_teacher(teachers, "auto", budget)
        config = DistillConfig(overwrite=True, progress=False, by_class=by_class)
        made = [
            distill(
                source,
                teachers["converged"],
                recipe,
                images_per_class=budget,
                workdir=self.workdir / "sets" / f"{recipe.name}-{seed}",
                label_teacher=labeller,
                seed=seed,
                config=config,
            )
            for seed in range(self.small.sets)
        ]
        return made, labeller

    def students(
        self, sets: Sequence[DistilledDataset], labeller: Teacher, labels: Any
    ) -> StudentResult:
        """Trains a student on each set."""
        config = StudentConfig(
            backbone="convnet3",
            width=self.small.width,
            epochs=self.small.student_epochs,
            labels=labels,
            seeds=tuple(range(len(sets))),
        )
        config = replace(config, **self.flips)
        return train_students(sets, self.source, labeller, config, progress=False)

    def trained(
        self, sets: Sequence[DistilledDataset], labeller: Teacher
    ) -> dict[str, list[float]]:
        """Top-1 of a student on each set, by what it is taught."""
        return {one: figures(self.students(sets, labeller, one).top1) for one in LABELS}

    def classifiers(self, result: StudentResult, labeller: Teacher) -> list[Classifier]:
        """The students as classifiers of pixels."""
        return [
            Classifier(
                result.predict,
                jax.tree.map(lambda leaf, one=one: leaf[one], result.variables),
                labeller.mean,
                labeller.std,
            )
            for one in range(len(result.top1))
        ]

    def about(self) -> dict[str, Any]:
        """What every line of results says of how it was made."""
        return {
            "dataset": self.dataset,
            "small": asdict(self.small) | {"spec": self.source.spec.partition(":")[0]},
            "source": {
                "fingerprint": self.source.fingerprint(),
                "train_images": len(self.source.train),
                "validation_images": len(self.source.test),
                "image_size": list(self.source.image_size),
            },
            "versions": provenance.versions(),
            "hardware": provenance.hardware(),
        }


def figures(values: Any) -> list[float]:
    """Percent, one a set, ready for JSON."""
    return [round(float(value), 2) for value in values]
