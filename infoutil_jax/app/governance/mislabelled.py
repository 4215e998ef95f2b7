"""Images of a set that look as if their source had given them the wrong class (host)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.sources import Source
from infoutil_jax.training.evaluation import model_logits
from infoutil_jax.training.teacher import Teacher

RATIO = 3.0
"""How many times as probable as its own another class has to be for an image to be doubted. On
digits with wrong labels, 2 finds a few more of them and is wrong more often, 5 and 10 find fewer
(experiments/results/robustness/doubts.jsonl)."""
BATCH = 256


class Doubt(NamedTuple):
    """A training image that a teacher takes for another class than its own.

    Attributes:
        example: its number.
        name: of the class that it is taken for.
        share: that class's probability.
        own: its own class's probability.
    """

    example: int
    name: str
    share: float
    own: float


def doubted(
    distilled: DistilledDataset,
    source: Source,
    teachers: Teacher | Mapping[str, Teacher],
    ratio: float = RATIO,
) -> dict[int, Doubt]:
    """The source images of a set that look mislabelled, by their numbers.

    The early teacher judges, where there is one: networks learn what images of a class have in
    common before they learn single images by heart (Arpit et al., ICML 2017), so that a converged
    teacher has come to agree with labels that are wrong. Every image is judged as a whole. What is
    doubted need not be wrong: a hard image is doubted, too.

    Args:
        distilled: says which images are kept.
        source: has them, by the numbers that they had when the set was made.
        teachers: one, or several by their stages.
        ratio: how many times as probable as its own another class has to be.
    """
    teacher = teachers if isinstance(teachers, Teacher) else judge(teachers)
    teacher = teacher.of_channels(source.channels)
    kept = np.unique([tile["example"] for one in distilled.records for tile in one["tiles"]])
    found: dict[int, Doubt] = {}
    for rows, images in source.train.batches(kept, BATCH):
        shares = softmax(model_logits(teacher, images).astype(np.float64), axis=1)
        for row, share in zip(rows.tolist(), shares, strict=True):
            own, other = float(share[source.train.labels[row]]), int(share.argmax())
            if other != source.train.labels[row] and share[other] >= ratio * own:
                found[row] = Doubt(row, source.class_names[other], float(share[other]), own)
    return found


def judge(teachers: Mapping[str, Teacher]) -> Teacher:
    """The teacher that has learnt least by heart, of those that know something.

    An early one that is ahead of chance on training images by less than half as much as the
    converged one is not asked, as it does not label either.
    """
    from infoutil_jax.app.pipeline import choose_teacher

    known = "converged" in teachers
    return choose_teacher(teachers, "auto", 1) if known else next(iter(teachers.values()))
