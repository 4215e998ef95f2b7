"""Which games are likely: the prior of Bayesian quadrature, a Gaussian process; NumPy on the host.

Its covariance is, for s and t in {-1, 1}^d,

    prod_i (1 if s_i == t_i else rho)  +  linear * (1 + s·t / 4)
        +  sum over sets A of three or five:  weight_A * prod_{i in A} s_i t_i

The first term is any game at all; the second, what each player is worth alone; the third, that
players act together, on a grid mostly those beside each other. Sets of an odd size are odd, as is
half of the first term; those of an even one would be even and have no part in the Shapley value.

Games that were played say more: as far as their coalitions tell a game, a share of their own
covariance takes the place of that one. It is the mean of an inverse Wishart posterior, up to scale,
with what their coalitions leave open filled in by expectation.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from infoutil_jax.shapley.coalitions import Masks, Operator

Grid = tuple[int, int]
Pairs = Float[np.ndarray, " pairs"]


@dataclass(frozen=True, eq=False)
class Examples:
    """Games that were played. Equal ones have equal arrays.

    Attributes:
        masks: the coalitions of one half of the pairs.
        differences: v(S) - v(complement of S) of each game, at the scale that the prior without
            examples thinks likeliest.
        share: of the covariance that is theirs, 0 to 1.
    """

    masks: Bool[np.ndarray, "pairs players"]
    differences: Float[np.ndarray, "games pairs"]
    share: float = 0.5

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Examples) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def _values(self) -> tuple[object, ...]:
        return self.masks.tobytes(), self.differences.tobytes(), self.share


@dataclass(frozen=True)
class Prior:
    """The prior on games, up to their scale.

    Attributes:
        rho: correlation, under the first term, of two values that differ in one player.
        linear: variance of twice a player's own worth.
        square: weight of three players out of a 2×2 square.
        near: weight of any other three players out of 2×3 or 3×2.
        far: weight of any three players, beside that.
        five: weight of five players out of 2×3 or 3×2.
        examples: games of the kind that is expected; on a grid their mirror images, too.
    """

    rho: float
    linear: float
    square: float = 0.0
    near: float = 0.0
    far: float = 0.0
    five: float = 0.0
    examples: Examples | None = None


PLAYERS = Prior(rho=0.6, linear=3.0)
"""Where nothing is known of the players."""

GRID_PRIOR = Prior(rho=0.3, linear=100.0, square=0.5, near=0.04)
"""Players on a grid, near ones alike: near the largest likelihood of games of three teachers on the
patches of images (`experiments/benchmarks/shapley_prior.py`)."""

JITTER = 1e-9
"""Added to the prior's diagonal; its condition number stays far from 1/JITTER."""


class Games:
    """Covariances of v and phi under the prior for `d` players, on a grid if there is one."""

    def __init__(self, d: int, grid: Grid | None, prior: Prior | None = None):
        self.d, self.prior = d, prior or (PLAYERS if grid is None else GRID_PRIOR)
        self.together = _together(grid, replace(self.prior, examples=None))
        self.examples = _Played(self, grid) if self.prior.examples else None

    def covariance(
        self, s: Bool[np.ndarray, "n d"], t: Bool[np.ndarray, "m d"]
    ) -> Float[np.ndarray, "n m"]:
        """cov(v(S), v(T))."""
        result: Float[np.ndarray, "n m"] = (
            self._common(_signs(s) @ _signs(t).T) + self._features(s) @ self._features(t).T
        )
        return result + self.examples.covariance(s, t) if self.examples else result

    def of_pairs(self, pool: Masks) -> Callable[[int], Pairs]:
        """Returns a function of j: the covariance of pair j's u with every pair's in the pool."""
        signs, near = _signs(pool), self._near(pool)
        played = self.examples.of_pairs(pool) if self.examples else None

        def between(j: int) -> Pairs:
            agreement = signs @ signs[j]
            local = sum(weight * (products @ products[j]) for weight, products in near)
            local = local + played(j) if played else local
            result: Pairs = 2 * (self._common(agreement) - self._common(-agreement)) + local
            return result

        return between

    def between_pairs(self, pool: Masks) -> Float[np.ndarray, "n n"]:
        """The covariance of every pair's u with every other's."""
        signs = _signs(pool)
        agreement = signs @ signs.T
        local = sum(weight * (products @ products.T) for weight, products in self._near(pool))
        local = local + self.examples.between_pairs(pool) if self.examples else local
        result: Float[np.ndarray, "n n"] = local + 2 * (
            self._common(agreement) - self._common(-agreement)
        )
        return result

    def variances(self, pool: Masks) -> Pairs:
        """The variance of each pair's u."""
        common = self._common(np.array([self.d, -self.d], float))
        weights = sum(weight.sum() for _, weight in self.together)
        result = np.full(len(pool), 2 * (common[0] - common[1]) + 4 * weights)
        if self.examples:
            result += self.examples.variances(pool)
        return result

    def _near(self, pool: Masks) -> list[tuple[np.float64, Float32[np.ndarray, "n sets"]]]:
        """What neighbours add to u's covariance: weights, each of products ±1 of whole sets."""
        signs = _signs(pool).astype(np.float32)  # sums of ±1 are exact
        return [
            (4 * weight, signs[:, players[weights == weight]].prod(-1))
            for players, weights in self.together
            for weight in np.unique(weights)
        ]

    def cross(self, masks: Masks) -> Operator:
        """cov(phi_i, v(T)) in closed form.

        A set of three is worth 2/3 to each of them, a single 2. For the product term, the Shapley
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
        return result + self.examples.cross(masks) if self.examples else result

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
        common = np.full((d, d), two + self.prior.far * 4 / 9 * (d - 2))
        np.fill_diagonal(common, one)
        result: Float[np.ndarray, "d d"] = common + self._shares() @ self._shares().T
        return result + self.examples.shapley() if self.examples else result

    def _common(self, agreement: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """The covariance of all terms that do not know where players are, from s·t."""
        product = self.prior.rho ** ((self.d - agreement) / 2)
        triples = (agreement**2 - 3 * self.d + 2) * agreement / 6  # sum of products of any three
        result: Float[np.ndarray, "*shape"] = (
            product + self.prior.linear * (1 + agreement / 4) + self.prior.far * triples
        )
        return result

    def _features(self, masks: Masks) -> Float[np.ndarray, "_ sets"]:
        signs = _signs(masks)
        return np.hstack(
            [signs[:, players].prod(-1) * np.sqrt(weight) for players, weight in self.together]
        )

    def _shares(self) -> Float[np.ndarray, "d sets"]:
        """What each feature is worth to each player."""
        found = []
        for players, weight in self.together:
            shares = np.zeros((len(players), self.d))
            np.put_along_axis(shares, players, 2 / players.shape[1], axis=1)
            found.append(shares.T * np.sqrt(weight))
        return np.hstack(found)


class _Played:
    """What examples add to covariances.

    In coordinates of their pairs that are white under the prior without them, a share of the games'
    own covariance takes the place of the identity.
    """

    def __init__(self, games: Games, grid: Grid | None):
        examples = games.prior.examples
        assert examples is not None
        self.base = Games(games.d, grid, replace(games.prior, examples=None))
        self.masks = examples.masks
        self.factor = cholesky(self.base.between_pairs(self.masks))
        white = np.linalg.solve(self.factor, examples.differences.T)
        among = white @ white.T / white.shape[1]
        self.change = examples.share * (among - np.eye(len(among)))
        self.orders = [np.arange(games.d)]
        if grid is not None and grid[1] > 1:  # the mirror image is as likely
            self.orders += [np.arange(games.d).reshape(grid)[:, ::-1].ravel()]
        phi = self.base.cross(self.masks) - self.base.cross(~self.masks)
        phi = np.linalg.solve(self.factor, phi.T).T
        self.phi = [phi[order] for order in self.orders]

    def covariance(self, s: Masks, t: Masks) -> Float[np.ndarray, "n m"]:
        """Added to cov(v(S), v(T))."""
        return self._mean(self._white(s), self._white(t))

    def of_pairs(self, pool: Masks) -> Callable[[int], Pairs]:
        """Of j: what is added to the covariance of pair j's u with every pair's."""
        white = self._white(pool)
        return lambda j: 4 * self._mean([one[[j]] for one in white], white)[0]

    def between_pairs(self, pool: Masks) -> Float[np.ndarray, "n n"]:
        """Added to the covariance of pairs' u."""
        white = self._white(pool)
        return 4 * self._mean(white, white)

    def variances(self, pool: Masks) -> Pairs:
        """The diagonal of that."""
        sums = [(one @ self.change * one).sum(1) for one in self._white(pool)]
        result: Pairs = 4 * np.mean(sums, axis=0)
        return result

    def cross(self, masks: Masks) -> Operator:
        """Added to cov(phi, v(T))."""
        result: Operator = self._mean(self.phi, self._white(masks))
        return result

    def shapley(self) -> Float[np.ndarray, "d d"]:
        """Added to the covariance of phi."""
        return self._mean(self.phi, self.phi)

    def _white(self, masks: Masks) -> list[Float[np.ndarray, "n pairs"]]:
        """Covariance of v with the white coordinates, for the games and for their mirror images."""
        return [self._white_of(masks[:, order]) for order in self.orders]

    def _white_of(self, masks: Masks) -> Float[np.ndarray, "n pairs"]:
        with_pairs = self.base.covariance(masks, self.masks)
        with_pairs -= self.base.covariance(masks, ~self.masks)
        result: Float[np.ndarray, "n pairs"] = np.linalg.solve(self.factor, with_pairs.T).T
        return result

    def _mean(
        self, one: list[Float[np.ndarray, "n pairs"]], other: list[Float[np.ndarray, "m pairs"]]
    ) -> Float[np.ndarray, "n m"]:
        products = [a @ self.change @ b.T for a, b in zip(one, other, strict=True)]
        result: Float[np.ndarray, "n m"] = np.mean(products, axis=0)
        return result


def _signs(masks: Masks) -> Float[np.ndarray, "_ d"]:
    return 2.0 * masks - 1


@lru_cache(maxsize=8)
def _together(
    grid: Grid | None, prior: Prior
) -> list[tuple[Int[np.ndarray, "sets size"], Float[np.ndarray, " sets"]]]:
    """Sets of three and of five patches within 2×3 or 3×2, and the weight of each."""
    rows, columns = grid or (0, 0)
    found: dict[int, dict[tuple[int, ...], float]] = {3: {}, 5: {}}
    # Squares last: what lies in one lies in the larger rectangles, too.
    for height, width, weights in (
        (2, 3, {3: prior.near, 5: prior.five}),
        (3, 2, {3: prior.near, 5: prior.five}),
        (2, 2, {3: prior.square}),
    ):
        for top, left in np.ndindex(max(0, rows - height + 1), max(0, columns - width + 1)):
            inside = np.add.outer(
                np.arange(top, top + height) * columns, np.arange(left, left + width)
            )
            for size, weight in weights.items():
                for players in itertools.combinations(inside.ravel().tolist(), size):
                    found[size][players] = weight
    return [
        (np.array(list(sets), int).reshape(-1, size), np.array(list(sets.values()), float))
        for size, sets in found.items()
    ]


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
