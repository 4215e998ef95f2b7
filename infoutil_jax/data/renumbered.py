"""A source that has lost images since, with the numbers that its images had before. Host."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from infoutil_jax.data.sources import Source
from infoutil_jax.errors import InputError


def renumbered(source: Source, missing: Sequence[int], fingerprint: str) -> Source:
    """The source as it was numbered, where random draws go by the number of an image.

    In the place of each image that is missing stands the first one that is there: it must take no
    part.

    Args:
        source: as it is now.
        missing: numbers of the training images that it had once, ascending.
        fingerprint: that it had then.

    Raises:
        InputError: numbers that it cannot have had.
    """
    gaps, count = np.asarray(missing, np.int64), len(source.train) + len(missing)
    if (np.diff(gaps) <= 0).any() or gaps.min(initial=0) < 0 or gaps.max(initial=0) >= count:
        raise InputError(
            f"missing is {list(missing)}; it must be ascending numbers of {count} training images"
        )
    rows = np.insert(np.arange(len(source.train)), gaps - np.arange(len(gaps)), 0)

    def told(without: Sequence[int]) -> str | None:
        there = np.setdiff1d(np.asarray(without, np.int64), gaps)
        return source.fingerprint_without((there - np.searchsorted(gaps, there)).tolist())

    train = source.train.take(rows)
    return replace(source, train=train, _fingerprint=fingerprint, _told=told)
