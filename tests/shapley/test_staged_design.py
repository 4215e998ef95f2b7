"""The pool of coalitions that stages choose from."""

import numpy as np
import pytest

from infoutil_jax.shapley import half_of, staged_design
from infoutil_jax.shapley.bayesian_quadrature import telling_pairs
from infoutil_jax.shapley.prior import Games


def test_a_design_holds_the_prior_of_what_its_coalitions_tell():
    design = staged_design((2, 3), 20, window=(1, 2), step=8)
    beside = [(0, 1), (1, 2), (3, 4), (4, 5)]
    windows = np.array([np.isin(np.arange(6), one) / 2 for one in beside])
    prior, masks = Games(6, (2, 3)), design.masks
    values = prior.covariance(np.r_[masks, ~masks], np.r_[masks, ~masks])
    differ = np.c_[np.eye(len(masks)), -np.eye(len(masks))]
    np.testing.assert_allclose(design.windows, windows)
    np.testing.assert_allclose(design.between, differ @ values @ differ.T, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(design.with_phi, prior.cross(np.r_[masks, ~masks]) @ differ.T)
    np.testing.assert_allclose(design.apart, windows @ prior.shapley() @ windows.T, rtol=1e-5)
    assert (design.pairs, design.half) == (10, 4)


def test_a_pool_is_what_most_tells_each_window_from_the_mean_of_all():
    design = staged_design((3, 4), 96, seed=3)
    apart = design.windows.astype(float) - design.windows.mean(0)
    game = Games(12, (3, 4))
    others = telling_pairs(np.random.default_rng(3), game, 511, apart, candidates=1024)
    np.testing.assert_array_equal(design.masks[1:], others)


def test_where_one_window_is_all_there_is_coalitions_tell_of_the_players():
    """As there is no other to tell it from, they are asked for in the order of any design."""
    found = staged_design((2, 3), 64, window=(2, 3)).masks
    others = telling_pairs(np.random.default_rng(0), Games(6, (2, 3)), 511)
    np.testing.assert_array_equal(found[1:], others)


def test_no_two_coalitions_of_the_pool_are_a_pair_or_one():
    design = staged_design((3, 3), 96)
    both = np.r_[design.masks, ~design.masks]
    assert design.masks[0].all() and len(np.unique(both, axis=0)) == len(both) == 512


@pytest.mark.parametrize(("grid", "window"), [((4, 4), 2), ((3, 4), 3)])
def test_a_pool_begins_with_what_most_tells_windows_apart(grid, window):
    """Of so many pairs its first leave the windows least uncertain, also where there are two."""

    def left(design, pairs):
        between, told = design.between[np.ix_(pairs, pairs)], design.with_phi[:, pairs]
        told = (design.windows - design.windows.mean(0)) @ told
        return -np.trace(told @ np.linalg.solve(between.astype(float), told.T))

    design = staged_design(grid, 96, window=window)
    first = left(design, np.arange(16))
    others = [left(design, np.r_[0, np.arange(at, at + 15)]) for at in range(16, 480, 15)]
    assert first < min(others)


def test_a_game_is_asked_for_no_more_than_the_pool_has():
    """What 512 pairs leave open is a tie; memory is pairs times pool for each game at once."""
    design = staged_design((3, 4), 5000)
    assert (design.pairs, len(design.masks)) == (512, 512)


@pytest.mark.parametrize(
    ("grid", "half"), [((4, 4), (2, 2)), ((1, 5), (1, 2)), ((7, 1), (3, 1)), ((1, 1), (1, 1))]
)
def test_half_of_a_grid_holds_at_least_one_player(grid, half):
    assert half_of(grid) == half
