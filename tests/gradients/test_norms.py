"""Norms of any loss on any pytree: closed forms, edge cases, memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoutil_jax.errors import InputError
from infoutil_jax.gradients import gradient_norms

rng = np.random.default_rng(0)


@pytest.mark.parametrize("microbatch_size", [1, 3, 32, None])
def test_any_loss_on_any_pytree(microbatch_size):
    def squared_error(params, example):
        scale, (weights,) = params["scale"], params["layers"]
        guess = scale * (example["x"] @ weights)
        return 0.5 * (guess - example["y"]) ** 2 * params["steps"]

    params = {
        "scale": jnp.float32(1.5),
        "layers": (jnp.array([1.0, -2.0]),),
        "steps": jnp.int32(2),  # not differentiable, passed on
    }
    batch = {"x": rng.normal(size=(8, 2)).astype(np.float32), "y": np.arange(8.0, dtype=np.float32)}
    raw = batch["x"] @ np.array([1.0, -2.0])
    error = 2 * np.abs(1.5 * raw - batch["y"])
    expected = error * np.sqrt(raw**2 + 1.5**2 * (batch["x"] ** 2).sum(1))
    norms = gradient_norms(squared_error, params, batch, microbatch_size=microbatch_size)
    np.testing.assert_allclose(norms, expected, rtol=1e-5)


def weighted(params, example):
    return (params["a"] * example).sum() + params["b"] * example[0]


def weighted_norms(examples, microbatch_size=None):
    params = {"a": jnp.ones(2), "b": jnp.float32(1)}
    return gradient_norms(weighted, params, examples, microbatch_size=microbatch_size)


@pytest.mark.parametrize("microbatch_size", [2, None])
def test_the_table_of_edge_cases(microbatch_size):
    examples = jnp.array(
        [[0, 0], [jnp.inf, 1], [-jnp.inf, 0], [jnp.nan, 1], [3e30, 0], [3e-30, 0], [3, 0]]
    )
    root = np.sqrt(np.float32(2))
    np.testing.assert_allclose(
        weighted_norms(examples, microbatch_size),
        [0, np.inf, np.inf, np.nan, 3e30 * root, 3e-30 * root, 3 * root],
        rtol=1e-6,
    )
    assert weighted_norms(jnp.zeros((0, 2)), microbatch_size).shape == (0,)


def test_a_half_precision_gradient_is_summed_in_single_precision():
    params = jnp.zeros(4096, jnp.bfloat16)
    norms = gradient_norms(lambda p, x: (p * x).sum(), params, jnp.ones((1, 1), jnp.bfloat16))
    assert norms.dtype == jnp.float32
    np.testing.assert_allclose(norms, 64.0)


def test_a_microbatch_bounds_the_memory():
    params, batch = {"kernel": jnp.ones((48, 512))}, jnp.ones((512, 48))

    def memory(microbatch_size):
        norms = partial(gradient_norms, wave, microbatch_size=microbatch_size)
        return jax.jit(norms).lower(params, batch).compile().memory_analysis()

    assert memory(8).temp_size_in_bytes < memory(None).temp_size_in_bytes / 4


def wave(params, example):
    return jnp.sin(example @ params["kernel"]).sum()


def test_parameters_may_be_chosen_by_their_paths():
    params = {"a": {"kernel": jnp.ones(2), "bias": jnp.float32(2)}, "b": [jnp.ones(2)]}

    def loss(params, x):
        return (params["a"]["kernel"] * x).sum() + params["a"]["bias"] * 3 + params["b"][0][0] * 4

    seen = []

    def watching(path):
        seen.append(path)
        return path.startswith("a/")

    norms = partial(gradient_norms, loss, params, jnp.ones((3, 2)))
    np.testing.assert_allclose(norms(wrt=watching), np.full(3, np.sqrt(2 + 9)), rtol=1e-6)
    assert sorted(set(seen)) == ["a/bias", "a/kernel", "b/0"]
    np.testing.assert_allclose(norms(), np.full(3, np.sqrt(2 + 9 + 16)), rtol=1e-6)


@pytest.mark.parametrize(("names", "told"), [("abc", "a, b, c: give"), ("abcd", "a, b, c, ...: ")])
def test_of_paths_that_do_not_fit_three_are_named(names, told):
    params = {name: jnp.ones(2) for name in names}
    with pytest.raises(InputError, match=f"their paths are {told}"):
        gradient_norms(weighted, params, jnp.ones((2, 2)), wrt=lambda path: False)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gradient_norms(weighted, {"n": 3}, jnp.ones((2, 2))), "no floating-point array"),
        (lambda: weighted_norms(jnp.ones((2, 2)), 0), "microbatch_size is 0"),
        (
            lambda: gradient_norms(weighted, {"a": jnp.ones(2)}, (jnp.ones(2), jnp.ones(3))),
            "leading axes",
        ),
        (
            lambda: gradient_norms(weighted, {"a": jnp.ones(2)}, jnp.ones((2, 2)), method="fast"),
            "method is 'fast'",
        ),
        (
            lambda: gradient_norms(
                weighted, {"a": jnp.ones(2)}, jnp.ones((2, 2)), wrt=lambda path: path == "b"
            ),
            "wrt selects none of the parameters; their paths are a: give a predicate",
        ),
    ],
)
def test_bad_input_is_told_in_a_sentence(call, message, unchecked):
    with pytest.raises(InputError, match=message):
        call()
