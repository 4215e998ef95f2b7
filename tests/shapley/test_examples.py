"""Games are like those that were played: examples in the prior, by brute force and in use."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from infoutil_jax.shapley import Examples, Prior, coalition_design, fitted_prior, pilot_coalitions
from infoutil_jax.shapley.bayesian_quadrature import gaussian
from infoutil_jax.shapley.coalitions import exact
from infoutil_jax.shapley.prior import GRID_PRIOR, Games

PLAIN = Prior(0.4, 5.0, square=0.5, near=0.1, far=0.02)


def pairs_of(players):
    """One coalition of every pair, the full one first."""
    masks = (np.arange(2**players)[::-1, None] >> np.arange(players)) & 1 == 1
    return masks[: 2 ** (players - 1)]


def examples(grid, count, pairs, seed=0):
    rng = np.random.default_rng(seed)
    masks = pairs_of(grid[0] * grid[1])[:pairs]
    return Examples(masks, rng.normal(size=(count, len(masks))))


@pytest.mark.parametrize("grid", [(2, 3), (3, 2), (6, 1), (1, 6)])
def test_where_games_are_known_a_share_of_the_covariance_is_theirs(grid):
    """And of their mirror images."""
    masks, played = pairs_of(6), replace(examples(grid, 4, 32), share=0.3)
    found = Games(6, grid, replace(PLAIN, examples=played)).between_pairs(masks)
    mirror = np.arange(6).reshape(grid)[:, ::-1].ravel()
    number = {mask.tobytes(): (i, 1.0) for i, mask in enumerate(masks)}
    number |= {(~mask).tobytes(): (i, -1.0) for i, mask in enumerate(masks)}
    places, signs = zip(*(number[mask.tobytes()] for mask in masks[:, mirror]), strict=True)
    games = played.differences
    both = np.concatenate([games, games[:, list(places)] * np.array(signs)])
    plain = Games(6, grid, PLAIN).between_pairs(masks)
    np.testing.assert_allclose(found, 0.7 * plain + 0.3 * both.T @ both / 8, atol=1e-5)


def test_what_the_coalitions_of_games_leave_open_stays_as_open_as_it_was():
    """Given theirs, all others vary as under the prior without examples."""
    masks, played = pairs_of(6), examples((6, 1), 4, 9)
    with_, without = (
        Games(6, (6, 1), prior).between_pairs(masks)
        for prior in (replace(PLAIN, examples=played), PLAIN)
    )
    games = played.differences
    expected = 0.5 * without[:9, :9] + 0.5 * games.T @ games / 4
    np.testing.assert_allclose(with_[:9, :9], expected, atol=1e-5)
    left = [
        one[9:, 9:] - one[9:, :9] @ np.linalg.solve(one[:9, :9], one[:9, 9:])
        for one in (with_, without)
    ]
    np.testing.assert_allclose(*left, atol=1e-5)


@pytest.mark.parametrize(("grid", "pairs"), [((2, 3), 9), ((3, 2), 32), (None, 12), ((1, 6), 5)])
def test_every_covariance_follows_from_that_of_values(grid, pairs):
    """Those of the Shapley values by their definition, those of pairs by differences."""
    prior = replace(PLAIN, examples=examples(grid or (2, 3), 3, pairs))
    game = Games(6, grid, prior if grid else replace(prior, square=0.0, near=0.0))
    masks, operator = exact(6)
    half = pairs_of(6)
    values = game.covariance(masks, masks)
    np.testing.assert_allclose(game.cross(masks), operator @ values, atol=1e-9)
    np.testing.assert_allclose(game.shapley(), operator @ values @ operator.T, atol=1e-9)
    between = (
        game.covariance(half, half)
        - game.covariance(half, ~half)
        - game.covariance(~half, half)
        + game.covariance(~half, ~half)
    )
    np.testing.assert_allclose(game.between_pairs(half), between, atol=1e-9)
    np.testing.assert_allclose(game.variances(half), np.diag(between), atol=1e-9)
    column = game.of_pairs(half)
    np.testing.assert_allclose(np.stack([column(j) for j in range(32)]), between, atol=1e-9)


def test_games_like_those_played_take_fewer_coalitions():
    """Four motifs, mixed anew in each game, whose triples lie all over the grid."""
    rng, (masks, operator) = np.random.default_rng(0), exact(16)
    signs = 2.0 * masks - 1
    triples = np.array(list(itertools.combinations(range(16), 3)))
    chosen = signs[:, triples[rng.choice(len(triples), 60)]].prod(-1)
    motifs = signs @ rng.normal(size=(16, 4)) + chosen @ rng.normal(size=(60, 4))
    values = motifs @ rng.normal(size=(4, 40))
    of = values[np.argsort(masks @ (1 << np.arange(16)))]

    def worth(coalitions):
        return of[coalitions @ (1 << np.arange(16))]

    pilot = pilot_coalitions(16, 256)
    prior = fitted_prior((worth(pilot) - worth(~pilot)).T[:20], pilot, (4, 4))
    right = operator @ values

    def error(prior):
        design = coalition_design(16, 32, grid=4, prior=prior)
        found = design.operator @ worth(design.masks)
        return np.sum((found - right)[:, 20:] ** 2) / np.sum(right[:, 20:] ** 2)

    assert prior.examples.share > 0.5
    assert error(prior) < 0.6 * min(error(replace(prior, examples=None)), error(GRID_PRIOR))


def test_examples_of_another_kind_leave_every_game_possible():
    prior = replace(PLAIN, examples=examples((2, 3), 2, 32))
    game = np.random.default_rng(9).normal(size=64)
    masks, operator = gaussian(np.random.default_rng(0), 6, 64, (2, 3), prior)
    right = exact(6)
    values = game[masks @ (1 << np.arange(6))]
    expected = right[1] @ game[right[0] @ (1 << np.arange(6))]
    np.testing.assert_allclose(operator @ values, expected, atol=1e-3)


def test_equal_examples_are_equal_and_share_what_is_made_of_them():
    one, same, other = examples((2, 3), 2, 9), examples((2, 3), 2, 9), examples((2, 3), 2, 9, 1)
    assert one == same and hash(one) == hash(same) and one != other and one != "examples"
    assert replace(PLAIN, examples=one) == replace(PLAIN, examples=same)
    assert replace(one, share=0.1) != one
