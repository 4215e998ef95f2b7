"""Utility measured: balanced sets, and the parts of what students reach."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import BayesianRidge

from infoutil_jax.errors import InputError
from infoutil_jax.method.datamodel import Trials, deal, utilities


@given(st.integers(1, 9), st.integers(0, 9), st.integers(1, 30), st.integers(0, 5))
def test_hands_hold_different_candidates_and_all_candidates_equally_often(hand, more, hands, seed):
    dealt = deal(np.random.default_rng(seed), hand + more, hand, hands)
    assert dealt.shape == (hands, hand)
    assert all(len(set(row)) == hand for row in dealt.tolist())
    times = np.bincount(dealt.ravel(), minlength=hand + more)
    assert times.max() - times.min() <= 1


def test_hands_are_drawn_at_random():
    dealt = deal(np.random.default_rng(0), 4, 2, 3000)
    pairs, times = np.unique(np.sort(dealt, 1), axis=0, return_counts=True)
    assert len(pairs) == 6
    np.testing.assert_allclose(times / 3000, 1 / 6, atol=0.03)


def trials(count, noise, seed=0):
    """Ten classes of 8 candidates, one of each class in a set; outcomes are sums of parts."""
    rng = np.random.default_rng(seed)
    held = np.zeros((count, 80), bool)
    for label in range(10):
        held[np.arange(count)[:, None], 8 * label + deal(rng, 8, 1, count)] = True
    parts = rng.normal(size=80)
    return held, held @ parts + 30 + noise * rng.normal(size=count), parts


def test_parts_without_noise_are_found_but_for_what_no_set_tells():
    held, outcomes, parts = trials(400, noise=0)
    # A class's candidates replace one another: only differences within a class can be known.
    within = (parts.reshape(10, 8) - parts.reshape(10, 8).mean(1, keepdims=True)).ravel()
    np.testing.assert_allclose(utilities(held, outcomes), within, atol=1e-3)


@pytest.mark.parametrize(("count", "noise"), [(64, 1.0), (64, 3.0), (200, 3.0), (500, 1.0)])
def test_parts_are_those_of_scikit_learns_evidence_maximisation(count, noise):
    held, outcomes, _ = trials(count, noise)
    flat = {name: 1e-12 for name in ("alpha_1", "alpha_2", "lambda_1", "lambda_2")}
    model = BayesianRidge(tol=1e-9, max_iter=10_000, **flat).fit(held.astype(float), outcomes)
    np.testing.assert_allclose(utilities(held, outcomes), model.coef_, atol=2e-4)


def test_more_trials_tell_more():
    found = [
        np.corrcoef(utilities(*trials(count, 3.0)[:2]), trials(count, 3.0)[2])[0, 1]
        for count in (64, 256, 1024)
    ]
    assert found[0] < found[1] < found[2] and found[2] > 0.75


def test_where_outcomes_are_all_alike_no_part_stands_out():
    held, _, _ = trials(50, 1.0)
    np.testing.assert_allclose(utilities(held, np.full(50, 42.0)), 0, atol=1e-9)


def test_bad_input_is_named():
    held, outcomes, _ = trials(5, 1.0)
    with pytest.raises(InputError, match="trial 2 is nan"):
        utilities(held, np.where(np.arange(5) == 2, np.nan, outcomes))
    with pytest.raises(InputError, match="at least two"):
        utilities(held[:1], outcomes[:1])
    with pytest.raises(InputError, match="no 5 different ones can be dealt from 4"):
        deal(np.random.default_rng(0), 4, 5, 1)
    with pytest.raises(InputError, match="students of the trials is 0"):
        Trials(students=0)
    with pytest.raises(InputError, match="shortlist is 1"):
        Trials(shortlist=1)
