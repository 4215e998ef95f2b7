"""What stays: the best k candidates of every class. NumPy on the host.

Ties break by example id, then by crop index, so the order of candidates changes nothing. Selection
by "highest", "lowest" or at random folds: `select(select(A) + B) == select(A + B)`; see
`running_top_k` for streams.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float32, Int, Int32, Int64, Key, Shaped

from infoutil_jax.errors import InputError


class Candidates(NamedTuple):
    """A table of crops, one row each.

    Attributes:
        ids: index of the source example.
        crops: which crop of that example.
        labels: class index.
        boxes: (top, left, height, width) in the source image.
        scores: the utility, in any unit.
        maps: the source example's patch map.
        features: the crop's embedding, where the recipe has one.
    """

    ids: Int64[np.ndarray, " rows"]
    crops: Int32[np.ndarray, " rows"]
    labels: Int32[np.ndarray, " rows"]
    boxes: Int32[np.ndarray, "rows 4"]
    scores: Float32[np.ndarray, " rows"]
    maps: Float32[np.ndarray, "rows grid_h grid_w"]
    features: Float32[np.ndarray, "rows dim"] | None = None


def concatenate(*parts: Candidates) -> Candidates:
    """All rows of all parts, in their order; at least one part."""
    return jax.tree.map(lambda *columns: np.concatenate(columns), *parts)


def take(
    candidates: Candidates, indices: Int[np.ndarray, " kept"] | Bool[np.ndarray, " rows"]
) -> Candidates:
    """The rows at `indices` (or where a mask is true), in their order."""
    return jax.tree.map(lambda column: column[indices], candidates)


def best_crop(candidates: Candidates, keep: str = "highest") -> Candidates:
    """The row of each example that `keep` ranks first, ordered by class, then rank.

    Raises:
        InputError: a score is NaN, or an unknown `keep`.
    """
    _check(candidates)
    order = _order(candidates, _by_score(candidates, keep))
    return take(candidates, _first_of_each(candidates.ids, order))


def top_k(
    key: Key[Array, ""] | None,
    candidates: Candidates,
    per_class: int,
    *,
    keep: str = "highest",
    cap: float | None = None,
    compete: str = "best",
) -> Candidates:
    """The `per_class` best candidates of every class, ordered by class, then rank.

    Args:
        key: not used; all selections have one signature.
        candidates: all crops of all examples.
        per_class: rows to keep in each class.
        keep: "highest" score first, "lowest", or "middle": nearest to the class's median.
        cap: crops that score above this quantile of their class, in (0, 1], do not take part:
            mislabelled and unreadable crops have high gradient norms too.
        compete: only the "best" crop of each example, or "all".

    Raises:
        InputError: a score is NaN, a class has fewer than `per_class` candidates that take part,
            or an argument is out of range.
    """
    del key
    if compete not in ("best", "all"):
        raise InputError(f'compete is "{compete}"; use "best" or "all"')
    _check(candidates, per_class)
    priority = _by_score(candidates, keep)
    order = _order(candidates, priority)
    if cap is not None:
        if not 0 < cap <= 1:
            raise InputError(f"cap is {cap}; a quantile lies in (0, 1]")
        eligible = candidates.scores <= class_quantile(candidates, cap, "lower")
        order = order[eligible[order]]
    if compete == "best":
        order = _first_of_each(candidates.ids, order)
    kept = _head(candidates.labels, order, per_class)
    check_full(candidates.labels, candidates.labels[order], per_class)
    return take(candidates, kept)


def random_k(key: Key[Array, ""], candidates: Candidates, per_class: int) -> Candidates:
    """`per_class` examples of every class at random, one random crop of each.

    An example's rank is `uniform(fold_in(key, id))`, highest first: it depends on neither the
    other examples nor their order.

    Raises:
        InputError: a class has fewer than `per_class` examples.
    """
    _check(candidates, per_class)
    order = _first_of_each(candidates.ids, _order(candidates, _by_chance(key, candidates)))
    check_full(candidates.labels, candidates.labels[order], per_class)
    return take(candidates, _head(candidates.labels, order, per_class))


def by_statistic(
    key: Key[Array, ""] | None,
    candidates: Candidates,
    per_class: int,
    *,
    values: Shaped[np.ndarray, " examples"],
    keep: str = "highest",
) -> Candidates:
    """`top_k` by a statistic of whole examples, such as forgetting events, not by the scores.

    One crop of each example competes: its first, for they all tie. The scores of the rows kept are
    the statistic, as float32.

    Args:
        key: not used.
        candidates: all crops of all examples.
        per_class: rows to keep in each class.
        values: `values[i]` is the statistic of the example with id i.
        keep: as in `top_k`.

    Raises:
        InputError: an id has no value, or as `top_k`.
    """
    if len(candidates.ids) and candidates.ids.max() >= len(values):
        raise InputError(
            f"values has {len(values)} entries, but there is an example with id "
            f"{candidates.ids.max()}; give one value for each training image"
        )
    scores = values[candidates.ids].astype(np.float32)
    return top_k(key, candidates._replace(scores=scores), per_class, keep=keep)


def merge_top_k(
    kept: Candidates,
    batch: Candidates,
    per_class: int,
    *,
    keep: str = "highest",
    key: Key[Array, ""] | None = None,
) -> Candidates:
    """The best of what was kept and of a new batch; classes need not be full yet.

    One crop of each example competes. `keep="random"` needs a `key`, the same at every step.

    Raises:
        InputError: a score is NaN, or `keep` does not fold ("middle": the median moves).
    """
    return _best_so_far(concatenate(kept, batch), per_class, keep, key)


def running_top_k(
    batches: Iterable[Candidates],
    per_class: int,
    *,
    keep: str = "highest",
    key: Key[Array, ""] | None = None,
) -> Candidates:
    """`top_k` (or `random_k`, for `keep="random"`) over a stream, in bounded memory.

    Holds at most `per_class` rows a class and one batch. A class seen fewer than `per_class`
    times has as many rows as were seen.

    Raises:
        InputError: no batch at all, or as `merge_top_k`.
    """
    kept = None
    for batch in batches:
        rows = batch if kept is None else concatenate(kept, batch)
        kept = _best_so_far(rows, per_class, keep, key)
    if kept is None:
        raise InputError("batches is empty; give at least one batch of candidates")
    return kept


def _best_so_far(
    candidates: Candidates, per_class: int, keep: str, key: Key[Array, ""] | None
) -> Candidates:
    if keep not in ("highest", "lowest", "random"):
        raise InputError(f'keep is "{keep}"; a stream allows "highest", "lowest" and "random"')
    if (key is None) == (keep == "random"):
        raise InputError(f'keep="{keep}" {"needs a" if key is None else "takes no"} key')
    _check(candidates, per_class)
    priority = _by_score(candidates, keep) if key is None else _by_chance(key, candidates)
    order = _first_of_each(candidates.ids, _order(candidates, priority))
    return take(candidates, _head(candidates.labels, order, per_class))


def _by_score(candidates: Candidates, keep: str) -> tuple[np.ndarray, ...]:
    """Columns to sort by, the weightiest first, smaller before larger."""
    scores = candidates.scores.astype(np.float64)
    if keep == "highest":
        return -scores, candidates.ids
    if keep == "lowest":
        return scores, candidates.ids
    if keep == "middle":
        return np.abs(scores - class_quantile(candidates, 0.5, "linear")), candidates.ids
    raise InputError(f'keep is "{keep}"; use "highest", "lowest" or "middle"')


def _by_chance(key: Key[Array, ""], candidates: Candidates) -> tuple[np.ndarray, ...]:
    rows = len(candidates.ids)
    # Powers of two: a stream's many table lengths share a few compiled programs.
    pad = (0, (1 << (rows - 1).bit_length()) - rows if rows else 0)
    ids, crops = (np.pad(c.astype(np.uint32), pad) for c in (candidates.ids, candidates.crops))
    example, crop = (-np.asarray(draws)[:rows] for draws in _chances(key, ids, crops))
    return example, candidates.ids, crop


@jax.jit
def _chances(key, ids, crops):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, ids)
    return jax.vmap(jax.random.uniform)(keys), jax.vmap(
        lambda key, crop: jax.random.uniform(jax.random.fold_in(key, crop))
    )(keys, crops)


def _order(candidates: Candidates, priority: tuple[np.ndarray, ...]) -> Int[np.ndarray, " rows"]:
    """Rows by class, then priority, then crop index."""
    return np.lexsort((candidates.crops, *reversed(priority), candidates.labels))


def _first_of_each(
    ids: Shaped[np.ndarray, " rows"], order: Int[np.ndarray, " ordered"]
) -> Int[np.ndarray, " examples"]:
    """Of `order`, the first row of every example."""
    _, first = np.unique(ids[order], return_index=True)
    return order[np.sort(first)]


def _head(
    labels: Int[np.ndarray, " rows"], order: Int[np.ndarray, " ordered"], per_class: int
) -> Int[np.ndarray, " kept"]:
    """Of `order`, sorted by class, the first `per_class` rows of every class."""
    ordered = labels[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return order[rank < per_class]


def class_quantile(
    candidates: Candidates, quantile: float, method: Literal["lower", "linear"]
) -> np.ndarray:
    """Each row's class quantile of the scores."""
    classes, row_class = np.unique(candidates.labels, return_inverse=True)
    by_class = np.argsort(row_class, kind="stable")
    parts = np.split(
        candidates.scores[by_class].astype(np.float64),
        np.searchsorted(row_class[by_class], np.arange(1, len(classes))),
    )
    return np.array([np.quantile(part, quantile, method=method) for part in parts])[row_class]


def _check(candidates: Candidates, per_class: int = 1) -> None:
    lengths = {
        name: len(column) for name, column in candidates._asdict().items() if column is not None
    }
    if len(set(lengths.values())) != 1:
        raise InputError(f"candidates has columns of different lengths: {lengths}")
    if per_class < 1:
        raise InputError(f"per_class is {per_class}; keep at least 1 of each class")
    for row in np.flatnonzero(np.isnan(candidates.scores))[:1]:
        raise InputError(
            f"the score of crop {candidates.crops[row]} of example {candidates.ids[row]} is NaN; "
            "a score must be a number"
        )


def check_full(
    labels: Int[np.ndarray, " rows"], eligible: Int[np.ndarray, " eligible"], per_class: int
) -> None:
    """Every class among `labels` needs `per_class` rows among the `eligible`, which are sorted.

    Raises:
        InputError: one has fewer.
    """
    classes = np.unique(labels)
    counts = np.searchsorted(eligible, classes, "right") - np.searchsorted(eligible, classes)
    for short in np.flatnonzero(counts < per_class)[:1]:
        raise InputError(
            f"class {classes[short]} has {counts[short]} candidates to choose from, but "
            f"{per_class} are needed; lower the number per class or give more images"
        )
