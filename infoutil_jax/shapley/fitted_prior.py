"""The prior under which some games are likeliest; NumPy on the host, one small step.

Which games are likely depends on who plays them: under a network with group normalisation, say,
patches act together across the whole image. A prior that was fitted to other networks then costs
more than it gives, and its error bars are too narrow. A few games of the network at hand tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from infoutil_jax.errors import InputError
from infoutil_jax.shapley.bayesian_quadrature import drawn
from infoutil_jax.shapley.coalitions import Masks
from infoutil_jax.shapley.prior import GRID_PRIOR, Examples, Games, Grid, Prior, cholesky

MOST_RHO = 0.95
EVALUATIONS = 250
"""Of the likelihood, at most, and as many again: of 128 pairs they take a second."""

SHARES = 0.0, 0.2, 0.35, 0.5, 0.65, 0.8
"""That examples may have; the first of those that are as likely."""

FOLDS = 4

_START = Prior(rho=0.5, linear=30.0, square=0.3, near=0.04, far=0.01, five=0.01)
_LEAST, _MOST = 1e-7, 1e5  # of each weight


def pilot_coalitions(players: int, budget: int, seed: int = 0) -> Masks:
    """Coalitions `[pairs, players]` that, with their complements, tell one prior from another.

    The full one is the first; there are no more than there are pairs. The others are drawn as those
    from which designs choose: which are the best of these depends on the prior.
    """
    others = drawn(np.random.default_rng(seed), players, budget // 2 - 1)
    return np.concatenate([np.ones((1, players), bool), others])


def fitted_prior(
    differences: Float[np.ndarray, "games pairs"],
    masks: Bool[np.ndarray, "pairs players"],
    grid: Grid,
) -> Prior:
    """The prior of largest marginal likelihood, each game with the scale that suits it best.

    Then the games become its examples, with the share that makes each likeliest by the others.

    Args:
        differences: v(S) - v(complement of S) of each game. Games that never differ are left out.
        masks: the coalitions S.
        grid: rows and columns of the grid that the players lie on.

    Returns:
        The prior, its numbers rounded to steps of 5%, so that machines which round otherwise find
        the same; `GRID_PRIOR` of no games.

    Raises:
        InputError: a difference that is no finite number, or shapes that do not fit.
    """
    if differences.shape[1] != len(masks) or masks.shape[1] != grid[0] * grid[1]:
        raise InputError(
            f"differences are {differences.shape}, coalitions {masks.shape} and the grid "
            f"{grid[0]}x{grid[1]}: give a column for each coalition, and a player for each place"
        )
    if not np.isfinite(differences).all():
        game, pair = np.argwhere(~np.isfinite(differences))[0]
        raise InputError(
            f"game {game} differs by {differences[game, pair]} at coalition {pair}; "
            "values of coalitions must be finite"
        )
    players = masks.shape[1]
    played = differences[np.abs(differences).max(1, initial=0) > 0].astype(np.float64)
    if not len(played):
        return GRID_PRIOR

    start, free = _numbers_of(_START), _free(grid)

    def prior_of(x: np.ndarray) -> Prior:
        numbers = start.copy()
        numbers[free] = x
        return _prior_of(numbers)

    covariance = _by_weights(masks, grid)

    def cost(x: np.ndarray) -> float:
        return -_likelihood(covariance(prior_of(x)), played)

    from scipy.optimize import minimize  # takes half a second

    found = start[free]
    for _ in range(2):  # a simplex that has shrunk too early begins anew where it is
        around = np.vstack([found, found + 0.9 * np.eye(len(found))])
        options = {"maxfev": EVALUATIONS, "xatol": 0.03, "fatol": 1e-4, "initial_simplex": around}
        found = minimize(cost, found, method="Nelder-Mead", options=options).x
    rounded = np.exp(np.round(np.log(_numbers(prior_of(found))) * 20) / 20)
    prior = _of_numbers([float(f"{number:.4g}") for number in rounded])
    white = np.linalg.solve(cholesky(Games(players, grid, prior).between_pairs(masks)), played.T)
    scale = np.sqrt(np.square(white).mean(0))
    return _with_examples(prior, masks, played / scale[:, None], grid)


def _with_examples(
    prior: Prior,
    masks: Bool[np.ndarray, "pairs players"],
    games: Float[np.ndarray, "games pairs"],
    grid: Grid,
) -> Prior:
    """With the games as examples, as far as they tell of one another; else without."""
    if len(games) < FOLDS:
        return prior
    alone = Games(masks.shape[1], grid, prior).between_pairs(masks)
    folds, likelihoods = np.arange(len(games)) % FOLDS, np.zeros(len(SHARES))
    for fold in range(FOLDS):  # each fold's games beside the others; the sum over games
        left_out = folds == fold
        others = replace(prior, examples=Examples(masks, games[~left_out], share=1.0))
        added = Games(masks.shape[1], grid, others).between_pairs(masks) - alone
        likelihoods += left_out.sum() * np.array(
            [_likelihood(alone + share * added, games[left_out]) for share in SHARES]
        )
    share = SHARES[int(likelihoods.argmax())]
    return replace(prior, examples=Examples(masks, games, share)) if share else prior


def log_likelihood(
    prior: Prior,
    masks: Bool[np.ndarray, "pairs players"],
    differences: Float[np.ndarray, "games pairs"],
    grid: Grid,
) -> float:
    """Log density of a difference, mean over games, each with the scale that suits it best."""
    return _likelihood(Games(masks.shape[1], grid, prior).between_pairs(masks), differences)


def _likelihood(
    covariance: Float[np.ndarray, "pairs pairs"], differences: Float[np.ndarray, "games pairs"]
) -> float:
    factor = cholesky(covariance)
    white = np.linalg.solve(factor, differences.T)
    scale = np.log(np.square(white).mean(0)).mean() / 2
    return float(-(scale + np.log(np.diag(factor)).mean() + (1 + np.log(2 * np.pi)) / 2))


def _by_weights(
    masks: Bool[np.ndarray, "pairs players"], grid: Grid
) -> Callable[[Prior], Float[np.ndarray, "pairs pairs"]]:
    """`Games.between_pairs` of priors without examples, each a sum of what is computed once.

    It is linear in all of a prior's numbers but rho.
    """
    players = masks.shape[1]
    nothing = Prior(rho=0.0, linear=0.0)
    names = [field.name for field in fields(Prior) if field.name not in ("rho", "examples")]

    def between(prior: Prior, grid: Grid | None) -> Float[np.ndarray, "pairs pairs"]:
        return Games(players, grid, prior).between_pairs(masks)

    zero, of_each = between(nothing, grid), {}
    for name in names:
        only: dict[str, Any] = {name: 1.0}
        of_each[name] = between(replace(nothing, **only), grid) - zero

    def covariance(prior: Prior) -> Float[np.ndarray, "pairs pairs"]:
        weighted = (getattr(prior, name) * of for name, of in of_each.items())
        return sum(weighted, between(replace(nothing, rho=prior.rho), None))

    return covariance


def _free(grid: Grid) -> Bool[np.ndarray, " numbers"]:
    """Which numbers of a prior matter on a grid; the likelihood says nothing of the others."""
    short, long = sorted(grid)
    rectangle = short > 1 and long > 2
    return np.array([True, True, short > 1, rectangle, short * long > 2, rectangle])


def _prior_of(x: np.ndarray) -> Prior:
    """From numbers without bounds."""
    rho = MOST_RHO / (1 + np.exp(-np.clip(x[0], -7, 7)))
    weights = np.exp(np.clip(x[1:], *np.log([_LEAST, _MOST])))
    return _of_numbers([float(rho), *map(float, weights)])


def _numbers_of(prior: Prior) -> np.ndarray:
    """The reverse of `_prior_of`."""
    rho, *weights = _numbers(prior)
    return np.array([np.log(rho / (MOST_RHO - rho)), *np.log(weights)])


def _of_numbers(numbers: list[float]) -> Prior:
    rho, linear, square, near, far, five = numbers
    return Prior(rho, linear, square, near, far, five)


def _numbers(prior: Prior) -> list[float]:
    return [prior.rho, prior.linear, prior.square, prior.near, prior.far, prior.five]
