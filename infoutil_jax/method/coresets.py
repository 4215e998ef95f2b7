"""Subsets that stand for a class: choices among features. NumPy on the host.

A choice maps one class's features `[n, dim]` to `k` distinct rows in the order of their choosing,
so that the first rows are the best smaller subset, too (but for k-means). Ties go to the first row.
`coreset` applies a choice to every class of a table whose rows have features (`Recipe.embed`).
"""

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key
from sklearn.cluster import KMeans

from infoutil_jax.errors import InputError
from infoutil_jax.method.selection import Candidates, best_crop, check_full, take

Features = Float[np.ndarray, "n dim"]
Choice = Callable[[Features, int, int], Int[np.ndarray, " k"]]


def coreset(
    key: Key[Array, ""],
    candidates: Candidates,
    per_class: int,
    *,
    choose: Choice,
    keep: str = "lowest",
    among: int | None = None,
) -> Candidates:
    """`per_class` rows of every class that `choose` takes, from all or from the best-scored.

    Args:
        key: seeds the choices that draw (k-means).
        candidates: with features.
        per_class: rows to keep in each class.
        choose: `(features [n, dim], k, seed) -> rows [k]`: `herding`, `k_means`, `k_center`,
            `facility_location`, or your own.
        keep: which crop of an example takes part: that with the "lowest" score, the "highest", or
            the one "middle"most.
        among: only the `among * per_class` examples of a class that `keep` ranks first take part;
            None for all.

    Raises:
        InputError: no features, a score or feature that is no number, a class of fewer than
            `per_class` examples, or an argument out of range.
    """
    if among is not None and among < 1:
        raise InputError(f"among is {among}; give how many times as many take part, at least 1")
    if candidates.features is None:
        raise InputError("the candidates have no features; give the recipe an embed function")
    rows = best_crop(candidates, keep)
    check_full(np.unique(candidates.labels), rows.labels, per_class)
    features = np.asarray(rows.features, np.float64)
    for row in np.flatnonzero(~np.isfinite(features).all(1))[:1]:
        raise InputError(f"the features of example {rows.ids[row]} are not all numbers")
    seed = int(jax.random.bits(key)) % 2**31
    kept = []
    for label in np.unique(candidates.labels):
        members = np.flatnonzero(rows.labels == label)
        members = members[: among and among * per_class]
        members = members[np.argsort(rows.ids[members])]
        kept.append(members[choose(features[members], per_class, seed)])
    return take(rows, np.concatenate(kept))


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
    return np.sqrt(np.maximum(squared, 0))
