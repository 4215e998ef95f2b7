"""What a distilled set was made from and with, for its manifest (host)."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from infoutil_jax import provenance
from infoutil_jax.data.sources import Source
from infoutil_jax.data.split import Split
from infoutil_jax.distillation.config import DistillConfig
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.method.recipes.rule import rule_of
from infoutil_jax.training.config import Facts, StudentConfig
from infoutil_jax.training.student import default_batch_size
from infoutil_jax.training.teacher import Teacher

LATER = ("partition", "centred")
"""Of a recipe, what its manifest leaves out where it is not chosen: older sets do not have it."""


def arguments(
    source: Source, recipe: Recipe, images_per_class: int, pool: int | None, seed: int
) -> dict[str, Any]:
    """What was asked for, as a manifest says it: known before there is a teacher."""
    return {
        "recipe": parts_of(recipe),
        "images_per_class": images_per_class,
        "pool": pool,
        "seed": seed,
        "source": _source(source),
    }


def of_classes(by_class: tuple[int, ...] | None) -> dict[str, Any]:
    """What a manifest says of classes that have different numbers of images."""
    return {} if by_class is None else {"images_by_class": list(by_class)}


def parts_of(recipe: Recipe) -> dict[str, Any]:
    """What a manifest says of a recipe: each part, by its name."""
    told = {one.name: provenance.describe(getattr(recipe, one.name)) for one in fields(recipe)}
    return {name: part for name, part in told.items() if part or name not in LATER}


def inputs(
    source: Source, teacher: Teacher, label_teacher: Teacher, images_per_class: int
) -> dict[str, Any]:
    """The part of a manifest that all methods share.

    Args:
        source: what was distilled.
        teacher: attributed and scored.
        label_teacher: labelled.
        images_per_class: the budget.
    """
    about = by_teachers(Facts.of(source), teacher, label_teacher, images_per_class)
    return {"source": _source(source), "alpha": source.alpha, **about}


def by_teachers(
    facts: Facts, teacher: Teacher, label_teacher: Teacher, images_per_class: int
) -> dict[str, Any]:
    """What a manifest says of teachers, students, versions and machine.

    Args:
        facts: of what was distilled.
        teacher: attributed and scored.
        label_teacher: labelled.
        images_per_class: the budget.
    """
    student = StudentConfig().complete(facts)
    return {
        "images_per_class": images_per_class,
        "teacher": _teacher(teacher),
        "label_teacher": _teacher(label_teacher),
        "normalisation": {"mean": list(label_teacher.mean), "std": list(label_teacher.std)},
        "training": {
            "temperature": student.temperature,
            # Where left is not right in a source whose name does not tell, the teacher's run does.
            "flip": bool(student.flip) and label_teacher.flipped is not False,
            **({"turn": True} if label_teacher.turned else {}),  # said only where it is so
            "batch_size": default_batch_size(images_per_class, facts.num_classes),
            "epochs": student.epochs,
            "learning_rate": student.learning_rate,
        },
        "versions": provenance.versions(),
        "hardware": provenance.hardware(),
    }


def governance(source: Source, recipe: Recipe, config: DistillConfig) -> dict[str, Any]:
    """What a manifest says to those who answer for the set: rule, licence, what was forgotten.

    Forgotten images are told by their numbers, for names may tell of people, and with the
    fingerprint of the source without them, by which the set is known once they are removed there.
    """
    said: dict[str, Any] = {"rule": rule_of(parts_of(recipe))}
    said |= of_classes(config.by_class)
    if config.licence is not None:
        said["licence"] = config.licence
    if config.forgotten:
        examples = sorted(set(config.forgotten))
        remaining = source.fingerprint_without(examples)
        said["forgotten"] = {"examples": examples, "fingerprint": remaining}
    return said


def taking_part(source: Source, config: DistillConfig) -> Split:
    """The training images but for those that were forgotten."""
    if not config.forgotten:
        return source.train
    return source.train.take(np.setdiff1d(np.arange(len(source.train)), config.forgotten))


def _source(source: Source) -> dict[str, Any]:
    names = list(source.filled)
    counts = np.bincount(source.train.labels, minlength=len(source.class_names))
    # Recipes that are compared share what the one of most tiles needs.
    filled = {"filled_to": int(counts[source.class_names.index(names[0])])} if names else {}
    return {
        "name": source.name,
        "fingerprint": source.fingerprint(),
        "train_images": len(source.train),
        "skipped": list(source.skipped),
        "splits": list(source.splits),
        "value_range": source.value_range,
        "notes": list(source.notes),
        "filled_classes": dict(source.filled),
        **filled,
    }


def _teacher(teacher: Teacher) -> dict[str, Any]:
    return {
        "name": teacher.name,
        "stage": teacher.stage,
        "digest": teacher.digest(),
        "accuracy": teacher.accuracy,
        "mean": list(teacher.mean),
        "std": list(teacher.std),
    }
