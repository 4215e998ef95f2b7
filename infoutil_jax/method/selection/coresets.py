"""Subsets that stand for a class: choices among features. NumPy on the host.

A choice maps one class's features `[n, dim]` to `k` distinct rows in the order of their choosing,
so that the first rows are the best smaller subset, too (but for k-means). Ties go to the first row.
`Coreset` applies a choice to every class of a table whose rows have features (`Recipe.embed`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key

from infoutil_jax.errors import InputError
from infoutil_jax.method.contracts import Candidates, take
from infoutil_jax.method.selection.ranking import Keep, best_crop, check_full, check_keep

Features = Float[np.ndarray, "n dim"]
Choice = Callable[[Features, int, int], Int[np.ndarray, " k"]]


@dataclass(frozen=True)
class Coreset:
    """Rows that stand for their class, by what the crops' features say.

    One crop of each example takes part. After a `Shortlist`, in a `Chain`, it chooses among the
    best-scored.

    Attributes:
        choose: `(features [n, dim], k, seed) -> rows [k]`: `herding`, `k_means`, `k_center`,
            `facility_location`, or a function of your own.
        keep: which crop of an example takes part: that with the "lowest" score, the "highest", or
            the "middle" one.
        column: name of the features; None where there is one column.

    Raises:
        InputError: from `finalize`: no such features, a score or feature that is no number, or a
            class of fewer than `per_class` examples.
    """

    choose: Choice
    keep: Keep = "lowest"
    column: str | None = None
    reduce: ClassVar[None] = None

    def __post_init__(self) -> None:
        check_keep(self.keep)

    def finalize(
        self, key: Key[Array, ""] | None, candidates: Candidates, per_class: int, /
    ) -> Candidates:
        """What `choose` takes of every class; `key` seeds the choices that draw (k-means)."""
        rows = best_crop(candidates, self.keep)
        check_full(np.unique(candidates.labels), rows.labels, per_class)
        features = np.asarray(feature(rows, self.column), np.float64)
        for row in np.flatnonzero(~np.isfinite(features).all(1))[:1]:
            raise InputError(f"the features of example {rows.ids[row]} are not all numbers")
        seed = 0 if key is None else int(jax.random.bits(key)) % 2**31
        kept = []
        for label in np.unique(candidates.labels):
            members = np.flatnonzero(rows.labels == label)
            members = members[np.argsort(rows.ids[members])]
            kept.append(members[self.choose(features[members], per_class, seed)])
        return take(rows, np.concatenate(kept))


def feature(candidates: Candidates, column: str | None = None) -> Features:
    """A column of the candidates' features, flattened.

    Args:
        candidates: with features.
        column: its name; None where there is one only.

    Raises:
        InputError: there is no such column, or several to choose from.
    """
    names = list(candidates.features)
    if not names:
        raise InputError("the candidates have no features; give the recipe an embed function")
    if column is None and len(names) == 1:
        column = names[0]
    if column not in names:
        raise InputError(
            f"the candidates' features are {', '.join(names)}; name one of them, not {column!r}"
        )
    return candidates.features[column].reshape(len(candidates.ids), -1)


def herding(features: Features, k: int, seed: int = 0) -> Int[np.ndarray, " k"]:
    """Rows whose running mean stays nearest to the mean of all (Welling 2009).

    In the form of iCaRL (Rebuffi et al., CVPR 2017, Algorithm 4): row t is the one that brings
    the mean of the first t nearest to the class's.
    """
    del seed
    mean, total, chosen = features.mean(0), np.zeros(features.shape[1]), []
    free = np.ones(len(features), bool)
    for t in range(1, k + 1):
        gap = np.linalg.norm(mean - (total + features) / t, axis=1)
        row = int(np.argmin(np.where(free, gap, np.inf)))
        free[row] = False
        total += features[row]
        chosen.append(row)
    return np.array(chosen)


def k_center(features: Features, k: int, seed: int = 0) -> Int[np.ndarray, " k"]:
    """Rows that leave no other far away: the greedy 2-approximation of k-center.

    Sener & Savarese, ICLR 2018, Algorithm 1, from the row nearest to the mean: each further row
    is the one farthest from all chosen.
    """
    del seed
    distance = _distances(features, features.mean(0, keepdims=True))[:, 0]
    chosen = [int(np.argmin(distance))]
    nearest = _distances(features, features[chosen])[:, 0]
    while len(chosen) < k:
        nearest[chosen] = -np.inf
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, _distances(features, features[chosen[-1:]])[:, 0])
    return np.array(chosen)


def k_means(features: Features, k: int, seed: int = 0) -> Int[np.ndarray, " k"]:
    """The row nearest to each of k means (scikit-learn, best of 10 starts), largest cluster first.

    Rows that are taken already are passed over.
    """
    from sklearn.cluster import KMeans  # takes seconds

    model = KMeans(n_clusters=k, n_init=10, random_state=seed).fit(features)
    sizes = np.bincount(model.labels_, minlength=k)
    distances = _distances(features, model.cluster_centers_)
    chosen: list[int] = []
    for cluster in np.lexsort((np.arange(k), -sizes)):
        distance = distances[:, cluster].copy()
        distance[chosen] = np.inf
        chosen.append(int(np.argmin(distance)))
    return np.array(chosen)


def facility_location(features: Features, k: int, seed: int = 0) -> Int[np.ndarray, " k"]:
    """Rows that leave every other near to one of them: greedy facility location.

    Minimises the sum over all rows of the distance to the nearest chosen row, the k-medoids
    objective, within 1 - 1/e of the greatest reduction (Nemhauser et al. 1978; CRAIG, Mirzasoleiman
    et al., ICML 2020, of gradients). Memory is n² numbers.
    """
    del seed
    distances = _distances(features, features)
    nearest = np.full(len(features), np.inf)
    free = np.ones(len(features), bool)
    chosen = []
    for _ in range(k):
        cost = np.minimum(distances, nearest[:, None]).sum(0)
        row = int(np.argmin(np.where(free, cost, np.inf)))
        free[row] = False
        nearest = np.minimum(nearest, distances[:, row])
        chosen.append(row)
    return np.array(chosen)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distances `[len(a), len(b)]`."""
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    result: np.ndarray = np.sqrt(np.maximum(squared, 0))
    return result
