"""Shapley values by Bayesian quadrature: a Gaussian process over games; NumPy on the host.

The prior says which games are likely, the coalitions are those that leave the Shapley values least
uncertain, and the estimate is their posterior mean, which is linear in the values. Of a game only
the odd half counts, `u(S) = v(S) - v(complement of S)`; hence pairs.

The prior on the game is a Gaussian process with covariance, for s and t in {-1, 1}^d,

    prod_i (1 if s_i == t_i else rho)  +  linear * (1 + s·t / 4)
        +  sum over triples A:  weight_A * prod_{i in A} s_i t_i

The first term is any game at all; the second, what each player is worth alone; the third, that
players act together, on a grid mostly those beside each other. Singles and triples are odd, as is
half of the first term; pairs would be even and have no part in the Shapley value.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from infoutil_jax.shapley import coalitions
from infoutil_jax.shapley.coalitions import Masks, Operator

Grid = tuple[int, int]
Pairs = Float[np.ndarray, " pairs"]


@dataclass(frozen=True)
class Prior:
    """The prior on games, up to their scale.

    Attributes:
        rho: correlation, under the first term, of two values that differ in one player.
        linear: variance of twice a player's own worth.
        square: weight of three players out of a 2×2 square.
        near: weight of any other three players out of 2×3 or 3×2.
        far: weight of any three players, beside that.
    """

    rho: float
    linear: float
    square: float = 0.0
    near: float = 0.0
    far: float = 0.0


PLAYERS = Prior(rho=0.6, linear=3.0)
"""Where nothing is known of the players."""

GRID_PRIOR = Prior(rho=0.3, linear=100.0, square=0.5, near=0.04)
"""Players on a grid, near ones alike: near the largest likelihood of games of three teachers on the
patches of images (`experiments/benchmarks/shapley_prior.py`)."""

JITTER = 1e-9
"""Added to the prior's diagonal; its condition number stays far from 1/JITTER."""

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
    masks = coalitions.with_complements(_pairs(rng, game, coalitions.pairs_of(budget)), d, budget)
    return masks, _posterior(game, masks)


class Innovations(NamedTuple):
    """What each pair adds to the pairs before it.

    `whitener @ u` are uncorrelated and of the game's variance; a prefix of it needs that prefix of
    u only, and `loadings` times that prefix is the posterior mean of phi.
    """

    masks: Masks
    """One of each pair, the full coalition first."""
    whitener: Float[np.ndarray, "pairs pairs"]
    loadings: Float[np.ndarray, "d pairs"]
    shapley: Float[np.ndarray, "d d"]
    """Prior covariance of phi."""


def innovations(
    rng: np.random.Generator, d: int, pairs: int, grid: Grid | None, prior: Prior | None = None
) -> Innovations:
    """The coalitions of `gaussian` with a budget of `2 * pairs`, one pair after the other."""
    game = Games(d, grid, prior)
    masks = np.concatenate([np.ones((1, d), bool), _pairs(rng, game, pairs - 1)])
    factor = cholesky(game.between_pairs(masks))
    whitener = np.linalg.solve(factor, np.eye(pairs))
    loadings = np.linalg.solve(factor, (game.cross(masks) - game.cross(~masks)).T).T
    return Innovations(masks, whitener, loadings, game.shapley())


def cholesky(covariance: Float[np.ndarray, "pairs pairs"]) -> Float[np.ndarray, "pairs pairs"]:
    """The lower factor of the covariance of pairs' u, with the jitter of two values.

    A prior that was fitted to games of one kind alone can leave what others add below rounding:
    the jitter is then the least power of ten of it that makes the matrix definite.
    """
    one = np.eye(len(covariance))
    for power in range(12):
        with contextlib.suppress(np.linalg.LinAlgError):
            return np.linalg.cholesky(covariance + 2 * JITTER * 10**power * one)
    raise np.linalg.LinAlgError("the covariance is not that of a prior")


def _pairs(rng: np.random.Generator, game: Games, count: int) -> Masks:
    """One coalition of each pair: the first `CHOSEN` are chosen one by one, the others drawn."""
    d = game.d
    if count == 0:
        return np.zeros((0, d), bool)
    pool = max(CANDIDATES, count)  # or all that there are
    expected = coalitions.expected_pairs(d, pool, coalitions.shapley_kernel(d))
    candidates = rng.permutation(coalitions.distinct_pairs(rng, d, expected))
    first = _informative(game, candidates, min(count, CHOSEN))
    order = np.concatenate([first, np.setdiff1d(np.arange(len(candidates)), first)])
    result: Masks = candidates[order[:count]]
    return result


def _posterior(game: Games, masks: Masks) -> Operator:
    """cov(phi, v) cov(v, v)^-1, then made blind to constants and efficient to the last bit."""
    budget, d = masks.shape
    covariance = game.covariance(masks, masks) + JITTER * np.eye(budget)
    operator = np.linalg.solve(covariance, game.cross(masks).T).T
    operator[:, 0] -= operator.sum(1)
    result: Operator = operator + (coalitions.efficiency(budget) - operator.sum(0)) / d
    return result


def _informative(game: Games, candidates: Masks, count: int) -> Int[np.ndarray, " count"]:
    """Chooses, greedily, the candidates that most reduce the variance of phi, summed over players.

    One step of pivoted Cholesky a choice, on u, beginning with the full coalition, which every
    design holds. With F the factor so far and A = cov(phi, u) F's counterpart,
    cov(phi, u | chosen) = cross - A F is never formed: a step is one product with F.
    """
    d = candidates.shape[1]
    pool = np.concatenate([np.ones((1, d), bool), candidates])
    between = game.of_pairs(pool)
    cross = game.cross(pool) - game.cross(~pool)
    explained = np.square(cross).sum(0)
    variance = np.full(len(pool), between(0)[0])
    factor, loading = np.zeros((count + 1, len(pool))), np.zeros((d, count + 1))
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


class Games:
    """Covariances of v and phi under the prior for `d` players, on a grid if there is one."""

    def __init__(self, d: int, grid: Grid | None, prior: Prior | None = None):
        self.d, self.prior = d, prior or (PLAYERS if grid is None else GRID_PRIOR)
        self.triples, self.weight = _triples(grid, self.prior)

    def covariance(
        self, s: Bool[np.ndarray, "n d"], t: Bool[np.ndarray, "m d"]
    ) -> Float[np.ndarray, "n m"]:
        """cov(v(S), v(T))."""
        result: Float[np.ndarray, "n m"] = (
            self._common(_signs(s) @ _signs(t).T) + self._features(s) @ self._features(t).T
        )
        return result

    def of_pairs(self, pool: Masks) -> Callable[[int], Pairs]:
        """Returns a function of j: the covariance of pair j's u with every pair's in the pool."""
        signs, local = _signs(pool), self._local(pool)

        def between(j: int) -> Pairs:
            agreement = signs @ signs[j]
            result: Pairs = 2 * (self._common(agreement) - self._common(-agreement)) + local[j]
            return result

        return between

    def between_pairs(self, pool: Masks) -> Float[np.ndarray, "n n"]:
        """The covariance of every pair's u with every other's."""
        signs = _signs(pool)
        agreement = signs @ signs.T
        result: Float[np.ndarray, "n n"] = self._local(pool) + 2 * (
            self._common(agreement) - self._common(-agreement)
        )
        return result

    def _local(self, pool: Masks) -> Float[np.ndarray, "n n"]:
        """The part of u's covariance that neighbours make."""
        signs, local = _signs(pool), np.zeros((len(pool), len(pool)))
        for weight in np.unique(self.weight):
            products = signs[:, self.triples[self.weight == weight]].prod(-1)
            products = products.astype(np.float32)  # of ±1: their sums are exact
            local += 4 * weight * (products @ products.T)
        return local

    def cross(self, masks: Masks) -> Operator:
        """cov(phi_i, v(T)) in closed form.

        A triple is worth 2/3 to each of its three, a single 2. For the product term, the Shapley
        weights are moments, |S|!(d-1-|S|)!/d! = ∫ t^|S| (1-t)^(d-1-|S|) dt over [0, 1], so the
        sum over the coalitions S of the others factorises over players under the integral:
        sum_S weight(S) prod_j k(s_j, t_j) = ∫ (t + rho (1-t))^m (rho t + 1-t)^(d-1-m) dt with m
        the number of other players in T. Gauss-Legendre integrates that polynomial exactly.
        """
        rho = self.prior.rho
        node, weight = np.polynomial.legendre.leggauss(self.d // 2 + 1)
        t = (node + 1) / 2
        m = np.arange(self.d)[:, None]
        moments = ((t + rho * (1 - t)) ** m * (rho * t + 1 - t) ** (self.d - 1 - m)) @ weight / 2
        others = masks.sum(1, keepdims=True) - masks
        two_others = ((2 * others - (self.d - 1)) ** 2 - (self.d - 1)) / 2  # sum of their products
        alone = self.prior.linear / 2 + self.prior.far * 2 / 3 * two_others
        own = (_signs(masks) * ((1 - rho) * moments[others] + alone)).T
        result: Operator = own + self._shares() @ self._features(masks).T
        return result

    def shapley(self) -> Float[np.ndarray, "d d"]:
        """cov(phi_i, phi_j): each odd product of signs over A gives 2/|A| to every player of A."""
        d, rho = self.d, self.prior.rho
        odd = np.arange(1, d + 1, 2)
        share = [
            4 / m**2 * ((1 + rho) / 2) ** (d - m) * ((1 - rho) / 2) ** m for m in map(int, odd)
        ]
        one = sum(math.comb(d - 1, m - 1) * s for m, s in zip(map(int, odd), share, strict=True))
        two = sum(
            math.comb(d - 2, m - 2) * s for m, s in zip(map(int, odd[1:]), share[1:], strict=True)
        )
        one += self.prior.linear + self.prior.far * 4 / 9 * math.comb(d - 1, 2)
        common = np.full((d, d), two + self.prior.far * 4 / 9 * max(d - 2, 0))
        np.fill_diagonal(common, one)
        result: Float[np.ndarray, "d d"] = common + self._shares() @ self._shares().T
        return result

    def _common(self, agreement: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """The covariance of all terms that do not know where players are, from s·t."""
        product = self.prior.rho ** ((self.d - agreement) / 2)
        triples = (agreement**2 - 3 * self.d + 2) * agreement / 6  # sum of products of any three
        result: Float[np.ndarray, "*shape"] = (
            product + self.prior.linear * (1 + agreement / 4) + self.prior.far * triples
        )
        return result

    def _features(self, masks: Masks) -> Float[np.ndarray, "_ triples"]:
        result: Float[np.ndarray, "_ triples"] = _signs(masks)[:, self.triples].prod(-1) * np.sqrt(
            self.weight
        )
        return result

    def _shares(self) -> Float[np.ndarray, "d triples"]:
        shares = np.zeros((self.d, len(self.triples)))
        np.put_along_axis(shares.T, self.triples, 2 / 3, axis=1)
        result: Float[np.ndarray, "d triples"] = shares * np.sqrt(self.weight)
        return result


def _signs(masks: Masks) -> Float[np.ndarray, "_ d"]:
    return 2.0 * masks - 1


@lru_cache(maxsize=8)
def _triples(
    grid: Grid | None, prior: Prior
) -> tuple[Int[np.ndarray, "triples 3"], Float[np.ndarray, " triples"]]:
    """Triples of patches within 2×3 or 3×2, and the weight of each."""
    found: dict[tuple[int, ...], float] = {}
    # Squares last: what lies in one lies in the larger rectangles, too.
    for height, width, weight in ((2, 3, prior.near), (3, 2, prior.near), (2, 2, prior.square)):
        rows, columns = grid or (0, 0)
        for top, left in np.ndindex(max(0, rows - height + 1), max(0, columns - width + 1)):
            inside = np.add.outer(
                np.arange(top, top + height) * columns, np.arange(left, left + width)
            )
            for triple in itertools.combinations(inside.ravel().tolist(), 3):
                found[triple] = weight
    index = np.array(list(found), int).reshape(-1, 3)
    return index, np.array(list(found.values()), float)
