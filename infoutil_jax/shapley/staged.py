"""Shapley values from as few coalitions as it takes to know the best window of players.

The Gaussian process that estimates the Shapley values (`bayesian_quadrature`) also says how
uncertain they are. Coalitions are evaluated stage by stage (`staged_design`). When the best window
is far enough ahead of every other, the game is done, and the next game takes its place in the
batch. One compiled loop does all that, without a pause between games.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from infoutil_jax.errors import InputError
from infoutil_jax.shapley.staged_design import StagedDesign

_product = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)

CONFIDENCE = 2.5
"""Standard deviations that a game's best window is ahead of every other when the game is done."""

FEW = 4
"""One in so many lanes computes, or one in its square, once no more games than that are left."""


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
    """Of the design; games are at different ones."""
    turn: Array
    """How many stages the game has been through."""
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
        chosen, following = _judge(design, now, phi, confidence)
        return _hand_over(design, now, phi, chosen | (following < 0), following)

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
        turn=jnp.zeros(lanes, int),
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
    worth = _worth(games, now.game, design.masks[now.stage])
    differences = jax.vmap(jax.lax.dynamic_update_slice)(
        now.differences, worth[:, ::2] - worth[:, 1::2], (now.turn * half)[:, None]
    )
    white = _product("lpq,lq->lp", design.whitener[now.stage], differences)
    phi = now.phi + _product("lp,lpd->ld", white, design.loadings[now.stage])
    power = now.power + jnp.square(white).sum(1)
    return now._replace(differences=differences, phi=phi, power=power)


def _worth(
    games: GameBatch, game: Int[Array, " lanes"], masks: Bool[Array, "lanes step players"]
) -> Float[Array, "lanes step"]:
    """What coalitions are worth, on all lanes or, where few hold a game, on these alone.

    A game may take many times as many coalitions as most: the last ones leave most lanes idle.
    """
    idle = game >= len(games)
    busy_first = jnp.argsort(idle)
    sizes = [size for size in (len(game) // FEW**2, len(game) // FEW) if size] + [len(game)]

    def on(size: int) -> Float[Array, "lanes step"]:
        lanes = busy_first[:size]
        worth = games.values_of(jnp.minimum(game[lanes], len(games) - 1), masks[lanes])
        return jnp.zeros(masks.shape[:2]).at[lanes].set(worth.astype(jnp.float32))

    enough = jnp.searchsorted(jnp.array(sizes), (~idle).sum())
    result: Array = jax.lax.switch(enough, [partial(on, size) for size in sizes])
    return result


def _efficient(now: _Lanes) -> Float[Array, "lanes players"]:
    """The Shapley values so far, shifted to sum to v(all) - v(none), as in every design."""
    players = now.phi.shape[1]
    return now.phi + (now.differences[:, :1] - now.phi.sum(1, keepdims=True)) / players


def _judge(
    design: StagedDesign, now: _Lanes, phi: Float[Array, "lanes players"], confidence: Any
) -> tuple[Bool[Array, " lanes"], Int[Array, " lanes"]]:
    """Whether the best window is far enough ahead of every other; the next stage if it is not."""
    pooled = _product("ld,wd->lw", phi, design.windows)
    best = jnp.argmax(pooled, axis=1)
    others = jnp.arange(pooled.shape[1]) != best[:, None]
    ahead = pooled.max(1, keepdims=True) - pooled
    scale = jnp.sqrt(now.power / design.known[now.stage])[:, None]
    behind = ahead > confidence * scale * design.spread[now.stage, best]
    second = jnp.argmin(jnp.where(others, ahead, jnp.inf), axis=1)
    return jnp.all(behind | ~others, axis=1), design.following[now.stage, best, second]


def _hand_over(
    design: StagedDesign,
    now: _Lanes,
    phi: Float[Array, "lanes players"],
    ends: Bool[Array, " lanes"],
    following: Int[Array, " lanes"],
) -> _Lanes:
    """Notes the games that are done and puts the next ones on their lanes."""
    step, count = design.masks.shape[1], len(now.done)
    place = jnp.where(ends, now.game, count)
    follower = now.following + jnp.cumsum(ends) - 1
    fresh = ends[:, None]
    return _Lanes(
        game=jnp.where(ends, follower, now.game),
        stage=jnp.where(ends, 0, following),
        turn=jnp.where(ends, 0, now.turn + 1),
        differences=jnp.where(fresh, 0, now.differences),
        phi=jnp.where(fresh, 0, now.phi),
        power=jnp.where(ends, 0, now.power),
        following=now.following + ends.sum(),
        done=now.done.at[place].set(phi, mode="drop"),
        used=now.used.at[place].set((now.turn + 1) * step, mode="drop"),
    )
