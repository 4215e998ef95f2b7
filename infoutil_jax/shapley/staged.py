"""Shapley values from as few coalitions as it takes to know the best window of players.

The Gaussian process that estimates the Shapley values (`bayesian_quadrature`) also says how likely
it is that another window is better than the one that looks best. A game is asked, a few coalitions
at a time, what tells its best window from those that may be better; when hardly any may, it is
done, and the next game takes its place in the batch. One compiled loop does all that, without a
pause between games.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.scipy.special import betainc
from jaxtyping import Array, Bool, Float, Int

from infoutil_jax.errors import InputError
from infoutil_jax.shapley.staged_design import StagedDesign

_product = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)

CONFIDENCE = 0.98
"""Probability that a game's best window is the right one, at which the game is done."""

ALIKE = 4
"""Pairs of which every game is asked first: until then its best window is mostly chance."""

FLOOR = 3e-7
"""Of the full pair's variance: what is left of another's is rounding where it is less."""

FEW = 4
"""One in so many lanes goes on, or one in its square, once no more games than that are left."""


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
        confidence: probability that the best window is the right one, 0 to 1: at 0 the first stage
            decides, and at 1 no stage does before the last.
        at_once: games under evaluation at once; each evaluates a stage's coalitions, and holds
            pairs × pool numbers.

    Returns:
        The Shapley values, and how many coalitions each game took. A last stage for which the
        budget has too few is filled up with the full coalition and the empty one, which are
        evaluated again and do not count: with 6 and stages of 4, 8 are evaluated.

    Raises:
        InputError: a `confidence` out of range, or fewer than one game at once.
    """
    if not 0 <= confidence <= 1:
        raise InputError(f"confidence is {confidence}; give a probability, 0 to 1")
    if at_once < 1:
        raise InputError(f"at_once is {at_once}; at least 1 game must be under evaluation")
    if not len(games):
        return jnp.zeros((0, design.masks.shape[-1]), design.apart.dtype), jnp.zeros(0, int)
    result: tuple[Float[Array, "games players"], Int[Array, " games"]] = _staged_shapley(
        games, min(len(games), at_once), design, float(confidence)
    )
    return result


class _Posterior(NamedTuple):
    """What is known of one game. Variances and covariances are what is left of them, at scale 1."""

    known: Array
    """Pairs that the game was asked for."""
    factor: Array
    """`[pairs, pool]`: covariance of each of them, beside those before it, with all pairs, divided
    by its deviation."""
    white: Array
    """`[pairs]`: how far each was from what those before it told, in deviations: independent."""
    variance: Array
    """Of each pair of the pool; infinite where it was asked for."""
    with_phi: Array
    """Covariance of phi with each pair of the pool."""
    apart: Array
    """Covariance of windows."""
    phi: Array
    worth: Array
    """v(all) - v(none), to which the Shapley values sum."""
    best: Array
    """Number of the best window."""
    rivals: Array
    """Probability that another window is better than that, for each."""


class _Asked(NamedTuple):
    """A pair, as a game is asked for it."""

    pair: Array
    """Its number in the pool."""
    row: Array
    """`[pairs]`: its column of `factor`, by which those before it tell of it."""
    deviation: Array
    """Of what they leave open; infinite where nothing more is asked."""
    loading: Array
    """What so much of a difference as a deviation adds to phi."""


class _Lanes(NamedTuple):
    """The games under evaluation, one a lane, and the results so far."""

    game: Array
    """Number of the game; past the last where a lane has nothing left to do."""
    of: _Posterior
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
    """Evaluates stage after stage on all lanes, until no lane holds a game.

    A game may take many times as many coalitions as most, so the last ones leave most lanes idle:
    once few are left they go on fewer lanes.
    """
    design = jax.tree.map(jnp.asarray, design)
    count, players = len(games), design.masks.shape[1]
    now = _Lanes(
        game=jnp.arange(lanes),
        of=jax.tree.map(lambda leaf: jnp.tile(leaf, (lanes, *[1] * leaf.ndim)), _fresh(design)),
        following=jnp.asarray(lanes),
        done=jnp.zeros((count, players), design.apart.dtype),
        used=jnp.zeros(count, int),
    )
    for fewer in sorted({lanes // FEW, lanes // FEW**2, 0}, reverse=True):
        now = _go_on(games, design, confidence, fewer, now)
    return now.done, now.used


def _go_on(
    games: GameBatch, design: StagedDesign, confidence: Any, fewer: int, now: _Lanes
) -> _Lanes:
    """Plays on all lanes until no more than so many have a game; keeps these."""

    def many(now: _Lanes) -> Bool[Array, ""]:
        return (now.game < len(games)).sum() > fewer

    now = jax.lax.while_loop(many, partial(_advance, games, design, confidence), now)
    busy = jnp.argsort(now.game >= len(games))[:fewer]
    return now._replace(game=now.game[busy], of=jax.tree.map(lambda leaf: leaf[busy], now.of))


def _advance(games: GameBatch, design: StagedDesign, confidence: Any, now: _Lanes) -> _Lanes:
    """Plays the next stage of the game on each lane."""
    of, asked = jax.vmap(partial(_ask, design))(now.of)
    masks = design.masks[asked.pair]
    both = jnp.stack([masks, ~masks], axis=2).reshape(len(masks), -1, masks.shape[-1])
    worth = games.values_of(jnp.minimum(now.game, len(games) - 1), both).astype(design.apart.dtype)
    of = jax.vmap(partial(_learn, design))(of, asked, worth[:, ::2] - worth[:, 1::2])
    sure = (1 - jnp.minimum(of.rivals.sum(1), 1) >= confidence) & (confidence < 1)
    return _hand_over(design, now, of, sure | (of.known >= design.pairs))


def _fresh(design: StagedDesign) -> _Posterior:
    """Of a game that has not begun."""
    pool, players = design.masks.shape
    zeros = partial(jnp.zeros, dtype=design.apart.dtype)
    return _Posterior(
        known=jnp.asarray(0),
        factor=zeros((design.pairs, pool)),
        white=zeros(design.pairs),
        variance=jnp.diag(design.between),
        with_phi=jnp.asarray(design.with_phi),
        apart=jnp.asarray(design.apart),
        phi=zeros(players),
        worth=zeros(()),
        best=jnp.asarray(0),
        rivals=zeros(len(design.windows)),
    )


def _ask(design: StagedDesign, of: _Posterior) -> tuple[_Posterior, _Asked]:
    """Chooses a stage's pairs; how much each tells is known before it is played."""
    return jax.lax.scan(lambda of, _: _ask_one(design, of), of, length=design.half)


def _ask_one(design: StagedDesign, of: _Posterior) -> tuple[_Posterior, _Asked]:
    """One step of pivoted Cholesky, with the pair that most tells rivals from the best window.

    It takes away the square of its covariance with the difference of two windows, divided by its
    own variance; each rival counts as much as it is likely to be better.
    """
    floor = FLOOR * design.between[0, 0]
    means = _product("wd,dp->wp", design.windows, of.with_phi)
    gain = _product("w,wp->p", of.rivals, jnp.square(means - means[of.best]))
    gain = jnp.where(jnp.isinf(of.variance), -1, gain / jnp.maximum(of.variance, floor))
    # The first of equals, which rounding tells apart otherwise on every machine.
    most = jnp.argmax(gain >= gain.max() * (1 - 1e-5))
    more = of.known < design.pairs
    pair = jnp.where(more, jnp.where(of.known < ALIKE, of.known, most), 0)
    # What those before tell to rounding adds nothing.
    tells = more & (of.variance[pair] > floor)
    deviation = jnp.where(tells, jnp.sqrt(of.variance[pair]), jnp.inf)
    # Rows from there on are of the game that was on the lane before.
    row = jnp.where(jnp.arange(design.pairs) < of.known, of.factor[:, pair], 0)
    column = (design.between[pair] - _product("k,kp->p", row, of.factor)) / deviation
    loading = of.with_phi[:, pair] / deviation
    told = _product("wd,d->w", design.windows, loading)
    of = of._replace(
        known=of.known + 1,
        factor=of.factor.at[of.known].set(column, mode="drop"),
        variance=(of.variance - jnp.square(column)).at[pair].set(jnp.inf),
        with_phi=of.with_phi - jnp.outer(loading, column),
        apart=of.apart - jnp.outer(told, told),
    )
    return of, _Asked(pair, row, deviation, loading)


def _learn(
    design: StagedDesign, of: _Posterior, asked: _Asked, differences: Float[Array, " half"]
) -> _Posterior:
    """Takes in what a stage's pairs are worth, and judges the windows."""
    before = of.known - design.half

    def learn_one(of: _Posterior, one: tuple[Array, _Asked, Array]) -> tuple[_Posterior, None]:
        number, asked, difference = one
        told = _product("k,k->", asked.row, of.white)
        far = (difference - told) / asked.deviation
        white = of.white.at[number].set(far, mode="drop")
        return of._replace(white=white, phi=of.phi + far * asked.loading), None

    numbers = before + jnp.arange(design.half)
    of, _ = jax.lax.scan(learn_one, of, (numbers, asked, differences))
    worth = jnp.where(before == 0, differences[0], of.worth)
    return _judge(design, of._replace(known=jnp.minimum(of.known, design.pairs), worth=worth))


def _judge(design: StagedDesign, of: _Posterior) -> _Posterior:
    """Which window is best, and how likely another is better.

    The scale of a game is not known but by what it has shown: with its square inverse gamma and
    nothing known before, the difference of two windows has Student's t distribution.
    """
    pooled = _product("wd,d->w", design.windows, of.phi)
    best = jnp.argmax(pooled)
    shown = jnp.square(of.white).sum()
    known = of.known.astype(shown.dtype)
    variance = jnp.diag(of.apart) + of.apart[best, best] - 2 * of.apart[best]
    deviation = jnp.sqrt(jnp.maximum(variance, 0) * shown / known)
    ahead = (pooled[best] - pooled) / jnp.maximum(deviation, jnp.finfo(jnp.float32).tiny)
    tail = betainc(known / 2, 0.5, known / (known + jnp.square(ahead))) / 2
    return of._replace(best=best, rivals=tail.at[best].set(0))


def _hand_over(
    design: StagedDesign, now: _Lanes, of: _Posterior, ends: Bool[Array, " lanes"]
) -> _Lanes:
    """Notes the games that are done and puts the next ones on their lanes."""
    count, players = now.done.shape
    place = jnp.where(ends, now.game, count)
    # The posterior means alone need not add up.
    phi = of.phi + ((of.worth - of.phi.sum(1)) / players)[:, None]

    def begun(leaf: Array, fresh: Array) -> Array:
        return jnp.where(ends.reshape(-1, *[1] * fresh.ndim), fresh, leaf)

    begins = jax.tree.map(begun, of, _fresh(design))
    return _Lanes(
        game=jnp.where(ends, now.following + jnp.cumsum(ends) - 1, now.game),
        of=begins._replace(factor=of.factor),  # of which `known` rows are read, all finite
        following=now.following + ends.sum(),
        done=now.done.at[place].set(phi, mode="drop"),
        used=now.used.at[place].set(2 * of.known, mode="drop"),
    )
