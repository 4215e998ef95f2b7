"""Stages of one game by Gaussian conditioning with whole matrices, and SciPy's Student t."""

from typing import NamedTuple

import numpy as np
from scipy import stats

ALIKE = 4
"""Pairs of which every game is asked first."""

FLOOR = 3e-7
"""Of the full pair's variance: less than that of another's is rounding."""


class Stage(NamedTuple):
    """A game after a stage."""

    asked: list
    phi: np.ndarray
    best: int
    rivals: np.ndarray


def stages_of(design, differences):
    """Yields the stages of a game, of which `differences` has v(S) - v(complement) of the pool."""
    between, with_phi, windows, apart = (
        np.asarray(array, np.float64)
        for array in (design.between, design.with_phi, design.windows, design.apart)
    )
    floor = FLOOR * between[0, 0]
    asked, best, rivals = [], 0, np.zeros(len(windows))
    while len(asked) < design.pairs:
        for _ in range(min(design.half, design.pairs - len(asked))):
            asked.append(len(asked))
            if len(asked) > ALIKE:
                known = asked[:-1]
                told = np.linalg.solve(between[np.ix_(known, known)], between[known])
                left = np.diag(between) - np.sum(between[known] * told, axis=0)
                rest = windows @ (with_phi - with_phi[:, known] @ told)
                gain = rivals @ (rest[best] - rest) ** 2 / np.maximum(left, floor)
                gain[known] = -1
                asked[-1] = int(np.argmax(gain >= gain.max() * (1 - 1e-5)))  # the first of equals
        seen = with_phi[:, asked]
        told = np.linalg.solve(between[np.ix_(asked, asked)], np.c_[differences[asked], seen.T])
        phi = seen @ told[:, 0]
        scale = differences[asked] @ told[:, 0] / len(asked)
        left = apart - windows @ seen @ told[:, 1:] @ windows.T
        best = int(np.argmax(windows @ phi))
        ahead = windows[best] @ phi - windows @ phi
        variance = scale * (left[best, best] + np.diag(left) - 2 * left[best])
        with np.errstate(invalid="ignore", divide="ignore"):
            rivals = stats.t.sf(ahead / np.sqrt(np.maximum(variance, 0)), len(asked))
        rivals[best] = 0
        phi = phi + (differences[0] - phi.sum()) / len(phi)
        yield Stage(list(asked), phi, best, rivals)
