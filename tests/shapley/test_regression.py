"""The strategies that regress: which pairs "kernel" and "leverage" draw, and what each weighs."""

import math
from collections import Counter

import numpy as np
import pytest

from infoutil_jax.shapley import coalitions
from infoutil_jax.shapley.coalitions import expected_pairs, shapley_kernel
from infoutil_jax.shapley.estimate import coalition_design, kernel_shap, shapley_values


def solved(masks, weights, values):
    """Weighted least squares under efficiency, by its Lagrangian; weights from the third row on."""
    d = masks.shape[1]
    left = np.ones((d + 1, d + 1))
    left[d, d] = 0
    left[:d, :d] = masks[2:].T @ (weights[:, None] * masks[2:])
    moments = masks[2:].T @ (weights[:, None] * (values[2:] - values[0]))
    return np.linalg.solve(left, np.concatenate([moments, values[1:2] - values[0]]))[:d]


def test_kernel_is_solved_with_draws_that_weigh_what_whole_sizes_leave(monkeypatch):
    """A drawn pair's share is how often it came; a coalition of h weighs 1 / (C(d, h) h (d-h))."""
    d, budget, drawn, draw = 7, 61, Counter(), coalitions._random_subset

    def noted(*arguments):
        mask = draw(*arguments)
        drawn[mask.tobytes()] += 1
        return mask

    monkeypatch.setattr(coalitions, "_random_subset", noted)
    masks, operator = coalitions.kernel(np.random.default_rng(0), d, budget)
    assert 1 == min(drawn.values()) < max(drawn.values())
    rest = sum(1 / (h * (d - h)) for h in range(2, 6)) / 2  # of pairs; those of size 1 fit
    weights = []
    for half in masks[2::2]:
        times, h = drawn[half.tobytes()], int(half.sum())
        assert (times == 0) == (h == 1)
        share = rest * times / drawn.total() if times else 1 / (math.comb(d, h) * h * (d - h))
        weights += [share, share]
    values = np.random.default_rng(1).normal(size=(budget, 4))
    phi = solved(masks, np.array(weights[: budget - 2]), values)
    np.testing.assert_allclose(operator @ values, phi, atol=1e-9)


@pytest.mark.parametrize(("d", "budget"), [(7, 31), (6, 26)])
def test_leverage_is_solved_with_weights_that_make_up_for_its_sizes(d, budget):
    """Each size is drawn alike: what the kernel gives a size is left to each of its draws."""
    masks, operator = coalitions.leverage(np.random.default_rng(0), d, budget)
    size = masks[2:].sum(1)
    values = np.random.default_rng(1).normal(size=(budget, 4))
    phi = solved(masks, 1 / (size * (d - size)), values)
    np.testing.assert_allclose(operator @ values, phi, atol=1e-9)


@pytest.mark.parametrize(("d", "each"), [(49, 5), (16, 6)])
def test_leverage_gives_every_size_the_same_number(d, each):
    masks = coalition_design(d, 2 + (d - 1) * each, strategy="leverage").masks
    assert list(np.bincount(masks.sum(1))[1:-1]) == [each] * (d - 1)


def test_kernel_enumerates_the_sizes_that_fit():
    masks = coalition_design(16, 1200, strategy="kernel").masks
    size = np.bincount(masks.sum(1), minlength=17)
    assert list(size[[1, 2, 14, 15]]) == [16, 120, 120, 16]
    assert 0 < size[3] < math.comb(16, 3)


def test_kernel_enumerates_a_size_that_just_fits():
    """Of 11 players 231 pairs are of sizes 1 to 3; of 638 more, size 4 is due just its 330."""
    masks = coalition_design(11, 2 * (1 + 231 + 638), strategy="kernel").masks
    size = np.bincount(masks.sum(1), minlength=12)
    assert [size[h] for h in (1, 2, 3, 4)] == [math.comb(11, h) for h in (1, 2, 3, 4)]
    assert size[5] == 638 - 330


@pytest.mark.parametrize("d", [2, 3, 6, 7])
def test_a_pair_is_drawn_by_the_half_by_which_it_is_listed(d):
    rng, pairs = np.random.default_rng(0), 0
    for h in range(1, d // 2 + 1):
        listed = {row.tobytes() for row in coalitions._subsets(d, h)}
        assert {coalitions._random_subset(rng, d, h).tobytes() for _ in range(500)} == listed
        assert len(listed) == coalitions._num_pairs(d, h)
        pairs += len(listed)
    assert pairs == 2 ** (d - 1) - 1  # beside that of the empty and the full coalition


@pytest.mark.parametrize("pairs", [3, 20, 45, 100, 127, 1000])
def test_sizes_share_pairs_by_their_mass_and_none_gets_more_than_it_has(pairs):
    mass, room = shapley_kernel(8), np.array([8, 28, 56, 35])
    expected = expected_pairs(8, pairs, mass)
    assert expected.sum() == pytest.approx(min(pairs, 127))
    full = expected >= room - 1e-9
    np.testing.assert_allclose(expected[full], room[full])
    share = (expected / mass)[~full]
    np.testing.assert_allclose(share, share[:1].repeat(len(share)))
    assert (room[full] <= mass[full] * share.max(initial=0)).all() or full.all()


def test_players_whom_no_coalition_tells_apart_share_alike():
    halves = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0]], bool)
    masks = coalitions.with_complements(halves, 5, 10)
    operator = coalitions._regression(masks, np.array([1.0, 1.0, 3.0, 3.0, 1.0, 1.0, 2.0, 2.0]))
    np.testing.assert_allclose(operator[0], operator[1], atol=1e-9)
    worth = np.array([2.0, 2.0, -1.0, 3.0, 0.5])
    np.testing.assert_allclose(operator @ (masks @ worth), worth, atol=1e-9)


def test_kernel_shap_is_shapley_values_on_a_kernel_design():
    worth = np.arange(9.0, dtype=np.float32)

    def game(masks):
        return (masks @ worth) ** 2

    for seed in ({}, {"seed": 3}):
        design = coalition_design(9, 40, strategy="kernel", **seed)
        np.testing.assert_array_equal(
            kernel_shap(game, 9, 40, **seed), shapley_values(game, design)
        )
