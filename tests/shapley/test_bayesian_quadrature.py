"""The posterior mean by brute force, what each pair adds to it, and games of neighbours."""

import dataclasses
import itertools

import numpy as np
import pytest

from infoutil_jax.shapley import prior as priors
from infoutil_jax.shapley.bayesian_quadrature import _greedily, gaussian, telling_pairs
from infoutil_jax.shapley.coalitions import exact
from infoutil_jax.shapley.estimate import coalition_design
from infoutil_jax.shapley.prior import GRID_PRIOR, JITTER, PLAYERS, Games, Prior, cholesky


def all_masks(d):
    return (np.arange(2**d)[:, None] >> np.arange(d)) & 1 == 1


def shapley_operator(d):
    """The definition, on values in the order of `all_masks`."""
    masks, operator = exact(d)
    return operator[:, np.argsort(masks @ (1 << np.arange(d)))]


@pytest.mark.parametrize(
    "d, budget, grid",
    [(2, 3, None), (5, 9, None), (6, 24, (2, 3)), (6, 2, (3, 2)), (7, 31, (1, 7)), (7, 31, (7, 1))],
)
def test_gaussian_is_the_posterior_mean_by_brute_force(d, budget, grid):
    """All 2^d coalitions in the prior, instead of the closed form over them."""
    design = coalition_design(d, budget, strategy="gaussian", seed=2, grid=grid)
    prior = prior_covariance(d, grid)
    seen = design.masks @ (1 << np.arange(d))
    posterior = shapley_operator(d) @ prior[:, seen] @ np.linalg.inv(prior[np.ix_(seen, seen)])
    rng = np.random.default_rng(0)
    values = rng.normal(size=budget)
    values -= values[0]
    phi = posterior @ values
    phi += (values[1] - phi.sum()) / d
    np.testing.assert_allclose(design.operator @ values, phi, atol=2e-5)


def test_a_factor_is_of_a_covariance_or_of_the_nearest_that_is_definite():
    right = np.array([[2.0, 1.0], [1.0, 2.0]])
    np.testing.assert_allclose(cholesky(right) @ cholesky(right).T, right, atol=1e-8)
    nearly = np.array([[1.0, 1.0], [1.0, 1.0 - 1e-7]])  # indefinite by 5e-8, more than 20 JITTER
    added = cholesky(nearly) @ cholesky(nearly).T - nearly
    np.testing.assert_allclose(added, 200 * JITTER * np.eye(2), atol=JITTER)
    nothing = cholesky(np.zeros((2, 2)))  # a difference has the jitter of its two values
    np.testing.assert_allclose(nothing @ nothing.T, 2 * JITTER * np.eye(2))
    with pytest.raises(np.linalg.LinAlgError, match="not that of a prior"):
        cholesky(-1e4 * np.eye(2))


def prior_covariance(d, grid, prior=None):
    """Of the values of all coalitions."""
    prior = prior or (GRID_PRIOR if grid else PLAYERS)
    masks = all_masks(d)
    differ = (masks[:, None] != masks).sum(-1)
    signs = 2.0 * masks - 1
    covariance = prior.rho**differ + prior.linear * (1 + signs @ signs.T / 4)
    for triple in itertools.combinations(range(d), 3):
        product = signs[:, triple].prod(1)
        covariance += prior.far * np.outer(product, product)
        if grid is None:
            continue
        rows, columns = np.divmod(triple, grid[1])
        box = sorted((np.ptp(rows) + 1, np.ptp(columns) + 1))
        weight = {(2, 2): prior.square, (2, 3): prior.near, (1, 3): prior.near}.get((*box,), 0)
        if box == [1, 3] and min(grid) == 1:  # no 2×3 to lie in
            weight = 0
        covariance += weight * np.outer(product, product)
    for five in itertools.combinations(range(d), 5) if grid else ():
        rows, columns = np.divmod(five, grid[1])
        if sorted((np.ptp(rows) + 1, np.ptp(columns) + 1)) == [2, 3]:
            product = signs[:, five].prod(1)
            covariance += prior.five * np.outer(product, product)
    return covariance


@pytest.mark.parametrize(
    ("d", "grid"), [(5, None), (6, (2, 3)), (8, (4, 2)), (1, None), (2, (1, 2))]
)
@pytest.mark.parametrize(
    "prior", [None, Prior(0.8, 2.0, 0.3, 0.1, far=0.7), Prior(0.8, 2.0, 0.3, 0.1, 0.7, five=0.2)]
)
def test_covariances_are_those_of_the_definition(d, grid, prior):
    games, masks = Games(d, grid, prior), all_masks(d)
    prior = prior_covariance(d, grid, prior)
    shapley = shapley_operator(d)
    np.testing.assert_allclose(games.covariance(masks, masks), prior, rtol=1e-9)
    np.testing.assert_allclose(games.cross(masks), shapley @ prior, atol=1e-9)
    np.testing.assert_allclose(games.shapley(), shapley @ prior @ shapley.T, atol=1e-9)
    other = np.arange(len(masks))[::-1]  # the complement's row
    u = prior - prior[other] - prior[:, other] + prior[np.ix_(other, other)]
    np.testing.assert_allclose(games.of_pairs(masks)(1), u[1], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(games.between_pairs(masks), u, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("grid", [None, (2, 3)])
def test_the_more_players_act_together_the_less_is_expected_of_it(grid):
    """A covariance's variance along the product of the signs of each odd set of players."""
    masks = all_masks(6)
    products = np.array([(2.0 * masks - 1)[:, players].prod(1) for players in masks]) / 2**6
    variance = ((products @ Games(6, grid).covariance(masks, masks)) * products).sum(1)
    ones, threes, fives = (variance[masks.sum(1) == size] for size in (1, 3, 5))
    assert ones.min() > threes.max() and threes.min() > fives.max() and fives.min() > 1e-4


def test_on_a_grid_the_nearer_three_players_are_the_more_they_are_expected_to_do_together():
    """Triples out of a 2×2 square, out of a 2×3, and all others, of twelve players."""
    d, grid = 12, (3, 4)
    masks = all_masks(d)
    masks = masks[masks.sum(1) == 3]

    def side(mask):
        rows, columns = np.divmod(np.flatnonzero(mask), grid[1])
        return sorted((np.ptp(rows) + 1, np.ptp(columns) + 1))

    signs = 2.0 * all_masks(d) - 1
    covariance = Games(d, grid).covariance(all_masks(d)[:1], all_masks(d))[0]
    variance = np.array([(signs[:, m].prod(1) * -1 * covariance).sum() for m in masks]) / 2**d
    within = {tuple(side(m)): [] for m in masks}
    for mask, one in zip(masks, variance, strict=True):
        within[tuple(side(mask))].append(one)
    square, near = within.pop((2, 2)), within.pop((2, 3)) + within.pop((1, 3))
    far = [one for some in within.values() for one in some]
    assert min(square) > 2 * max(near) and min(near) > 2 * max(far)


def test_neighbours_that_act_together_take_fewer_coalitions():
    """Games of triples out of 2×2, which is what the grid makes the prior expect."""
    rng, masks = np.random.default_rng(0), all_masks(16)
    signs = 2.0 * masks - 1
    squares = [np.ravel([[i, i + 1], [i + 4, i + 5]]) for i in range(11) if i % 4 < 3]
    values = signs @ rng.normal(size=(16, 8))
    for square in squares:
        for triple in itertools.combinations(square, 3):
            values += np.outer(signs[:, triple].prod(1), rng.normal(size=8) / 2)
    right = shapley_operator(16) @ values

    def error(grid):
        design = coalition_design(16, 96, grid=grid)
        found = design.operator @ values[design.masks @ (1 << np.arange(16))]
        return np.sum((found - right) ** 2) / np.sum(right**2)

    assert error(4) < 0.3 * error(None)


def test_where_nothing_is_known_of_the_players_much_alike_coalitions_are_worth_much_the_same():
    """Airport games (Littlechild & Owen 1973): a coalition costs what its dearest player does.

    A fifth of the squared error of either regression is left, or less.
    """
    costs, masks = np.sort(np.random.default_rng(0).random(8)), all_masks(8)
    values = (masks * costs).max(1)
    # What the k-th runway segment costs is shared by all who need it.
    phi = np.cumsum(np.diff(costs, prepend=0) / np.arange(8, 0, -1))

    def error(strategy):
        design = coalition_design(8, 32, strategy=strategy)
        return np.sum((design.operator @ values[design.masks @ (1 << np.arange(8))] - phi) ** 2)

    assert 5 * error("gaussian") < min(error("kernel"), error("leverage"))


def test_what_is_chosen_does_not_hang_on_rounding(monkeypatch):
    """On a symmetric grid many pairs tell as much; the first of them is taken everywhere."""
    one = coalition_design(16, 64, grid=4, seed=3).masks
    nearly = dataclasses.replace(GRID_PRIOR, linear=GRID_PRIOR.linear * (1 + 1e-12))
    monkeypatch.setattr(priors, "GRID_PRIOR", nearly)
    assert (coalition_design(16, 64, grid=4, seed=3).masks == one).all()


@pytest.mark.parametrize(
    "prior", [Prior(0.95, 1e5), Prior(0.95, 1e-7, square=1e5), Prior(0.95, 1e5, far=1e5)]
)
def test_coalitions_differ_even_where_a_few_tell_everything(prior):
    """To rounding, most pairs of these priors have nothing left to tell when they are chosen."""
    masks = coalition_design(9, 2**9 - 2, grid=3, prior=prior).masks
    assert len(np.unique(masks, axis=0)) == 2**9 - 2


def test_each_pair_is_the_one_that_leaves_phi_least_uncertain():
    """The sum of the players' posterior variances, of every pair that could be next."""
    game, rng = Games(6, (2, 3)), np.random.default_rng(0)
    pairs = rng.permutation(all_masks(6)[32:-1])  # of each pair the half with the last player

    def uncertain(chosen):
        seen = np.concatenate([np.ones((1, 6), bool), pairs[chosen]])
        with_phi = game.cross(seen) - game.cross(~seen)
        told = np.linalg.solve(game.between_pairs(seen), with_phi.T)
        return np.trace(game.shapley() - with_phi @ told)

    found = _greedily(game, pairs, np.eye(6), 9).tolist()
    for k, one in enumerate(found):
        others = set(range(31)) - set(found[:k])
        least = min(uncertain([*found[:k], other]) for other in others)
        assert one in others and uncertain(found[: k + 1]) < least * (1 + 1e-5)


@pytest.mark.parametrize("examples", [False, True])
@pytest.mark.parametrize("grid", [None, (2, 3)])
def test_what_is_known_of_a_pair_alone_is_what_is_known_of_it_among_others(grid, examples):
    masks = all_masks(6)[32:]
    games = np.random.default_rng(0).normal(size=(4, 9))
    played = priors.Examples(masks[:9], games) if examples else None
    game = Games(6, grid, Prior(0.4, 5.0, 0.5, 0.1, 0.02, 0.03, examples=played))
    between = game.between_pairs(masks)
    np.testing.assert_allclose(game.variances(masks), np.diag(between), rtol=1e-6)
    of = game.of_pairs(masks)
    np.testing.assert_allclose(np.stack([of(j) for j in range(32)]), between, rtol=1e-6, atol=1e-6)


def test_no_pairs_are_none():
    assert telling_pairs(np.random.default_rng(0), Games(5, None), 0).shape == (0, 5)
    assert telling_pairs(np.random.default_rng(0), Games(5, None), 40).shape == (15, 5)


@pytest.mark.parametrize("grid", [None, (4, 4)])
def test_the_posterior_mean_is_efficient_to_the_last_bit(grid):
    _, operator = gaussian(np.random.default_rng(0), 16, 64, grid)
    np.testing.assert_allclose(operator.sum(0), [-1, 1] + [0] * 62, atol=1e-14)
    np.testing.assert_allclose(operator.sum(1), 0, atol=1e-13)
