from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoutil_jax.errors import InputError
from infoutil_jax.gradients import (
    changes_of_gradients,
    exact_utilities,
    example_gradients,
    loss_rate_changes,
    utility_bound,
)
from infoutil_jax.gradients.norms import gradient_norms

rng = np.random.default_rng(0)
BATCH = (rng.normal(size=(7, 6)).astype(np.float32), rng.integers(0, 4, 7))
PROBES = (rng.normal(size=(5, 6)).astype(np.float32), rng.integers(0, 4, 5))
PARAMS = {
    "kernel": rng.normal(size=(6, 4)).astype(np.float32),
    "bias": rng.normal(size=4).astype(np.float32),
}
RATE = 0.5
OPTIMISERS = {
    "sgd": optax.sgd(RATE),
    "nesterov": optax.sgd(RATE, momentum=0.9, nesterov=True),
    "adam": optax.adam(0.01),
    "clipped": optax.chain(optax.clip_by_global_norm(0.1), optax.adamw(0.01)),
    "scheduled": optax.rmsprop(optax.cosine_decay_schedule(0.1, 10)),
}


def regression(params, example):
    """Softmax regression."""
    inputs, label = example
    logits = inputs @ params["kernel"] + params["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, label)


GRADIENT = jax.jit(jax.grad(regression))


def squared_error(params, example):
    inputs, target = example
    return (params @ inputs - target) ** 2 / 2


def proportional(params, gradient):
    """A loss whose gradient is the example."""
    return jnp.sum(params * gradient)


def warmed(optimiser, params=PARAMS, steps=3):
    state = optimiser.init(params)
    for step in range(steps):
        gradient = jax.tree.map(lambda leaf, step=step: np.sin(leaf + step), params)
        _, state = optimiser.update(gradient, state, params)
    return state


def brute_force(optimiser, state, batch, probes, reduction):
    """Definition 3, word by word: one example after the other."""

    def gradients(examples):
        return [GRADIENT(PARAMS, example) for example in zip(*examples, strict=True)]

    def update(chosen):
        total = jax.tree.map(lambda *leaves: sum(leaves), *chosen)
        if reduction == "mean":
            total = jax.tree.map(lambda leaf: leaf / len(chosen), total)
        return optimiser.update(total, state, PARAMS)[0]

    def rate(gradient, step):
        pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(step), strict=True)
        return sum(np.vdot(a, b) for a, b in pairs)

    own, others = gradients(batch), gradients(probes)
    whole = update(own)
    rows = []
    for i in range(len(own)):
        rest = update(own[:i] + own[i + 1 :])
        rows.append([rate(gradient, whole) - rate(gradient, rest) for gradient in others])
    return np.array(rows)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_it_is_the_definition_word_by_word(name, reduction):
    optimiser = OPTIMISERS[name]
    for state, probes in ((warmed(optimiser), PROBES), (optimiser.init(PARAMS), BATCH)):
        if name == "adam" and probes is BATCH:
            continue  # its first step is a sign, which single precision cannot subtract
        expected = brute_force(optimiser, state, BATCH, probes, reduction)
        given = {"opt_state": state, "probes": probes, "reduction": reduction}
        changes = loss_rate_changes(regression, PARAMS, BATCH, optimiser, **given)
        np.testing.assert_allclose(changes, expected, rtol=2e-3, atol=3e-5 * np.abs(expected).max())
        utilities = exact_utilities(regression, PARAMS, BATCH, optimiser, **given)
        np.testing.assert_array_equal(utilities, np.abs(changes).max(1))
        assert utilities.dtype == np.float32


@pytest.mark.parametrize("microbatch_size", [1, 3, 7, 32])
def test_microbatches_and_shared_gradients_change_nothing(microbatch_size):
    optimiser = OPTIMISERS["adam"]
    given = {"opt_state": warmed(optimiser), "probes": PROBES, "reduction": "mean"}
    whole = loss_rate_changes(regression, PARAMS, BATCH, optimiser, **given)
    changes = loss_rate_changes(
        regression, PARAMS, BATCH, optimiser, microbatch_size=microbatch_size, **given
    )
    np.testing.assert_allclose(changes, whole, rtol=1e-4, atol=1e-7)
    own, others = (
        example_gradients(regression, PARAMS, examples, microbatch_size=microbatch_size)
        for examples in (BATCH, given.pop("probes"))
    )
    shared = changes_of_gradients(own, others, PARAMS, optimiser, **given)
    np.testing.assert_allclose(shared, whole, rtol=1e-4, atol=1e-7)


def test_closed_forms_under_sgd():
    inputs, labels = BATCH
    probability = np.asarray(jax.nn.softmax(inputs @ PARAMS["kernel"] + PARAMS["bias"]))
    error = probability - np.eye(4)[labels]
    inner = (error @ error.T) * (inputs @ inputs.T + 1)  # + 1 for the bias
    utilities = exact_utilities(regression, PARAMS, BATCH, OPTIMISERS["sgd"])
    np.testing.assert_allclose(utilities, RATE * np.abs(inner).max(1), rtol=1e-5)

    targets = np.arange(7, dtype=np.float32)
    weights = PARAMS["kernel"][:, 0]
    residual = inputs @ weights - targets
    inner = np.outer(residual, residual) * (inputs @ inputs.T)
    changes = loss_rate_changes(squared_error, weights, (inputs, targets), OPTIMISERS["sgd"])
    np.testing.assert_allclose(changes, -RATE * inner, rtol=1e-4, atol=1e-5)


# Of one size and one rate, for each of another is compiled anew.
vectors = st.lists(st.floats(-1e3, 1e3, width=32), min_size=12, max_size=12)


@settings(max_examples=40, deadline=None)
@given(vectors, st.none() | vectors)
def test_the_bound_of_theorem_1_holds(batch, probes):
    params, batch = jnp.zeros(3), np.float32(batch).reshape(4, 3)
    probes = None if probes is None else np.float32(probes).reshape(4, 3)
    utilities = exact_utilities(proportional, params, batch, OPTIMISERS["sgd"], probes=probes)
    bound = utility_bound(proportional, params, batch, learning_rate=RATE, probes=probes)
    assert (utilities <= bound * (1 + 1e-5) + 1e-30).all()
    if probes is None:  # at the largest gradient it is attained
        norms = gradient_norms(proportional, params, batch)
        largest = int(np.argmax(norms))
        np.testing.assert_allclose(utilities[largest], bound[largest], rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize(("nesterov", "factor"), [(False, 1), (True, 1.9)])
def test_momentum_has_the_utility_of_sgd_whatever_its_state(nesterov, factor):
    plain = loss_rate_changes(regression, PARAMS, BATCH, OPTIMISERS["sgd"])
    momentum = optax.sgd(RATE, momentum=0.9, nesterov=nesterov)
    for state in (None, warmed(momentum, steps=9)):
        changes = loss_rate_changes(regression, PARAMS, BATCH, momentum, opt_state=state)
        np.testing.assert_allclose(changes, factor * plain, rtol=1e-5, atol=1e-7)


def test_adam_by_hand():
    """One parameter, gradients 1 and 3, after one step with gradient 2."""
    b1, b2, eps, rate = 0.9, 0.999, 1e-8, 0.1
    adam = optax.adam(rate, b1, b2, eps)
    state = adam.update(jnp.float32(2), adam.init(jnp.float32(0)))[1]

    def update(gradient):
        mean = (b1 * (1 - b1) * 2 + (1 - b1) * gradient) / (1 - b1**2)
        square = (b2 * (1 - b2) * 2**2 + (1 - b2) * gradient**2) / (1 - b2**2)
        return -rate * mean / (np.sqrt(square) + eps)

    batch = jnp.array([1.0, 3.0])
    for reduction, whole in (("sum", 4), ("mean", 2)):
        expected = [[g * (update(whole) - update(rest)) for g in (1, 3)] for rest in (3, 1)]
        changes = loss_rate_changes(
            proportional, jnp.float32(0), batch, adam, opt_state=state, reduction=reduction
        )
        np.testing.assert_allclose(changes, expected, rtol=1e-4)


def test_an_optimiser_that_insists_on_the_types_of_its_state_gets_them():
    """One that passes over steps that are not finite may return the state it was given."""
    plain, guarded = optax.adam(0.1), optax.apply_if_finite(optax.adam(0.1), 3)
    gradients, params = np.float32([[1, 2], [3, -4], [0.5, 6]]), jnp.ones(2)
    expected, found = (
        loss_rate_changes(
            proportional, params, gradients, one, opt_state=warmed(one, params), reduction="mean"
        )
        for one in (plain, guarded)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_one_example_and_one_probe_have_a_utility():
    """That of a step instead of none."""
    gradients, probes = np.float32([[1, 2]]), np.float32([[3, -4]])
    params, sgd = np.zeros(2, np.float32), OPTIMISERS["sgd"]
    changes = changes_of_gradients(gradients, probes, params, sgd)
    np.testing.assert_allclose(changes, [[-RATE * (3 - 8)]])
    one_by_one = exact_utilities(
        proportional, params, gradients, sgd, probes=probes, microbatch_size=1
    )
    np.testing.assert_allclose(one_by_one, [RATE * 5])


def test_a_microbatch_bounds_the_memory_of_what_is_differentiated():
    params, batch = jnp.ones((8, 512)), jnp.ones((512, 8))

    def gradients(params, batch, microbatch_size):
        def wave(scale, example):
            return jnp.sin(scale * example @ params).sum()

        return example_gradients(wave, jnp.float32(1), batch, microbatch_size=microbatch_size)

    def memory(microbatch_size):
        compiled = jax.jit(partial(gradients, microbatch_size=microbatch_size))
        return compiled.lower(params, batch).compile().memory_analysis().temp_size_in_bytes

    assert memory(8) < memory(None) / 4


def test_under_the_mean_it_is_the_centred_gradient_that_counts():
    gradients = np.float32([[0, 0], [2, 0], [0, 4]])
    given = (proportional, jnp.zeros(2), gradients, OPTIMISERS["sgd"])
    centred = gradients - gradients.mean(0)
    np.testing.assert_allclose(
        loss_rate_changes(*given, reduction="mean"), -RATE / 2 * centred @ gradients.T, rtol=1e-5
    )
    assert exact_utilities(*given)[0] == 0
    # No gradient, hence a bound of zero; but without it the others weigh more.
    assert exact_utilities(*given, reduction="mean")[0] > 0
    assert utility_bound(*given[:3], learning_rate=RATE)[0] == 0


def test_a_small_gradient_beside_large_ones_keeps_its_utility():
    """In single precision, 1e6 + 1e-6 - 1e6 is nothing."""
    gradients = np.float32([[1e6], [1e-6], [0]])
    utilities = exact_utilities(proportional, jnp.zeros(1), gradients, OPTIMISERS["sgd"])
    np.testing.assert_allclose(utilities, [RATE * 1e12, RATE, 0], rtol=1e-3)
    assert jnp.ones(1).dtype == np.float32  # and nobody else is switched to double precision


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_gradient_that_is_not_finite_is_not_hidden(bad):
    gradients = jnp.array([[1.0], [bad]])
    utilities = exact_utilities(proportional, jnp.zeros(1), gradients, OPTIMISERS["sgd"])
    assert np.isnan(utilities).all()


def test_one_compilation_serves_every_batch():
    traced = []

    def loss(params, example):
        traced.append(example)
        return proportional(params, example)

    for scale in (1.0, 2.0, 3.0):
        exact_utilities(loss, jnp.zeros(2), scale * jnp.ones((4, 2)), OPTIMISERS["adam"])
    assert len(traced) == 1


ONES = jnp.ones((3, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"params": {"a": jnp.zeros(2), "n": 3}}, "params must hold floating-point arrays"),
        ({"batch": (ONES, jnp.ones(2))}, "the examples' arrays have leading axes"),
        ({"batch": jnp.ones((0, 2))}, "there are no examples"),
        ({"probes": jnp.ones((0, 2))}, "there are no probes"),
        ({"microbatch_size": 0}, "microbatch_size is 0"),
        ({"reduction": "max"}, "reduction is 'max'; use sum or mean"),
        ({"batch": ONES[:1], "reduction": "mean"}, "a batch of one has no mean"),
        ({"opt_state": optax.adam(0.1).init(jnp.zeros(2))}, "opt_state is not a state of this"),
    ],
)
def test_bad_input_is_told_in_a_sentence(arguments, message):
    given = {"params": jnp.zeros(2), "batch": ONES, "optimiser": optax.sgd(0.1), **arguments}
    with pytest.raises(InputError, match=message):
        exact_utilities(proportional, **given)


def test_bad_gradients_and_rates_are_told_in_a_sentence():
    with pytest.raises(InputError, match="gradients do not fit the parameters"):
        changes_of_gradients(ONES, ONES, jnp.zeros(3), optax.sgd(0.1))
    with pytest.raises(InputError, match="learning_rate is -1"):
        utility_bound(proportional, jnp.zeros(2), ONES, learning_rate=-1.0)
    with pytest.raises(InputError, match="there are no probes"):
        utility_bound(proportional, jnp.zeros(2), ONES, learning_rate=1.0, probes=ONES[:0])
