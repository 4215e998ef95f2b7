"""Shapley values by Bayesian quadrature: from few coalitions of a game; NumPy on the host.

The prior says which games are likely (`shapley.prior`), the coalitions are those that leave the
Shapley values least uncertain, and the estimate is their posterior mean, which is linear in the
values. Of a game only the odd half counts, `u(S) = v(S) - v(complement of S)`; hence pairs.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int

from infoutil_jax.shapley import coalitions
from infoutil_jax.shapley.coalitions import Masks, Operator
from infoutil_jax.shapley.prior import JITTER, Games, Grid, Prior

CANDIDATES = 4096
"""Pairs among which those to evaluate are chosen."""

CHOSEN = 512
"""Pairs that are chosen one by one; further ones are drawn."""


def gaussian(
    rng: np.random.Generator,
    d: int,
    budget: int,
    grid: Grid | None = None,
    prior: Prior | None = None,
) -> tuple[Masks, Operator]:
    """The posterior mean of phi, at pairs that leave it least uncertain.

    Every design of an even budget up to 2 * CHOSEN begins with those of smaller even budgets.
    """
    game = Games(d, grid, prior)
    pairs = telling_pairs(rng, game, coalitions.pairs_of(budget))
    masks = coalitions.with_complements(pairs, d, budget)
    return masks, _posterior(game, masks)


def drawn(rng: np.random.Generator, d: int, count: int) -> Masks:
    """One of each of so many pairs beside the full and the empty one; all if there are fewer."""
    if d == 1:  # the full coalition and the empty one are all there are
        return np.zeros((0, 1), bool)
    expected = coalitions.expected_pairs(d, count, coalitions.shapley_kernel(d))
    result: Masks = rng.permutation(coalitions.distinct_pairs(rng, d, expected))
    return result


def telling_pairs(
    rng: np.random.Generator,
    game: Games,
    count: int,
    target: Float[np.ndarray, "targets d"] | None = None,
    candidates: int = CANDIDATES,
) -> Masks:
    """One coalition of each pair that tells most of `target @ phi`, beside the full and the empty.

    By default of phi. The first `CHOSEN` are chosen one by one, the others follow as they were
    drawn; there are no more than there are pairs.
    """
    pool = drawn(rng, game.d, max(count, candidates))
    target = np.eye(game.d) if target is None else target
    first = _greedily(game, pool, target, min(count, CHOSEN, len(pool)))
    others = np.setdiff1d(np.arange(len(pool)), first)
    result: Masks = pool[np.concatenate([first, others])[:count]]
    return result


def _posterior(game: Games, masks: Masks) -> Operator:
    """cov(phi, v) cov(v, v)^-1, then made blind to constants and efficient to the last bit."""
    budget, d = masks.shape
    covariance = game.covariance(masks, masks) + JITTER * np.eye(budget)
    operator = np.linalg.solve(covariance, game.cross(masks).T).T
    operator[:, 0] -= operator.sum(1)
    result: Operator = operator + (coalitions.efficiency(budget) - operator.sum(0)) / d
    return result


def _greedily(
    game: Games, candidates: Masks, target: Float[np.ndarray, "targets d"], count: int
) -> Int[np.ndarray, " count"]:
    """Numbers of those that most reduce the variance of `target @ phi`, summed.

    One step of pivoted Cholesky a choice, on u, beginning with the full coalition, which every
    design holds. With F the factor so far and A = cov(target @ phi, u) F's counterpart,
    cov(target @ phi, u | chosen) = cross - A F is never formed: a step is one product with F.
    """
    pool = np.concatenate([np.ones((1, game.d), bool), candidates])
    between, variance = game.of_pairs(pool), game.variances(pool)
    cross = target @ (game.cross(pool) - game.cross(~pool))
    explained = np.square(cross).sum(0)
    factor, loading = np.zeros((count + 1, len(variance))), np.zeros((len(target), count + 1))
    chosen = np.zeros(count + 1, int)
    for k in range(count + 1):
        if k:
            # Where nothing is left to explain, rounding makes it negative.
            gain = np.maximum(explained, 0) / np.maximum(variance, JITTER)
            gain[chosen[:k]] = -np.inf
            # The first of equals, which rounding tells apart otherwise on every machine.
            chosen[k] = np.argmax(gain >= gain.max() * (1 - 1e-6))
        j = int(chosen[k])
        if variance[j] <= JITTER:  # the pairs before tell it to rounding: it adds nothing
            continue
        scale = math.sqrt(variance[j])
        column = (cross[:, j] - loading[:, :k] @ factor[:k, j]) / scale
        seen, told = np.stack([factor[:k, j], column @ loading[:, :k]]) @ factor[:k]
        factor[k] = (between(j) - seen) / scale
        loading[:, k] = column
        explained -= factor[k] * (2 * (column @ cross - told) - column @ column * factor[k])
        variance -= factor[k] ** 2
    return chosen[1:] - 1
