"""What a distilled set was made from and with, for its manifest (host)."""

from __future__ import annotations

from typing import Any

from infoutil_jax import provenance
from infoutil_jax.data.sources import Source
from infoutil_jax.training.teacher import Teacher


def inputs(source: Source, teacher: Teacher, label_teacher: Teacher) -> dict[str, Any]:
    """The part of a manifest that all methods share.

    Args:
        source: what was distilled.
        teacher: attributed and scored.
        label_teacher: labelled.
    """
    return {
        "source": {
            "name": source.name,
            "fingerprint": source.fingerprint(),
            "train_images": len(source.train),
            "skipped": list(source.skipped),
        },
        "teacher": _teacher(teacher),
        "label_teacher": _teacher(label_teacher),
        "versions": provenance.versions(),
        "hardware": provenance.hardware(),
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
