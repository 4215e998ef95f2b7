"""Coalitions in stages, each chosen for what the games so far leave open; NumPy on the host.

At first all games are asked the same: what tells the windows of a grid apart. After `HEAD` pairs a
game is asked what tells its best window from the runner-up. So a design is a tree of stages, whose
trunk has a branch for each two windows. All is known before a game is played: the estimator of a
path through the tree, and how uncertain it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from infoutil_jax.errors import InputError
from infoutil_jax.shapley.bayesian_quadrature import (
    CANDIDATES,
    Choice,
    drawn,
    innovations,
)
from infoutil_jax.shapley.coalitions import Masks
from infoutil_jax.shapley.prior import Games, Prior

Matrix = np.ndarray | Array

HEAD = 16
"""Pairs of the trunk."""

CONTESTS = 36
"""Branches at most: of nine windows. Where more can meet, there is a trunk alone."""

LONGEST = 256
"""Pairs of a path at most where there are branches: a design grows with their square (9 MB)."""

OTHERS = 0.3
"""What it is worth to tell any window from the mean of all, beside telling the first two apart."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class StagedDesign:
    """A tree of stages, and the estimator on it: a pytree of arrays, made by `staged_design`.

    Let u be the difference between the values of a coalition and of its complement, for each pair
    on a path. Then `whitener @ u` are independent numbers whose variance is the game's scale
    squared, and `loadings` turns them into Shapley values.

    Attributes:
        masks: each coalition is followed by its complement; the very first is the full one.
        whitener: rows of a stage read its own pairs and those before it on its path.
        loadings: what each of the independent numbers adds to the Shapley values.
        known: pairs that are known after each stage.
        windows: `windows @ phi` is the mean Shapley value in each window of the grid.
        spread: standard deviation of the difference of two windows after each stage, at scale 1.
        following: the next stage of a game, by its best window and the runner-up; -1 after the
            last.
    """

    masks: Bool[Matrix, "stages step players"]
    whitener: Float[Matrix, "stages half pairs"]
    loadings: Float[Matrix, "stages half players"]
    known: Float[Matrix, " stages"]
    windows: Float[Matrix, "windows players"]
    spread: Float[Matrix, "stages windows windows"]
    following: Int[Matrix, "stages windows windows"]


def half_of(grid: tuple[int, ...]) -> tuple[int, int]:
    """The window by default: half of a grid's rows and columns, at least one (paper: 2 of 4)."""
    return max(1, grid[0] // 2), max(1, grid[1] // 2)


def staged_design(
    grid: int | tuple[int, int],
    budget: int,
    *,
    window: int | tuple[int, int] | None = None,
    step: int = 4,
    seed: int = 0,
    prior: Prior | None = None,
) -> StagedDesign:
    """Coalitions that tell the windows of a grid apart, in stages.

    Args:
        grid: players a side, or (rows, columns).
        budget: at most this many coalitions per game, and at most all that it has.
        window: players a side, or (rows, columns), that a window holds; by default half the grid.
        step: coalitions of a stage, an even number.
        seed: of the draw of coalitions.
        prior: as of `coalition_design`.

    Raises:
        InputError: an argument out of range, or a window that does not fit the grid.
    """
    grid_h, grid_w = (grid, grid) if isinstance(grid, int) else grid
    players = grid_h * grid_w
    if min(grid_h, grid_w) < 1:
        raise InputError(f"a {grid_h}x{grid_w} grid has no players; give at least 1 a side")
    if budget < 2 or step < 2 or step % 2 or seed < 0:
        raise InputError(
            f"budget is {budget}, step {step}, seed {seed}: give a budget of at least 2 "
            "coalitions, an even step of at least 2, and a seed of 0 or more"
        )
    if window is None:
        window = half_of((grid_h, grid_w))
    elif isinstance(window, int):
        window = (window, window)
    windows = _windows((grid_h, grid_w), window)
    pairs = min(-(-budget // 2), 2 ** (players - 1))
    tree = _Tree(Games(players, (grid_h, grid_w), prior), windows, step // 2, pairs)
    tree.grow(np.random.default_rng(seed))
    return tree.design()


def _windows(grid: tuple[int, int], window: tuple[int, int]) -> Float[np.ndarray, "windows d"]:
    """Each window's mean as a row of weights. NumPy: designs are made while JAX traces, too."""
    rows, columns = (parts - span + 1 for parts, span in zip(grid, window, strict=True))
    if rows < 1 or columns < 1 or min(window) < 1:
        raise InputError(
            f"the window {window[0]}x{window[1]} does not fit a map of {grid[0]}x{grid[1]} patches"
        )
    windows = np.zeros((rows, columns, *grid))
    for top, left in np.ndindex(rows, columns):
        windows[top, left, top : top + window[0], left : left + window[1]] = 1
    return windows.reshape(rows * columns, -1) / (window[0] * window[1])


class _Tree:
    """The stages of a design while it grows."""

    def __init__(self, game: Games, windows: Float[np.ndarray, "windows d"], half: int, pairs: int):
        self.game, self.windows, self.half, self.pairs = game, windows, half, pairs
        self.columns = -(-pairs // half) * half
        self.shapley = game.shapley()
        self.stages: list[tuple[np.ndarray, ...]] = []
        self.following: list[np.ndarray] = []

    def grow(self, rng: np.random.Generator) -> None:
        """The trunk, and a branch for each two windows, unless the trunk is all there is."""
        contests = list(combinations(range(len(self.windows)), 2))
        head = -(-HEAD // self.half) * self.half
        forks = head < self.pairs <= LONGEST and 1 < len(contests) <= CONTESTS
        candidates = CANDIDATES // 4 if forks else CANDIDATES
        choice = Choice(self.game, drawn(rng, self.game.d, self.pairs - 1, candidates))
        # Where there is one window, nothing is to be told apart, and maps are to be looked at.
        apart = self.windows - self.windows.mean(0) if contests else np.eye(self.game.d)
        trunk = choice.best(apart, (head if forks else self.pairs) - 1)
        self._append(choice.candidates[trunk], 0)
        if not forks:
            return
        fork = self.following[-1]
        for one, other in contests:
            fork[one, other] = fork[other, one] = len(self.stages)
            target = np.vstack([self.windows[one] - self.windows[other], OTHERS * apart])
            order = choice.best(target, self.pairs - 1, after=trunk.tolist())
            self._append(choice.candidates[order], head)

    def _append(self, masks: Masks, start: int) -> None:
        """The stages of a path after its first `start` pairs; the full coalition comes first."""
        masks = np.concatenate([np.ones((1, self.game.d), bool), masks])
        path = innovations(self.game, masks)
        count, filled = len(masks), -(-len(masks) // self.half) * self.half
        masks = np.concatenate([masks, np.ones((filled - count, self.game.d), bool)])
        whitener = np.pad(path.whitener, ((0, filled - count), (0, self.columns - count)))
        loadings = np.pad(path.loadings.T, ((0, filled - count), (0, 0)))
        for begin in range(start, filled, self.half):
            rows, end = slice(begin, begin + self.half), min(begin + self.half, count)
            both = np.stack([masks[rows], ~masks[rows]], axis=1).reshape(-1, self.game.d)
            spread = self._spread(path.loadings[:, :end])
            self.stages.append((both, whitener[rows], loadings[rows], np.array(end), spread))
            following = -1 if begin + self.half == filled else len(self.stages)
            self.following.append(np.full(spread.shape, following))

    def _spread(self, loadings: Float[np.ndarray, "d pairs"]) -> Float[np.ndarray, "windows _"]:
        """Standard deviation of the difference of two windows, once the pairs are known."""
        left = self.windows @ (self.shapley - loadings @ loadings.T) @ self.windows.T
        variance = np.diag(left)
        result: Float[np.ndarray, "windows _"] = (
            np.maximum(variance[:, None] + variance - 2 * left, 0) ** 0.5
        )
        return result

    def design(self) -> StagedDesign:
        """As arrays."""
        masks, whitener, loadings, known, spread = map(np.stack, zip(*self.stages, strict=True))
        return StagedDesign(
            masks=masks,
            whitener=whitener.astype(np.float32),
            loadings=loadings.astype(np.float32),
            known=known.astype(np.float32),
            windows=self.windows.astype(np.float32),
            spread=spread.astype(np.float32),
            following=np.stack(self.following).astype(np.int32),
        )
