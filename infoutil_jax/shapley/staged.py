"""Shapley values from as few coalitions as it takes to know the best window of players.

The Gaussian process that estimates the Shapley values (`bayesian_quadrature`) also says how
uncertain they are. Coalitions are evaluated stage by stage. When the best window is far enough
ahead of every other, the game is done, and the next game takes its place in the batch. The device
sees batches of one size, without a pause between games, in one compiled loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from infoutil_jax.errors import InputError
from infoutil_jax.shapley.bayesian_quadrature import Prior, innovations

Matrix = np.ndarray | Array
_product = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


CONFIDENCE = 2.0
"""Standard deviations that a game's best window is ahead of every other when the game is done."""


def half_of(grid: tuple[int, ...]) -> tuple[int, int]:
    """The window by default: half of a grid's rows and columns, at least one (paper: 2 of 4)."""
    return max(1, grid[0] // 2), max(1, grid[1] // 2)


@runtime_checkable
class GameBatch(Protocol):
    """Many games of the same players: a pytree, so that it can be an argument of `jax.jit`."""

    def __len__(self) -> int:
        """How many games there are."""
        ...

    def values_of(
        self, games: Int[Array, " lanes"], masks: Bool[Array, "lanes step players"]
    ) -> Float[Array, "lanes step"]:
        """What each game's own coalitions are worth; `games` counts from 0."""
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class StagedDesign:
    """Coalitions in stages, and the estimator on them: a pytree of arrays, made by `staged_design`.

    Let u be the difference between the values of a coalition and of its complement, for each pair.
    Then `whitener @ u` are independent numbers whose variance is the game's scale squared, and
    `loadings` turns them into Shapley values.

    Attributes:
        masks: each coalition is followed by its complement; the first is the full one.
        whitener: rows of stage k read the pairs of stages 0 to k only.
        loadings: what each of the independent numbers adds to the Shapley values.
        known: pairs that are known after each stage.
        windows: `windows @ phi` is the mean Shapley value in each window of the grid.
        spread: standard deviation of the difference of two windows after each stage, at scale 1.
    """

    masks: Bool[Matrix, "stages step players"]
    whitener: Float[Matrix, "stages half pairs"]
    loadings: Float[Matrix, "stages half players"]
    known: Float[Matrix, " stages"]
    windows: Float[Matrix, "windows players"]
    spread: Float[Matrix, "stages windows windows"]


def staged_design(
    grid: int | tuple[int, int],
    budget: int,
    *,
    window: int | tuple[int, int] | None = None,
    step: int = 16,
    seed: int = 0,
    prior: Prior | None = None,
) -> StagedDesign:
    """The coalitions of `coalition_design(..., grid=grid)`, in stages; NumPy on the host.

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
    pairs = min(-(-budget // 2), 2 ** (players - 1))
    known = innovations(np.random.default_rng(seed), players, pairs, (grid_h, grid_w), prior)
    windows = _windows((grid_h, grid_w), window)

    half = step // 2
    stages = -(-pairs // half)
    ends = np.minimum(np.arange(1, stages + 1) * half, pairs)
    spread = []
    for end in ends:
        left = known.shapley - known.loadings[:, :end] @ known.loadings[:, :end].T
        of_windows = windows @ left @ windows.T
        variance = np.diag(of_windows)
        spread.append(np.maximum(variance[:, None] + variance - 2 * of_windows, 0) ** 0.5)

    def in_stages(rows: np.ndarray, fill: Any) -> np.ndarray:
        missing = np.full((stages * half - pairs, *rows.shape[1:]), fill, rows.dtype)
        return np.concatenate([rows, missing]).reshape(stages, half, *rows.shape[1:])

    whitener = np.pad(known.whitener, ((0, 0), (0, stages * half - pairs)))
    masks = in_stages(known.masks, True)
    return StagedDesign(
        masks=np.stack([masks, ~masks], axis=2).reshape(stages, step, players),
        whitener=in_stages(whitener, 0).astype(np.float32),
        loadings=in_stages(known.loadings.T, 0).astype(np.float32),
        known=ends.astype(np.float32),
        windows=windows.astype(np.float32),
        spread=np.stack(spread).astype(np.float32),
    )


def _windows(grid: tuple[int, int], window: tuple[int, int]) -> np.ndarray:
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


def staged_shapley(
    games: GameBatch, design: StagedDesign, *, confidence: float = CONFIDENCE, at_once: int = 16
) -> tuple[Float[Array, "games players"], Int[Array, " games"]]:
    """Shapley values of each game, from coalitions until its best window is known.

    Args:
        games: on the players of the design's grid.
        design: from `staged_design`.
        confidence: standard deviations by which the best window must be ahead of every other; at 0
            the first stage decides, and with infinity no stage does before the last.
        at_once: games under evaluation at once; each evaluates a stage's coalitions.

    Returns:
        The Shapley values, and how many coalitions each game took.

    Raises:
        InputError: a negative `confidence`, or fewer than one game at once.
    """
    if not confidence >= 0:
        raise InputError(f"confidence is {confidence}; give standard deviations, 0 or more")
    if at_once < 1:
        raise InputError(f"at_once is {at_once}; at least 1 game must be under evaluation")
    if not len(games):
        return jnp.zeros((0, design.masks.shape[-1])), jnp.zeros(0, int)
    result: tuple[Float[Array, "games players"], Int[Array, " games"]] = _staged_shapley(
        games, min(len(games), at_once), design, float(confidence)
    )
    return result


class _Lanes(NamedTuple):
    """The games under evaluation, one a lane, and the results so far."""

    game: Array
    """Number of the game; past the last where a lane has nothing left to do."""
    stage: Array
    differences: Array
    """Of each pair's two values, as far as they are known."""
    phi: Array
    power: Array
    """Sum of squares of the independent numbers: the scale squared, times their count."""
    following: Array
    """Number of the game that is begun next."""
    done: Array
    """Shapley values of finished games."""
    used: Array
    """Coalitions that finished games took."""


@partial(jax.jit, static_argnums=1)
def _staged_shapley(
    games: GameBatch, lanes: int, design: StagedDesign, confidence: Any
) -> tuple[Array, Array]:
    """Evaluates stage after stage on all lanes, until no lane holds a game."""
    design = jax.tree.map(jnp.asarray, design)

    def advance(now: _Lanes) -> _Lanes:
        now = _evaluate(games, design, now)
        phi = _efficient(now)
        chosen = _is_chosen(design, now, phi, confidence)
        return _hand_over(design, now, phi, chosen)

    finished = jax.lax.while_loop(
        lambda now: jnp.any(now.game < len(games)), advance, _begin(design, lanes, len(games))
    )
    return finished.done, finished.used


def _begin(design: StagedDesign, lanes: int, count: int) -> _Lanes:
    """Puts the first games on the lanes."""
    players, pairs = design.masks.shape[-1], design.whitener.shape[-1]
    return _Lanes(
        game=jnp.arange(lanes),
        stage=jnp.zeros(lanes, int),
        differences=jnp.zeros((lanes, pairs)),
        phi=jnp.zeros((lanes, players)),
        power=jnp.zeros(lanes),
        following=jnp.asarray(lanes),
        done=jnp.zeros((count, players)),
        used=jnp.zeros(count, int),
    )


def _evaluate(games: GameBatch, design: StagedDesign, now: _Lanes) -> _Lanes:
    """Evaluates the coalitions of each lane's stage, and takes in what they tell."""
    half = design.masks.shape[1] // 2
    worth = games.values_of(jnp.minimum(now.game, len(games) - 1), design.masks[now.stage])
    worth = worth.astype(jnp.float32)
    differences = jax.vmap(jax.lax.dynamic_update_slice)(
        now.differences, worth[:, ::2] - worth[:, 1::2], (now.stage * half)[:, None]
    )
    white = _product("lpq,lq->lp", design.whitener[now.stage], differences)
    phi = now.phi + _product("lp,lpd->ld", white, design.loadings[now.stage])
    power = now.power + jnp.square(white).sum(1)
    return now._replace(differences=differences, phi=phi, power=power)


def _efficient(now: _Lanes) -> Float[Array, "lanes players"]:
    """The Shapley values so far, shifted to sum to v(all) - v(none), as in every design."""
    players = now.phi.shape[1]
    return now.phi + (now.differences[:, :1] - now.phi.sum(1, keepdims=True)) / players


def _is_chosen(
    design: StagedDesign, now: _Lanes, phi: Float[Array, "lanes players"], confidence: Any
) -> Bool[Array, " lanes"]:
    """Whether the best window is ahead of every other by enough standard deviations."""
    pooled = _product("ld,wd->lw", phi, design.windows)
    best = jnp.argmax(pooled, axis=1)
    ahead = pooled.max(1, keepdims=True) - pooled
    scale = jnp.sqrt(now.power / design.known[now.stage])[:, None]
    behind = ahead > confidence * scale * design.spread[now.stage, best]
    return jnp.all(behind | (jnp.arange(pooled.shape[1]) == best[:, None]), axis=1)


def _hand_over(
    design: StagedDesign,
    now: _Lanes,
    phi: Float[Array, "lanes players"],
    chosen: Bool[Array, " lanes"],
) -> _Lanes:
    """Notes the games that are done and puts the next ones on their lanes."""
    stages, step, _ = design.masks.shape
    count = len(now.done)
    ends = chosen | (now.stage == stages - 1)
    place = jnp.where(ends, now.game, count)
    follower = now.following + jnp.cumsum(ends) - 1
    fresh = ends[:, None]
    return _Lanes(
        game=jnp.where(ends, follower, now.game),
        stage=jnp.where(ends, 0, now.stage + 1),
        differences=jnp.where(fresh, 0, now.differences),
        phi=jnp.where(fresh, 0, now.phi),
        power=jnp.where(ends, 0, now.power),
        following=now.following + ends.sum(),
        done=now.done.at[place].set(phi, mode="drop"),
        used=now.used.at[place].set((now.stage + 1) * step, mode="drop"),
    )
