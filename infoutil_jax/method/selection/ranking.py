"""Selectors that rank: the best, a random, a statistic's choice. NumPy on the host.

Ties break by example id, then by crop index, so the order of candidates changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import numpy as np
from jaxtyping import Array, Int, Key, Shaped

from infoutil_jax.errors import InputError
from infoutil_jax.method.contracts import Candidates, Reduce, take

Keep = Literal["highest", "lowest", "middle"]
Order = Int[np.ndarray, " ordered"]


def best_crop(candidates: Candidates, keep: Keep = "highest") -> Candidates:
    """The row of each example that `keep` ranks first, ordered by class, then rank.

    Raises:
        InputError: a score is NaN, or an unknown `keep`.
    """
    check_candidates(candidates)
    order = _order(candidates, _by_score(candidates, keep))
    return take(candidates, _first_of_each(candidates.ids, order))


@dataclass(frozen=True)
class TopK:
    """The best-scored candidates of every class.

    The middle of a class and its quantiles are known only when all its crops are: with these there
    is no `reduce`.

    Attributes:
        keep: "highest" score first, "lowest", or "middle": nearest to the class's median.
        max_quantile: crops that score above this quantile of their class, in (0, 1], do not take
            part: mislabelled and unreadable crops have high gradient norms, too. None for all.
        crops_per_image: only the "best" crop of each example takes part, or "all".

    Raises:
        InputError: an argument out of range; from `finalize`, a score that is NaN, or a class of
            fewer than `per_class` candidates that take part.
    """

    keep: Keep = "highest"
    max_quantile: float | None = None
    crops_per_image: Literal["best", "all"] = "best"

    def __post_init__(self) -> None:
        check_keep(self.keep)
        if self.max_quantile is not None and not 0 < self.max_quantile <= 1:
            raise InputError(f"max_quantile is {self.max_quantile}; a quantile lies in (0, 1]")
        if self.crops_per_image not in ("best", "all"):
            raise InputError(f'crops_per_image is "{self.crops_per_image}"; use "best" or "all"')

    def finalize(
        self, key: Key[Array, ""] | None, candidates: Candidates, per_class: int, /
    ) -> Candidates:
        """The `per_class` best of every class, ordered by class, then rank; `key` is not used."""
        check_candidates(candidates, per_class)
        order = self._ordered(candidates)
        check_full(candidates.labels, candidates.labels[order], per_class)
        return take(candidates, _head(candidates.labels, order, per_class))

    @property
    def reduce(self) -> Reduce | None:
        """Keeps what can still be among the best."""
        return None if self.keep == "middle" or self.max_quantile is not None else self.best

    def best(
        self, key: Key[Array, ""] | None, candidates: Candidates, per_class: int, /
    ) -> Candidates:
        """The best of every class, of which there may be fewer; `key` is not used."""
        check_candidates(candidates, per_class)
        order = self._ordered(candidates)
        return take(candidates, _head(candidates.labels, order, per_class))

    def _ordered(self, candidates: Candidates) -> Order:
        """The rows that take part, by class, then rank."""
        order = _order(candidates, _by_score(candidates, self.keep))
        if self.max_quantile is not None:
            bound = class_quantile(candidates, self.max_quantile, "lower")
            order = order[(candidates.scores <= bound)[order]]
        return _first_of_each(candidates.ids, order) if self.crops_per_image == "best" else order


@dataclass(frozen=True)
class RandomK:
    """Random examples of every class, one random crop of each.

    An example's rank is `uniform(fold_in(key, id))`, highest first: it depends on neither the
    other examples nor their order.
    """

    def finalize(
        self, key: Key[Array, ""] | None, candidates: Candidates, per_class: int, /
    ) -> Candidates:
        """`per_class` examples of every class, ordered by class, then rank.

        Raises:
            InputError: a class has fewer, or there is no key.
        """
        kept = self.reduce(key, candidates, per_class)
        check_full(candidates.labels, kept.labels, per_class)
        return kept

    def reduce(
        self, key: Key[Array, ""] | None, candidates: Candidates, per_class: int, /
    ) -> Candidates:
        """The same, though classes need not be full yet."""
        if key is None:
            raise InputError("a random selection needs a key")
        check_candidates(candidates, per_class)
        order = _order(candidates, by_chance(key, candidates))
        order = _first_of_each(candidates.ids, order)
        return take(candidates, _head(candidates.labels, order, per_class))


@dataclass(frozen=True, eq=False)
class ByStatistic:
    """`TopK` by a statistic of whole examples, such as forgetting events, not by the scores.

    One crop of each example takes part: its first, as they all tie. The statistic, as float32,
    replaces the scores of the rows kept.

    Attributes:
        values: `values[i]` is the statistic of the example with id i.
        keep: as in `TopK`.

    Raises:
        InputError: from `finalize` and `reduce`: an id that has no value, or as `TopK`.
    """

    values: Shaped[np.ndarray, " examples"]
    keep: Keep = "highest"

    def finalize(
        self, key: Key[Array, ""] | None, candidates: Candidates, per_class: int, /
    ) -> Candidates:
        """The `per_class` best of every class, ordered by class, then rank; `key` is not used."""
        return TopK(self.keep).finalize(key, self._scored(candidates), per_class)

    @property
    def reduce(self) -> Reduce | None:
        """As that of `TopK`."""
        reduce = TopK(self.keep).reduce
        if reduce is None:
            return None
        return lambda key, candidates, n: reduce(key, self._scored(candidates), n)

    def _scored(self, candidates: Candidates) -> Candidates:
        if len(candidates.ids) and candidates.ids.max() >= len(self.values):
            raise InputError(
                f"values has {len(self.values)} entries, but there is an example with id "
                f"{candidates.ids.max()}; give one value for each training image"
            )
        return candidates._replace(scores=self.values[candidates.ids].astype(np.float32))


def _by_score(candidates: Candidates, keep: Keep) -> tuple[np.ndarray, ...]:
    """Columns to sort by, the most important first, in ascending order."""
    scores = candidates.scores.astype(np.float64)
    if keep == "highest":
        return -scores, candidates.ids
    if keep == "lowest":
        return scores, candidates.ids
    check_keep(keep)
    return np.abs(scores - class_quantile(candidates, 0.5, "linear")), candidates.ids


def by_chance(key: Key[Array, ""], candidates: Candidates) -> tuple[np.ndarray, ...]:
    """Columns to sort by in a random order: each example's own draw, its id, each crop's own draw.

    What an example draws depends on neither the other examples nor their order.
    """
    rows = len(candidates.ids)
    # Powers of two: a stream's many table lengths share a few compiled programs.
    pad = (0, (1 << (rows - 1).bit_length()) - rows)
    ids, crops = (np.pad(c.astype(np.uint32), pad) for c in (candidates.ids, candidates.crops))
    example, crop = (-np.asarray(draws)[:rows] for draws in _chances(key, ids, crops))
    return example, candidates.ids, crop


@jax.jit
def _chances(key: Key[Array, ""], ids: Array, crops: Array) -> tuple[Array, Array]:
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, ids)
    return jax.vmap(jax.random.uniform)(keys), jax.vmap(
        lambda key, crop: jax.random.uniform(jax.random.fold_in(key, crop))
    )(keys, crops)


def _order(candidates: Candidates, priority: tuple[np.ndarray, ...]) -> Order:
    """Rows by class, then priority, then crop index."""
    return np.lexsort((candidates.crops, *reversed(priority), candidates.labels))


def _first_of_each(ids: Shaped[np.ndarray, " rows"], order: Order) -> Int[np.ndarray, " examples"]:
    """The first row of every example in `order`."""
    _, first = np.unique(ids[order], return_index=True)
    return order[np.sort(first)]


def _head(
    labels: Int[np.ndarray, " rows"], order: Order, per_class: int
) -> Int[np.ndarray, " kept"]:
    """The first `per_class` rows of every class in `order`, which is sorted by class."""
    ordered = labels[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    result: Int[np.ndarray, " kept"] = order[rank < per_class]
    return result


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


def check_keep(keep: str) -> None:
    """Checks a value of `keep`.

    Raises:
        InputError: it is none.
    """
    if keep not in ("highest", "lowest", "middle"):
        raise InputError(f'keep is "{keep}"; use "highest", "lowest" or "middle"')


def check_candidates(candidates: Candidates, per_class: int = 1) -> None:
    """Checks that columns and scores are whole, and that at least one row is to be kept.

    Raises:
        InputError: columns of different lengths, a score that is NaN, or nothing to keep.
    """
    columns = {**candidates._asdict(), **candidates.features}
    lengths = {name: len(column) for name, column in columns.items() if name != "features"}
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
    """Checks that every class among `labels` has `per_class` rows among the sorted `eligible`.

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
