"""Selectors of selectors: shortlists, chains, streams. NumPy on the host."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import jax
from jaxtyping import Array, Key

from infoutil_jax.errors import InputError
from infoutil_jax.method.contracts import (
    Candidates,
    Choose,
    Reduce,
    Selector,
    as_selector,
    concatenate,
)
from infoutil_jax.method.selection.ranking import Keep, TopK


@dataclass(frozen=True)
class Shortlist:
    """Keeps the best-scored rows, `times` as many as needed: the first link of a `Chain`.

    The best crop of each example takes part. A class that has fewer keeps all of them.

    Attributes:
        times: how many times as many as are needed are kept.
        keep: as in `TopK`, "highest" or "lowest".

    Raises:
        InputError: fewer than once, or another `keep`.
    """

    times: int = 4
    keep: Keep = "lowest"

    def __post_init__(self) -> None:
        if self.times < 1:
            raise InputError(
                f"a shortlist holds {self.times} times as many as are needed; give at least 1"
            )
        if self.keep not in ("highest", "lowest"):
            raise InputError(f'keep is "{self.keep}"; a shortlist has the "highest" or "lowest"')

    def finalize(
        self, key: Key[Array, ""] | None, candidates: Candidates, per_class: int, /
    ) -> Candidates:
        """The `times * per_class` best of every class; `key` is not used."""
        return self.reduce(key, candidates, per_class)

    def reduce(
        self, key: Key[Array, ""] | None, candidates: Candidates, per_class: int, /
    ) -> Candidates:
        """The same."""
        return TopK(self.keep).best(key, candidates, self.times * per_class)


@dataclass(frozen=True, init=False)
class Chain:
    """Runs selectors one after the other: each chooses from what the one before has kept.

    It reduces as its first selector does. Selector i draws from `fold_in(key, i)`.

    Examples:
        >>> from infoutil_jax import selection
        >>> select = selection.Chain(
        ...     selection.Shortlist(times=4), selection.Coreset(selection.facility_location)
        ... )
    """

    selectors: tuple[Selector, ...]

    def __init__(self, *selectors: Selector | Choose):
        if not selectors:
            raise InputError("a chain of no selectors selects nothing; give at least one")
        object.__setattr__(self, "selectors", tuple(map(as_selector, selectors)))

    def finalize(
        self, key: Key[Array, ""] | None, candidates: Candidates, per_class: int, /
    ) -> Candidates:
        """What the last selector keeps."""
        for number, selector in enumerate(self.selectors):
            candidates = selector.finalize(_link(key, number), candidates, per_class)
        return candidates

    @property
    def reduce(self) -> Reduce | None:
        """That of the first selector."""
        reduce = self.selectors[0].reduce
        if reduce is None:
            return None
        return lambda key, candidates, n: reduce(_link(key, 0), candidates, n)


def _link(key: Key[Array, ""] | None, number: int) -> Key[Array, ""] | None:
    return None if key is None else jax.random.fold_in(key, number)


def running(
    selector: Selector, key: Key[Array, ""] | None, tables: Iterable[Candidates], per_class: int
) -> Candidates:
    """Reduces a stream of tables without changing what `finalize` returns.

    Memory is bounded by what `selector.reduce` keeps and one table.

    Raises:
        InputError: there is no table, the selector cannot reduce, or as `selector.reduce`.
    """
    if (reduce := selector.reduce) is None:
        raise InputError(f"{selector} needs every row: it cannot run over a stream")
    kept = None
    for table in tables:
        kept = reduce(key, table if kept is None else concatenate(kept, table), per_class)
    if kept is None:
        raise InputError("tables is empty; give at least one table of candidates")
    return kept
