"""What is known before games are played in stages: coalitions and their prior; NumPy on the host.

Every game asks from one pool of coalitions, those that tell most of which window of a grid is best.
Which of them, and in what order, `staged` decides as it goes; here is all that this takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from infoutil_jax.errors import InputError
from infoutil_jax.shapley.bayesian_quadrature import telling_pairs
from infoutil_jax.shapley.prior import Games, Prior

Matrix = np.ndarray | Array

POOL = 512
"""Pairs at most from which games ask: what all of them leave open is as good as a tie."""

CANDIDATES = 1024
"""Pairs among which those are chosen: more make little difference, and take seconds."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class StagedDesign:
    """Pairs of coalitions to choose from, and their prior: a pytree made by `staged_design`.

    Let u be the difference between the values of a coalition and of its complement, for each pair.
    Covariances are those of the prior, up to the scale of a game.

    Attributes:
        masks: one coalition of each pair: the full one, then what tells most beside those before.
        between: covariance of two pairs' u.
        with_phi: covariance of the Shapley values with u.
        windows: `windows @ phi` is the mean Shapley value in each window of the grid.
        apart: covariance of two windows' means.
        pairs: of which a game is asked at most.
        half: pairs of a stage.
    """

    masks: Bool[Matrix, "pool players"]
    between: Float[Matrix, "pool pool"]
    with_phi: Float[Matrix, "players pool"]
    windows: Float[Matrix, "windows players"]
    apart: Float[Matrix, "windows windows"]
    pairs: int = field(metadata={"static": True})
    half: int = field(metadata={"static": True})


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
    """Coalitions that tell the windows of a grid apart, to be chosen from in stages.

    Args:
        grid: players a side, or (rows, columns).
        budget: at most this many coalitions per game, in pairs; at most 2 `POOL`, and all it has.
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
    game = Games(players, (grid_h, grid_w), prior)
    # Where there is one window, nothing is to be told apart, and maps are to be looked at.
    apart = windows - windows.mean(0) if len(windows) > 1 else np.eye(players)
    others = telling_pairs(np.random.default_rng(seed), game, POOL - 1, apart, CANDIDATES)
    masks = np.concatenate([np.ones((1, players), bool), others])
    return StagedDesign(
        masks=masks,
        between=game.between_pairs(masks).astype(np.float32),
        with_phi=(game.cross(masks) - game.cross(~masks)).astype(np.float32),
        windows=windows.astype(np.float32),
        apart=(windows @ game.shapley() @ windows.T).astype(np.float32),
        pairs=min(budget // 2, len(masks)),
        half=step // 2,
    )


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
