import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from infoutil_jax.training import fit

KEY = jax.random.key(3)


def regression(batch_size=8, observe=None):
    """Linear regression by SGD, the bias as a running statistic: counts the steps."""

    def apply(variables, x):
        logits = x @ variables["params"]["w"]
        return logits, {**variables, "batch_stats": variables["batch_stats"] + 1}

    def view(context, key, batch):
        x, y = batch
        return x + context * jax.random.normal(key, x.shape), y

    def loss(logits, y):
        return jnp.mean((logits - y) ** 2)

    training = fit.Fit(apply, view, loss, optax.sgd(0.05), batch_size, observe)
    return training, training.init({"params": {"w": jnp.zeros(3)}, "batch_stats": jnp.zeros(())})


def data(n=37):
    x = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    return x, x @ np.array([1, -2, 3], np.float32)


def last(iterator):
    *_, final = iterator
    return final


@pytest.mark.parametrize(("n", "size"), [(37, 8), (40, 8), (5, 8), (1, 1)])
def test_batches_visit_rows_once_and_differ_by_epoch(n, size):
    rows = np.asarray(fit.batches(KEY, 0, n, size))
    assert rows.shape == (max(1, n // size), min(size, n))
    assert len(np.unique(rows)) == rows.size
    if n > 5:
        assert not np.array_equal(rows, fit.batches(KEY, 1, n, size))


def test_it_learns_and_carries_statistics():
    training, state = regression()
    epoch, state, loss, _ = last(
        fit.epochs(training, state, KEY, data(), first=0, stop=60, context=0.0)
    )
    np.testing.assert_allclose(state.variables["params"]["w"], [1, -2, 3], atol=1e-3)
    assert epoch == 59 and loss < 1e-5
    assert state.variables["batch_stats"] == 60 * 4


def test_an_epoch_is_plain_gradient_descent_over_its_batches():
    training, state = regression()
    x, y = data()
    w = np.zeros(3)
    for row in np.asarray(fit.batches(KEY, 0, 37, 8)):
        w -= 0.05 * 2 / 8 * x[row].T @ (x[row] @ w - y[row])
    _, state, *_ = last(fit.epochs(training, state, KEY, (x, y), first=0, stop=1, context=0.0))
    np.testing.assert_allclose(state.variables["params"]["w"], w, rtol=1e-5)


@pytest.mark.parametrize("device_bytes", [1, 300, 2**20])
def test_memory_limit_does_not_change_the_result(device_bytes):
    training, state = regression()
    options = {"first": 0, "stop": 3, "context": 0.3}
    _, whole, loss, _ = last(fit.epochs(training, state, KEY, data(), **options))
    _, sliced, other, _ = last(
        fit.epochs(training, state, KEY, data(), device_bytes=device_bytes, **options)
    )
    np.testing.assert_allclose(
        whole.variables["params"]["w"], sliced.variables["params"]["w"], rtol=1e-5
    )
    assert loss == pytest.approx(other, rel=1e-5)


def test_stopping_and_going_on_gives_the_same_bytes():
    training, start = regression()
    _, through, *_ = last(fit.epochs(training, start, KEY, data(), first=0, stop=5, context=0.3))
    _, half, *_ = last(fit.epochs(training, start, KEY, data(), first=0, stop=2, context=0.3))
    half = jax.tree.map(jnp.asarray, jax.device_get(half))
    _, resumed, *_ = last(fit.epochs(training, half, KEY, data(), first=2, stop=5, context=0.3))
    jax.tree.map(np.testing.assert_array_equal, through, resumed)


@pytest.mark.parametrize("device_bytes", [1, 300, 2**20])
def test_what_is_observed_is_each_steps_batch_before_its_update(device_bytes):
    training, state = regression(observe=lambda logits, y: jnp.stack([logits, y], -1))
    x, y = data()
    w = np.zeros(3)
    options = {"first": 0, "stop": 2, "context": 0.0, "device_bytes": device_bytes}
    for epoch, _, _, seen in fit.epochs(training, state, KEY, (x, y), **options):
        np.testing.assert_array_equal(seen.rows, fit.batches(KEY, epoch, 37, 8))
        assert seen.values.shape == (4, 8, 2)
        np.testing.assert_array_equal(seen.values[..., 1], y[np.asarray(seen.rows)])
        for row, values in zip(np.asarray(seen.rows), seen.values, strict=True):
            np.testing.assert_allclose(values[:, 0], x[row] @ w, rtol=1e-4, atol=1e-4)
            w -= 0.05 * 2 / 8 * x[row].T @ (x[row] @ w - y[row])


def test_observing_changes_no_byte_of_the_training():
    plain, start = regression()
    watched, _ = regression(observe=lambda logits, y: logits > y)
    options = {"first": 0, "stop": 3, "context": 0.3}
    _, state, _, nothing = last(fit.epochs(plain, start, KEY, data(), **options))
    _, same, _, seen = last(fit.epochs(watched, start, KEY, data(), **options))
    assert nothing is None and seen.values.dtype == bool
    jax.tree.map(np.testing.assert_array_equal, state, same)
