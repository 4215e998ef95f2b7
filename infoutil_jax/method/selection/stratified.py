"""A selector that covers easy and hard examples alike. NumPy on the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key

from infoutil_jax.errors import InputError
from infoutil_jax.method.contracts import Candidates, take
from infoutil_jax.method.selection.ranking import best_crop, check_candidates, check_full


@dataclass(frozen=True)
class Stratified:
    """Random examples of every class, as many from each stratum of their scores.

    Coverage-centric coreset selection (Zheng et al., ICLR 2023, Algorithm 1), class by class: the
    hardest examples, of the highest scores, are left out, the range of the others' scores is cut
    into strata of one width, and from the smallest stratum to the largest each gives its share of
    what is still to be chosen, or all that it has. One crop of each example takes part, that of
    the lowest score.

    Attributes:
        prune: share of a class that is left out, the hardest, in [0, 1); less where too few
            would be left. (The source: 0.3 where a tenth of CIFAR-10 is kept.)
        strata: how many there are, those without examples included. (The source: 50.)

    Raises:
        InputError: an argument out of range; from `finalize`, a score that is NaN, no key, or a
            class of fewer than `per_class` examples.
    """

    prune: float = 0.3
    strata: int = 50
    reduce: ClassVar[None] = None

    def __post_init__(self) -> None:
        if not 0 <= self.prune < 1:
            raise InputError(f"prune is {self.prune}; it must lie in [0, 1)")
        if self.strata < 1:
            raise InputError(f"strata is {self.strata}; give at least 1")

    def finalize(
        self, key: Key[Array, ""] | None, candidates: Candidates, per_class: int, /
    ) -> Candidates:
        """By class, the easiest first."""
        if key is None:
            raise InputError("a random selection needs a key")
        check_candidates(candidates, per_class)
        rows = best_crop(candidates, "lowest")
        check_full(candidates.labels, rows.labels, per_class)
        rng = np.random.default_rng(int(jax.random.bits(key)))
        kept = []
        for label in np.unique(rows.labels):
            members = np.flatnonzero(rows.labels == label)  # the easiest first
            left = max(per_class, len(members) - round(self.prune * len(members)))
            members = members[:left]
            chosen = self._sample(rng, rows.scores[members].astype(np.float64), per_class)
            kept.append(members[np.sort(chosen)])
        return take(rows, np.concatenate(kept))

    def _sample(
        self, rng: np.random.Generator, scores: Float[np.ndarray, " n"], count: int
    ) -> Int[np.ndarray, " count"]:
        """Chooses `count` of the scores."""
        edges = np.linspace(scores.min(), scores.max(), self.strata + 1)[1:-1]
        stratum = np.searchsorted(edges, scores, side="right")
        groups = [np.flatnonzero(stratum == number) for number in np.unique(stratum)]
        chosen: list[Int[np.ndarray, " some"]] = []
        for number, group in enumerate(sorted(groups, key=len)):
            share = (count - sum(map(len, chosen))) // (len(groups) - number)
            chosen.append(rng.permutation(group)[:share])
        result: Int[np.ndarray, " count"] = np.concatenate(chosen)
        return result
