import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import shap
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from infoutil_jax.errors import InputError
from infoutil_jax.shapley.estimate import (
    STRATEGIES,
    coalition_design,
    exact_shapley,
    kernel_shap,
    shapley_values,
)

few = settings(max_examples=30, deadline=None)


def all_masks(d):
    return (np.arange(2**d)[:, None] >> np.arange(d)) & 1 == 1


def table_game(table):
    """The game whose value of coalition S is table[sum of 2**i over S]."""

    def value_fn(masks):
        masks = np.asarray(masks)
        return table[masks @ (1 << np.arange(masks.shape[1]))]

    return value_fn


def random_table(seed, d, *outputs):
    return np.random.default_rng(seed).normal(size=(2**d, *outputs)).astype(np.float32)


def by_permutations(table, d):
    """The definition: what a player adds on joining, averaged over all orders."""
    phi = np.zeros((d, *table.shape[1:]))
    for order in itertools.permutations(range(d)):
        coalition = 0
        for player in order:
            phi[player] += table[coalition | 1 << player] - table[coalition]
            coalition |= 1 << player
    return phi / math.factorial(d)


def shap_library(table, d, nsamples, seed):
    """shap.KernelExplainer on a table game; nsamples leaves out the empty and full coalition."""
    np.random.seed(seed)  # noqa: NPY002, shap draws from the global generator
    explainer = shap.KernelExplainer(
        lambda x: np.asarray(table_game(table)(x > 0.5), np.float64), np.zeros((1, d))
    )
    return explainer.shap_values(np.ones((1, d)), nsamples=nsamples, l1_reg=False, silent=True)[0]


# --- exact values ---


@pytest.mark.parametrize("d", [1, 2, 3, 6])
def test_exact_is_the_average_over_orders_of_joining(d):
    table = random_table(d, d)
    np.testing.assert_allclose(
        exact_shapley(table_game(table), d), by_permutations(table, d), atol=1e-5
    )


def test_exact_on_games_with_known_values():
    worth = np.array([3.0, -1.0, 0.0, 2.5], np.float32)
    np.testing.assert_allclose(exact_shapley(lambda s: 7 + s @ worth, 4), worth, atol=1e-5)

    def unanimity(s):  # players 0, 2 and 3 are needed, 1 is not
        return s[:, np.array([0, 2, 3])].all(1).astype(jnp.float32)

    np.testing.assert_allclose(exact_shapley(unanimity, 4), [1 / 3, 0, 1 / 3, 1 / 3], atol=1e-6)

    def gloves(s):  # two left gloves, one right glove: pairs are worth 1
        return jnp.minimum(s[:, 0] + s[:, 1] * 1, s[:, 2] * 1)

    np.testing.assert_allclose(exact_shapley(gloves, 3), [1 / 6, 1 / 6, 2 / 3], atol=1e-6)


def test_exact_values_are_to_be_had_of_20_players():
    worth = np.arange(20.0, dtype=np.float32)
    np.testing.assert_allclose(exact_shapley(lambda s: s @ worth, 20), worth, atol=0.01)
    with pytest.raises(InputError, match="at most 20"):
        exact_shapley(lambda s: s @ worth, 21)


def test_agrees_with_shap_on_all_coalitions():
    table = random_table(0, 6, 2)
    theirs = shap_library(table, 6, 2**6, seed=0)
    np.testing.assert_allclose(exact_shapley(table_game(table), 6), theirs, atol=1e-5)
    np.testing.assert_allclose(kernel_shap(table_game(table), 6, 2**6), theirs, atol=1e-5)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("d", [1, 2, 3, 7])
def test_every_strategy_is_exact_when_the_budget_covers_all(strategy, d):
    table = random_table(d, d)
    design = coalition_design(d, 2**d + 5, strategy=strategy)
    assert design.masks.shape == (2**d, d)
    np.testing.assert_allclose(
        shapley_values(table_game(table), design), by_permutations(table, d), atol=1e-5
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_estimators_themselves_converge_to_the_exact_values(strategy):
    """One pair short of everything, estimation is in charge and nearly right."""
    table = random_table(1, 7)
    exact = by_permutations(table, 7)
    design = coalition_design(7, 2**7 - 2, strategy=strategy)
    error = np.sum((shapley_values(table_game(table), design) - exact) ** 2)
    assert 0 < error < 0.05 * np.sum(exact**2)


# --- axioms ---

seeds = st.integers(0, 2**31)


@few
@given(st.sampled_from(sorted(STRATEGIES)), st.integers(2, 9), st.integers(0, 40), seeds)
def test_efficiency_at_any_budget(strategy, d, more, seed):
    design = coalition_design(d, 2 * d + more, strategy=strategy, seed=seed)
    table = random_table(seed, d)
    phi = shapley_values(table_game(table), design)
    # Few coalitions can make a regression's weights large, and float32 rounds in proportion.
    slack = 1e-6 * np.abs(design.operator).sum()
    assert abs(phi.sum() - (table[-1] - table[0])) < 1e-5 + slack


@few
@given(st.sampled_from(sorted(STRATEGIES)), st.integers(2, 9), st.integers(0, 40), seeds)
def test_linearity_and_constants_at_any_budget(strategy, d, more, seed):
    design = coalition_design(d, 2 * d + more, strategy=strategy, seed=seed)
    one, two = random_table(seed, d), random_table(seed + 1, d)
    mixed = shapley_values(table_game(2 * one - 3 * two + 5), design)
    separate = 2 * shapley_values(table_game(one), design) - 3 * shapley_values(
        table_game(two), design
    )
    slack = 1e-6 * np.abs(design.operator).sum(1)
    assert (np.abs(mixed - separate) < 1e-5 + 10 * slack).all()


@few
@given(st.sampled_from(sorted(STRATEGIES)), st.integers(2, 6), seeds)
def test_symmetry_and_dummy_when_the_budget_covers_all(strategy, d, seed):
    masks = all_masks(d)
    table = random_table(seed, d)
    swapped = masks.copy()
    swapped[:, [0, 1]] = masks[:, [1, 0]]
    index = 1 << np.arange(d)
    design = coalition_design(d, 2**d, strategy=strategy)

    symmetric = table + table[swapped @ index]
    phi = shapley_values(table_game(symmetric), design)
    assert abs(phi[0] - phi[1]) < 1e-5

    without_last = table[masks[:, :-1] @ index[:-1]]
    phi = shapley_values(table_game(without_last), design)
    assert abs(phi[-1]) < 1e-5

    adding_two = without_last + 2 * masks[:, -1].astype(np.float32)
    phi = shapley_values(table_game(adding_two), design)
    assert abs(phi[-1] - 2) < 1e-5


# --- use ---


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_several_outputs_are_several_games(strategy):
    design = coalition_design(6, 30, strategy=strategy)
    table = random_table(0, 6, 2, 3)
    phi = shapley_values(table_game(table), design)
    assert phi.shape == (6, 2, 3)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_allclose(
            phi[:, i, j], shapley_values(table_game(table[:, i, j]), design), atol=1e-5
        )


def test_under_jit_with_the_design_as_argument_closure_and_static():
    design = coalition_design(5, 16)
    worth = jnp.arange(5.0)

    def estimate(worth, design):
        return shapley_values(lambda s: jnp.tanh(s @ worth), design)

    expected = estimate(worth, design)
    for jitted in (
        jax.jit(estimate)(worth, design),
        jax.jit(lambda w: estimate(w, design))(worth),
        jax.jit(estimate, static_argnums=1)(worth, design),
    ):
        np.testing.assert_allclose(jitted, expected, atol=1e-6)


def test_a_large_constant_costs_no_accuracy():
    """Whole numbers are added and subtracted without rounding: not a bit of the values changes."""
    table = np.round(9 * random_table(0, 6))
    design = coalition_design(6, 40)
    np.testing.assert_array_equal(
        shapley_values(table_game(np.float32(2**20) + table), design),
        shapley_values(table_game(table), design),
    )


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 1, 5])
def test_a_value_that_is_not_finite_leaves_no_estimate_finite(place, wrong):
    values = random_table(0, 4)[:10]
    values[place] = wrong
    assert not np.isfinite(shapley_values(lambda _: values, coalition_design(4, 10))).any()


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda: coalition_design(0, 4), "num_players is 0"),
        (lambda: coalition_design(16, 1), "needs at least 2 "),
        (lambda: coalition_design(16, 31, strategy="kernel"), "needs at least 32 "),
        (lambda: coalition_design(16, 31, strategy="leverage"), "needs at least 32 "),
        (lambda: coalition_design(16, 64, strategy="sobol"), "choose one of gaussian"),
        (lambda: coalition_design(16, 64, seed=-1), "seed is -1"),
        (lambda: coalition_design(16, 64, grid=5), "a grid of 5x5 does not hold 16 players"),
        (lambda: exact_shapley(lambda s: s.sum(1), 21), "at most 20"),
        (lambda: kernel_shap(lambda s: s.sum(), 3, 8), "one row a coalition"),
        (lambda: kernel_shap(lambda s: s[1:].sum(1), 3, 8), "one row a coalition"),
    ],
)
def test_bad_arguments_are_told_in_a_sentence(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call()


def test_a_row_of_players_is_a_grid():
    phi = shapley_values(lambda masks: masks @ np.arange(7.0), coalition_design(7, 60, grid=(1, 7)))
    np.testing.assert_allclose(phi, np.arange(7.0), atol=0.05)


# --- real images ---


@pytest.fixture(scope="module")
def digit_games():
    """Four handwritten digits under a trained network: 4×4 grids of 2×2 patches, label logits."""
    data = load_digits()
    x = jnp.asarray((data.data - data.data.mean()) / data.data.std(), jnp.float32)
    y = jnp.asarray(data.target)
    keys = jax.random.split(jax.random.key(0))
    params = {
        "in": jax.random.normal(keys[0], (64, 64)) / 8,
        "bias": jnp.zeros(64),
        "out": jax.random.normal(keys[1], (64, 10)) / 8,
    }
    optimiser = optax.adam(1e-2)

    def network(params, x):
        return jax.nn.relu(x @ params["in"] + params["bias"]) @ params["out"]

    def loss(params):
        return optax.softmax_cross_entropy_with_integer_labels(network(params, x), y).mean()

    def step(carry, _):
        params, state = carry
        updates, state = optimiser.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.jit(
        lambda params: jax.lax.scan(step, (params, optimiser.init(params)), length=100)
    )(params)
    assert (network(params, x).argmax(1) == y).mean() > 0.97

    masks = all_masks(16).reshape(-1, 4, 4)
    pixels = jnp.kron(masks, jnp.ones((2, 2))).reshape(-1, 64)
    return np.stack([network(params, pixels * x[i])[:, y[i]] for i in (0, 1, 2, 3)])


def relative_error(phi, exact):
    """Mean over games of |phi - exact|² / |exact|²; arrays [players, games]."""
    return float(np.mean(np.sum((phi - exact) ** 2, 0) / np.sum(exact**2, 0)))


@pytest.fixture(scope="module")
def errors(digit_games):
    """Relative error by (estimator, budget), mean over games and seeds."""
    game = table_game(digit_games.T)
    exact = np.asarray(exact_shapley(game, 16))
    result = {}
    for budget in (64, 128, 256):
        for strategy in STRATEGIES:
            result[strategy, budget] = np.mean(
                [
                    relative_error(
                        shapley_values(
                            game,
                            coalition_design(16, budget, strategy=strategy, seed=seed, grid=4),
                        ),
                        exact,
                    )
                    for seed in range(6)
                ]
            )
        result["shap", budget] = np.mean(
            [
                relative_error(shap_library(digit_games.T, 16, budget - 2, seed), exact)
                for seed in range(6)
            ]
        )
    return result


@pytest.mark.parametrize("budget", [64, 128, 256])
def test_on_real_images_kernel_errs_no_more_than_shap(errors, budget):
    assert errors["kernel", budget] <= errors["shap", budget]


@pytest.mark.parametrize("budget", [64, 128, 256])
def test_on_real_images_gaussian_errs_least(errors, budget):
    rivals = min(errors[name, budget] for name in ("kernel", "leverage", "shap"))
    assert errors["gaussian", budget] < 0.5 * rivals


def test_on_real_images_error_falls_with_the_budget(errors):
    for name in (*STRATEGIES, "shap"):
        assert errors[name, 64] > errors[name, 128] > errors[name, 256]
