"""Which images of a reserve a student trains on: chosen anew as it learns (host)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from infoutil_jax import ranges
from infoutil_jax.data.augment import Normalisation
from infoutil_jax.data.streamed import Pixels
from infoutil_jax.errors import InputError
from infoutil_jax.method import scores
from infoutil_jax.method.contracts import Candidates, Predict, Score
from infoutil_jax.method.selection import RandomK, TopK

Measure = Literal["gradient_norm", "el2n", "cross_entropy", "random"]
Order = Literal["highest", "lowest", "middle"]
SCORES: Mapping[str, Score] = {
    "gradient_norm": scores.GradientNorm(),
    "el2n": scores.el2n,
    "cross_entropy": scores.cross_entropy,
}
COST = {"gradient_norm": 3, "el2n": 1, "cross_entropy": 1, "random": 0}
"""Forward passes that scoring an image takes; a step of training takes three an image."""


@dataclass(frozen=True)
class Renewal:
    """Every few epochs, a student's own scores choose which images of a reserve it trains on.

    The reserve is a set of more images a class than are trained on, best first; a student begins
    with the first ones of each class. Theorem 1 of InfoUtil bounds an example's utility by its
    gradient norm at the network that is being trained: here that is the student of the moment, not
    a teacher.

    Attributes:
        keep: images of a class that are trained on at a time.
        every: epochs between two choices.
        score: of an image and its class, at the student; "random" chooses without one.
        order: which scores of a class are kept.

    Raises:
        InputError: a number below 1, or another word.
    """

    keep: int
    every: int = 50
    score: Measure = "gradient_norm"
    order: Order = "highest"

    def __post_init__(self) -> None:
        for name, value in (("keep", self.keep), ("every", self.every)):
            if value < 1:
                raise InputError(f"{name} is {value}; it must be at least 1")
        ranges.check_choice("score", self.score, get_args(Measure))
        ranges.check_choice("order", self.order, get_args(Order))

    def first(self, labels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " kept"]:
        """The rows of a reserve that students begin with: the first of each class.

        Raises:
            InputError: a class has fewer than are to be kept.
        """
        order = np.argsort(labels, kind="stable")
        ordered = labels[order]
        rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
        classes, counts = np.unique(labels, return_counts=True)
        for short in np.flatnonzero(counts < self.keep)[:1]:
            raise InputError(
                f"class {classes[short]} of the reserve has {counts[short]} images, but "
                f"{self.keep} are to be kept"
            )
        return order[rank < self.keep]

    def chosen(
        self,
        student: tuple[Predict, Any],
        normalise: Normalisation,
        reserve: tuple[Pixels, Int[np.ndarray, " n"]],
        key: Key[Array, ""],
    ) -> Int[np.ndarray, " kept"]:
        """The rows that a student trains on next, by class.

        Args:
            student: `predict(variables, normalised images) -> logits`, and its variables.
            normalise: the student's.
            reserve: images and labels.
            key: of the random choice.
        """
        images, labels = reserve
        found = np.zeros(len(labels), np.float32)
        if self.score != "random":
            score, seen = SCORES[self.score], normalise(np.asarray(images))
            found = np.asarray(score(*student, seen, jnp.asarray(labels)), np.float32)
        table = Candidates(
            ids=np.arange(len(labels), dtype=np.int64),
            crops=np.zeros(len(labels), np.int32),
            labels=labels.astype(np.int32),
            scores=found,
            features={},
        )
        if self.score == "random":
            return RandomK().finalize(key, table, self.keep).ids
        return TopK(self.order).finalize(None, table, self.keep).ids
