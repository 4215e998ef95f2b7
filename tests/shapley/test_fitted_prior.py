"""The prior that suits a few games: on games that were drawn from a known one, and on others."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from infoutil_jax.errors import InputError
from infoutil_jax.shapley import (
    GRID_PRIOR,
    Prior,
    coalition_design,
    fitted_prior,
    pilot_coalitions,
    staged_design,
)
from infoutil_jax.shapley.coalitions import exact
from infoutil_jax.shapley.fitted_prior import (
    _START,
    _by_weights,
    _free,
    _numbers,
    _numbers_of,
    _prior_of,
    _with_examples,
    log_likelihood,
)
from infoutil_jax.shapley.prior import Examples, Games

GRID = (4, 4)


def drawn(prior, masks, count, seed=0):
    """Differences of games that a prior says are likely, each at a scale of its own."""
    between = Games(16, GRID, prior).of_pairs(masks)
    covariance = np.stack([between(j) for j in range(len(masks))])
    factor = np.linalg.cholesky(covariance + 1e-6 * np.eye(len(masks)))
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.normal(size=(count, 1)))
    return scale * (rng.normal(size=(count, len(masks))) @ factor.T)


@pytest.mark.parametrize(
    "true",
    [
        GRID_PRIOR,
        Prior(0.3, 10.0, 0.02, 0.002, 0.02),
        Prior(0.8, 3.0, 0.4, 0.2, 0.05),
        Prior(0.3, 10.0, 0.1, 0.02, 0.002, 0.5),
    ],
)
def test_it_is_as_likely_as_the_prior_that_games_were_drawn_from(true):
    masks = pilot_coalitions(16, 160)
    prior = replace(fitted_prior(drawn(true, masks, 24), masks, GRID), examples=None)
    fresh = drawn(true, masks, 200, seed=1)
    right, wrong = (log_likelihood(p, masks, fresh, GRID) for p in (true, Prior(0.05, 1.0)))
    found = log_likelihood(prior, masks, fresh, GRID)
    assert found > right - 0.01 and found > wrong + 0.01


def test_the_likelihood_is_a_gaussians_at_the_scale_that_suits_each_game_best():
    masks = pilot_coalitions(4, 12)
    games = np.random.default_rng(0).normal(size=(5, len(masks)))
    between = Games(4, (2, 2), GRID_PRIOR).of_pairs(masks)
    covariance = np.stack([between(j) for j in range(len(masks))])
    scales = np.einsum("gp,gp->g", games, np.linalg.solve(covariance, games.T).T) / len(masks)
    right, smaller, larger = (
        np.mean(
            [
                multivariate_normal(cov=factor * scale * covariance).logpdf(game) / len(masks)
                for scale, game in zip(scales, games, strict=True)
            ]
        )
        for factor in (1.0, 0.9, 1.1)
    )
    assert max(smaller, larger) < right
    found = log_likelihood(GRID_PRIOR, masks, games, (2, 2))
    assert found == pytest.approx(right, abs=1e-4)


def test_players_that_act_together_across_the_grid_are_found_out():
    """The prior of other networks errs on them several times as much as the one that is fitted."""
    rng, (masks, operator) = np.random.default_rng(0), exact(16)
    signs = 2.0 * masks - 1
    values = signs @ rng.normal(size=(16, 20))
    for triple in itertools.combinations(range(16), 3):
        values += np.outer(signs[:, triple].prod(1), rng.normal(size=20) / 20)
    place = np.argsort(masks @ (1 << np.arange(16)))
    of = values[place]  # by the number of the coalition

    def worth(coalitions):
        return of[coalitions @ (1 << np.arange(16))]

    pilot = pilot_coalitions(16, 256)
    prior = fitted_prior((worth(pilot) - worth(~pilot)).T[:12], pilot, GRID)
    right = operator @ values

    def error(**options):
        design = coalition_design(16, 128, grid=GRID, **options)
        found = design.operator @ worth(design.masks)
        return np.sum((found - right)[:, 12:] ** 2) / np.sum(right[:, 12:] ** 2)

    assert error(prior=prior) < 0.6 * error()
    assert error(prior=prior) < 1.05 * error(prior=Prior(0.6, 3.0))


def test_scale_and_order_of_games_do_not_matter_and_idle_ones_have_no_say():
    masks = pilot_coalitions(16, 64)
    games = drawn(GRID_PRIOR, masks, 8)
    one = fitted_prior(games, masks, GRID)
    more = np.concatenate([np.zeros((2, len(masks))), games[::-1] * 1e3])
    other = fitted_prior(more, masks, GRID)
    assert _numbers(one) == pytest.approx(_numbers(other), rel=0.05, abs=1e-3)
    assert fitted_prior(np.zeros((3, len(masks))), masks, GRID) == GRID_PRIOR


@pytest.mark.parametrize("grid", [(1, 1), (1, 5), (2, 2), (5, 3)])
def test_any_grid_will_do(grid):
    players = grid[0] * grid[1]
    masks = pilot_coalitions(players, 64)
    assert masks[0].all() and len(masks) == min(32, 2 ** (players - 1))
    games = np.random.default_rng(0).normal(size=(5, players)) @ (2.0 * masks - 1).T
    prior = fitted_prior(games, masks, grid)
    steps = 20 * np.log(_numbers(prior))  # of 5%
    np.testing.assert_allclose(steps, np.round(steps), atol=0.01)
    design = coalition_design(players, min(64, 2**players), grid=grid, prior=prior)
    assert np.isfinite(design.operator).all()


@pytest.mark.parametrize("grid", [(2, 3), (4, 4)])
def test_games_of_three_that_act_together_alone_have_a_prior_and_a_design_too(grid):
    """What anything else adds to their covariance lies below rounding."""
    players = grid[0] * grid[1]
    masks = pilot_coalitions(players, 64)
    games = np.tile((2.0 * masks - 1)[:, [0, 1, grid[1]]].prod(1), (3, 1))
    prior = fitted_prior(games, masks, grid)
    assert prior.square > 100 * max(prior.linear, prior.near, prior.far)
    found, other = (log_likelihood(one, masks, games, grid) for one in (prior, GRID_PRIOR))
    assert found > other + 0.5
    for design in (
        staged_design(grid, 64, prior=prior),
        coalition_design(players, 32, grid=grid, prior=prior),
    ):
        assert all(np.isfinite(array).all() for array in vars(design).values())


def test_its_examples_are_the_games_each_at_the_scale_that_the_prior_thinks_likeliest():
    masks = pilot_coalitions(16, 64)
    mixed = np.random.default_rng(1).normal(size=(12, 3))  # three motifs
    games = mixed @ drawn(GRID_PRIOR, masks, 3)
    prior = fitted_prior(games, masks, GRID)
    assert (prior.examples.masks == masks).all()
    between = Games(16, GRID, replace(prior, examples=None)).between_pairs(masks)
    of = prior.examples.differences
    squares = np.einsum("gp,gp->g", of, np.linalg.solve(between, of.T).T)
    np.testing.assert_allclose(squares / len(masks), 1, rtol=1e-3)
    ratio = of / games
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape), rtol=1e-9)


@pytest.mark.parametrize("grid", [(4, 4), (3, 2), (1, 6), (2, 2)])
def test_a_covariance_is_the_sum_of_what_each_weight_adds(grid):
    players = grid[0] * grid[1]
    masks = pilot_coalitions(players, 24)
    for prior in (Prior(0.3, 100.0, 0.5, 0.04, 0.01, 0.2), Prior(0.9, 0.1, 0.2, 0.7, 3.0, 0.4)):
        whole = Games(players, grid, prior).between_pairs(masks)
        np.testing.assert_allclose(_by_weights(masks, grid)(prior), whole, rtol=1e-12, atol=1e-12)


def test_games_that_tell_nothing_of_one_another_are_no_examples():
    """Such as those of a prior without any, and too few to know."""
    masks = pilot_coalitions(16, 64)
    assert fitted_prior(drawn(GRID_PRIOR, masks, 16), masks, GRID).examples is None
    alike = np.tile(drawn(GRID_PRIOR, masks, 1), (3, 1))
    assert fitted_prior(alike, masks, GRID).examples is None
    alike = np.tile(alike, (3, 1))
    assert fitted_prior(alike, masks, GRID).examples.share == 0.8


@pytest.mark.parametrize(("count", "seed"), [(4, 0), (4, 2), (4, 11), (6, 1), (7, 2), (9, 3)])
def test_the_share_is_the_one_that_makes_each_game_likeliest_by_the_others(count, seed):
    """Every fourth game is judged by the rest, in turn; on ties examples have the smaller share."""
    masks, prior = pilot_coalitions(6, 64), Prior(0.5, 3.0, 0.3, 0.1, 0.02)
    rng = np.random.default_rng(seed)
    games = rng.normal(size=(count, 2)) @ rng.normal(size=(2, 32)) + rng.normal(size=(count, 32))

    def likelihood(share):
        total = 0
        for game in range(count):
            others = np.arange(count) % 4 != game % 4
            one = replace(prior, examples=Examples(masks, games[others], share))
            one = one if share else prior
            total += log_likelihood(one, masks, games[[game]], (2, 3))
        return total

    shares = (0.0, 0.2, 0.35, 0.5, 0.65, 0.8)
    found = _with_examples(prior, masks, games, (2, 3)).examples
    share = found.share if found else 0.0
    assert share == max(shares, key=likelihood)


def test_fewer_games_than_folds_are_no_examples():
    masks = pilot_coalitions(6, 64)
    games = np.tile(np.random.default_rng(0).normal(size=32), (4, 1))
    assert _with_examples(GRID_PRIOR, masks, games, (2, 3)).examples.share == 0.8
    assert _with_examples(GRID_PRIOR, masks, games[:3], (2, 3)) == GRID_PRIOR


def test_the_numbers_that_are_searched_are_those_of_a_prior():
    prior = Prior(0.4, 20.0, 0.3, 0.02, 0.001, 0.1)
    assert _numbers(_prior_of(_numbers_of(prior))) == pytest.approx(_numbers(prior))


def test_rounding_to_steps_of_five_percent_moves_no_number_further():
    """Games of players that earn for themselves alone want the largest weight of that, 100,000."""
    masks = pilot_coalitions(6, 64)
    games = np.random.default_rng(0).normal(size=(4, 6)) @ (2.0 * masks - 1).T
    prior = fitted_prior(games, masks, (2, 3))
    assert prior.linear == pytest.approx(1e5, rel=0.03)
    assert prior.far == pytest.approx(1e-7, rel=0.03)


def test_the_draw_by_default_is_that_of_seed_0():
    assert (pilot_coalitions(16, 64) == pilot_coalitions(16, 64, 0)).all()
    assert (pilot_coalitions(16, 64) != pilot_coalitions(16, 64, 1)).any()
    one, other = coalition_design(16, 64), coalition_design(16, 64, seed=0)
    assert (one.masks == other.masks).all()
    one, other = staged_design(4, 64), staged_design(4, 64, seed=0)
    assert (one.masks == other.masks).all()


def test_bad_games_are_told(unchecked):
    masks = pilot_coalitions(16, 32)
    games = np.zeros((2, 16))
    games[1, 3] = games[1, 7] = np.nan
    with pytest.raises(InputError, match="game 1 differs by nan at coalition 3"):
        fitted_prior(games, masks, GRID)
    with pytest.raises(InputError, match=r"differences are \(2, 15\)"):
        fitted_prior(games[:, 1:], masks, GRID)


@pytest.mark.parametrize(
    ("grid", "idle"),
    [((1, 2), {2, 3, 4, 5}), ((1, 3), {2, 3, 5}), ((2, 2), {3, 5}), ((3, 2), set())],
)
def test_what_no_set_of_the_grid_is_weighted_by_stays_as_it_was(grid, idle):
    """Nothing tells which would be right, and rounding must not."""
    players = grid[0] * grid[1]
    masks = pilot_coalitions(players, 64)
    games = np.random.default_rng(0).normal(size=(4, len(masks)))
    moved = {
        at
        for at, (one, other) in enumerate(
            zip(_numbers(fitted_prior(games, masks, grid)), _numbers(_START), strict=True)
        )
        if one != pytest.approx(other, rel=0.03)
    }
    assert not moved & idle and set(np.flatnonzero(~_free(grid))) == idle
    prior = Prior(0.4, 20.0, 0.3, 0.02, 0.001, 0.1)
    for at in range(6):
        more = [
            number * (1.5 if at == place else 1) for place, number in enumerate(_numbers(prior))
        ]
        same = log_likelihood(Prior(*more), masks, games, grid) == pytest.approx(
            log_likelihood(prior, masks, games, grid), abs=1e-9
        )
        assert same == (at in idle) or players == 2  # of two, all that is known is their scale


def test_the_search_ends_where_no_weight_alone_would_be_likelier():
    """Within what it leaves open: a tenth of a thousandth of a nat a difference, and rounding."""
    masks = pilot_coalitions(16, 256)
    games = drawn(Prior(0.2, 20000.0, 16.0, 1.0, 1e-5, 0.1), masks, 32, seed=3)
    prior = replace(fitted_prior(games, masks, GRID), examples=None)
    best = log_likelihood(prior, masks, games, GRID)
    assert 0.03 < prior.five < 0.3
    for name in ("rho", "linear", "square", "near", "far", "five"):
        for factor in (0.5, 2.0):
            other = replace(prior, **{name: factor * getattr(prior, name)})
            if other.rho < 1:
                assert log_likelihood(other, masks, games, GRID) < best + 1e-3
