"""Designs of coalitions: what they hold, and how large they may be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoutil_jax.errors import InputError
from infoutil_jax.shapley.coalitions import distinct_pairs, shapley_kernel
from infoutil_jax.shapley.estimate import (
    STRATEGIES,
    CoalitionDesign,
    coalition_design,
    shapley_values,
)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    "d, budget", [(1, 2), (2, 4), (3, 6), (4, 15), (5, 11), (6, 55), (16, 64), (49, 301)]
)
def test_masks_are_distinct_hold_empty_and_full_and_come_in_pairs(strategy, d, budget):
    design = coalition_design(d, budget, strategy=strategy, seed=3)
    assert design.masks.shape == (budget, d) and design.operator.shape == (d, budget)
    assert design.masks.dtype == bool and design.operator.dtype == np.float32
    rows = {row.tobytes() for row in design.masks}
    assert len(rows) == budget
    assert not design.masks[0].any() and design.masks[1].all()
    single = [row for row in design.masks if (~row).tobytes() not in rows]
    assert len(single) == budget % 2


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_same_seed_same_bytes_other_seed_other_masks(strategy):
    one, two, other = (coalition_design(16, 64, strategy=strategy, seed=s) for s in (5, 5, 6))
    assert one.masks.tobytes() == two.masks.tobytes()
    assert one.operator.tobytes() == two.operator.tobytes()
    assert one.masks.tobytes() != other.masks.tobytes()


def test_gaussian_needs_two_coalitions_which_share_the_worth_of_all_equally():
    design = coalition_design(5, 2)
    np.testing.assert_array_equal(design.masks, [[False] * 5, [True] * 5])
    np.testing.assert_allclose(design.operator, np.tile([-1 / 5, 1 / 5], (5, 1)), atol=1e-6)


@pytest.mark.parametrize("column", [[0.0, 0.0], [1e4, -10000.001]])
def test_an_unused_coalition_and_rounding_of_large_weights_are_no_breach_of_efficiency(column):
    masks = np.array([[0, 0], [1, 1], [1, 0]], bool)
    operator = np.array([[-0.5, -0.5], [0.5, 0.5], column], np.float32).T
    np.testing.assert_array_equal(CoalitionDesign(masks, operator).operator, operator)


@pytest.mark.parametrize("d", [2, 5, 16])
def test_the_shapley_kernel_is_a_distribution_over_sizes(d):
    """A coalition of h weighs (d-1) / (C(d, h) h (d-h)); a stratum has those of h and of d-h."""
    by_size = np.array([(d - 1) / (h * (d - h)) for h in range(1, d)])
    strata = [by_size[h - 1] + by_size[d - h - 1] * (2 * h != d) for h in range(1, d // 2 + 1)]
    np.testing.assert_allclose(shapley_kernel(d), np.array(strata) / by_size.sum())


def test_a_design_is_an_argument_of_a_compiled_function():
    """One program estimates from whatever coalitions, without their being part of it."""
    worth = jnp.arange(5.0)
    compiled = jax.jit(lambda design: shapley_values(lambda masks: masks @ worth, design))
    for seed in (0, 1):
        design = coalition_design(5, 20, strategy="leverage", seed=seed)
        np.testing.assert_allclose(compiled(design), worth, atol=1e-5)
    assert compiled._cache_size() == 1


def test_masks_from_without_go_with_an_operator_that_is_an_argument():
    """While JAX traces, the operator has no numbers whose sums could be checked."""
    worth, design = jnp.arange(5.0), coalition_design(5, 20, strategy="leverage")

    @jax.jit
    def estimate(operator):
        return shapley_values(lambda masks: masks @ worth, CoalitionDesign(design.masks, operator))

    np.testing.assert_allclose(estimate(design.operator), worth, atol=1e-5)


def test_coalitions_of_a_size_from_which_none_is_drawn_are_not_enumerated():
    """There are 68,923,264,410 pairs of 20 and 20 players."""
    expected = np.array([2.0] + [0.0] * 19)
    halves = distinct_pairs(np.random.default_rng(0), 40, expected)
    assert halves.sum(1).tolist() == [1, 1]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("d", [49, 100, 196])
def test_large_grids(strategy, d):
    """v(S) = a·s + s'Bs has phi_i = a_i + sum_j B_ij."""
    rng = np.random.default_rng(d)
    a = rng.normal(size=d).astype(np.float32)
    b = np.triu(rng.normal(size=(d, d)) / d, 1).astype(np.float32)
    b += b.T
    design = coalition_design(d, 4 * d, strategy=strategy)

    def value_fn(masks):
        s = masks.astype(jnp.float32)
        return s @ a + jnp.einsum("ki,ij,kj->k", s, b, s)

    phi, exact = shapley_values(value_fn, design), a + b.sum(1)
    if strategy == "gaussian":  # its prior expects higher orders, too, and shrinks a little
        assert np.sum((phi - exact) ** 2) < 0.01 * np.sum(exact**2)
    else:  # a pair's v(S) - v(complement) is linear in such games: regression is exact
        np.testing.assert_allclose(phi, exact, atol=1e-3)


def test_a_design_that_is_not_one_is_refused():
    good = coalition_design(4, 10)
    with pytest.raises(InputError, match="efficiency at coalition 3"):
        CoalitionDesign(good.masks, good.operator + np.eye(10, dtype=np.float32)[3])
    with pytest.raises(InputError, match="empty coalition, then the full"):
        CoalitionDesign(good.masks[::-1].copy(), good.operator)
    for rows in ([0], [0, 2, 1], [2, 1, 0]):  # a single one, no full one, no empty one
        with pytest.raises(InputError, match="empty coalition, then the full"):
            CoalitionDesign(good.masks[rows], good.operator[:, rows])


def test_a_design_whose_arrays_do_not_fit_is_told(unchecked):
    good = coalition_design(4, 10)
    with pytest.raises(
        InputError, match=r"shape \(4, 9\); masks of shape \(10, 4\) need \(4, 10\)"
    ):
        CoalitionDesign(good.masks, good.operator[:, :9])
