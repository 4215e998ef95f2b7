from functools import partial

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from infoutil_jax.errors import InputError
from infoutil_jax.method.utility import cross_entropy, el2n, gradient_norm, gradient_norms

rng = np.random.default_rng(0)
CROPS = rng.normal(size=(7, 4, 4, 3)).astype(np.float32)
LABELS = rng.integers(0, 5, 7)


def softmax_regression(variables, images):
    flat = images.reshape(len(images), -1)
    return flat @ variables["kernel"] + variables["bias"]


REGRESSION = {
    "kernel": rng.normal(size=(48, 5)).astype(np.float32) / 7,
    "bias": rng.normal(size=5).astype(np.float32),
}


class Small(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(6, (3, 3), name="conv")(x))
        x = nn.BatchNorm(use_running_average=True)(x)
        return nn.Dense(5, name="classifier")(x.mean((1, 2)))


def linen():
    variables = Small().init(jax.random.key(0), CROPS)
    return Small().apply, variables


def equinox():
    # The activation is a leaf of the pytree, and no array.
    mlp = eqx.nn.MLP(48, 5, 8, 1, key=jax.random.key(0))
    return lambda model, images: jax.vmap(lambda x: model(x.ravel()))(images), mlp


def function():
    return softmax_regression, REGRESSION


def reference_norms(predict, variables, names=()):
    """One example at a time; `names` restricts the params that the norm counts."""
    params = variables["params"] if isinstance(variables, dict) and names else None

    def loss(arrays, others, crop, label):
        logits = predict(eqx.combine(arrays, others), crop[None])
        return optax.softmax_cross_entropy_with_integer_labels(logits, label[None])[0]

    norms = []
    arrays, others = eqx.partition(variables, eqx.is_inexact_array)
    gradient = eqx.filter_jit(jax.grad(loss))
    for crop, label in zip(CROPS, LABELS, strict=True):
        grads = gradient(arrays, others, crop, label)
        if isinstance(variables, dict) and "params" in variables:
            grads = grads["params"]
        if params is not None:
            grads = {name: grads[name] for name in names}
        norms.append(optax.global_norm(grads))
    return np.array(norms)


@pytest.mark.parametrize("teacher", [linen, equinox, function])
@pytest.mark.parametrize("microbatch_size", [1, 3, 32, None])
def test_the_score_is_the_norm_of_each_gradient_by_itself(teacher, microbatch_size):
    predict, variables = teacher()
    norms = gradient_norm(predict, variables, CROPS, LABELS, microbatch_size=microbatch_size)
    np.testing.assert_allclose(norms, reference_norms(predict, variables), rtol=1e-5)


def test_closed_form_for_softmax_regression():
    error = np.asarray(jax.nn.softmax(softmax_regression(REGRESSION, CROPS)))
    error = np.linalg.norm(error - np.eye(5)[LABELS], axis=1)
    length = np.sqrt((CROPS**2).sum((1, 2, 3)) + 1)  # + 1 for the bias
    norms = gradient_norm(softmax_regression, REGRESSION, CROPS, LABELS)
    np.testing.assert_allclose(norms, error * length, rtol=1e-5)
    np.testing.assert_allclose(
        el2n(softmax_regression, REGRESSION, CROPS, LABELS), error, rtol=1e-5
    )
    only_bias = gradient_norm(
        softmax_regression, REGRESSION, CROPS, LABELS, over=lambda path: path == "bias"
    )
    np.testing.assert_allclose(only_bias, error, rtol=1e-5)


def test_over_the_classifier_counts_its_params_alone():
    predict, variables = linen()
    norms = gradient_norm(predict, variables, CROPS, LABELS, over="classifier")
    np.testing.assert_allclose(norms, reference_norms(predict, variables, ["classifier"]), 1e-5)
    kernels = gradient_norm(
        predict, variables, CROPS, LABELS, over=lambda path: path == "conv/kernel"
    )
    biases = gradient_norm(predict, variables, CROPS, LABELS, over=lambda path: path == "conv/bias")
    np.testing.assert_allclose(
        np.hypot(kernels, biases), reference_norms(predict, variables, ["conv"]), 1e-5
    )


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


def test_one_compilation_serves_every_batch():
    traced = []

    def predict(variables, images):
        traced.append(images.shape)
        return softmax_regression(variables, images)

    for scale in (1, 2, 3):
        gradient_norm(predict, REGRESSION, scale * CROPS, LABELS)
    assert len(traced) == 1


def test_a_microbatch_bounds_the_memory():
    params, batch = {"kernel": jnp.ones((48, 512))}, jnp.ones((512, 48))

    def memory(microbatch_size):
        norms = partial(gradient_norms, wave, microbatch_size=microbatch_size)
        return jax.jit(norms).lower(params, batch).compile().memory_analysis()

    assert memory(8).temp_size_in_bytes < memory(None).temp_size_in_bytes / 4


def wave(params, example):
    return jnp.sin(example @ params["kernel"]).sum()


def test_el2n_and_cross_entropy():
    predict, variables = linen()
    logits = predict(variables, CROPS)
    probability = np.asarray(jax.nn.softmax(logits))
    np.testing.assert_allclose(
        cross_entropy(predict, variables, CROPS, LABELS),
        -np.log(probability[np.arange(7), LABELS]),
        rtol=1e-4,
    )
    np.testing.assert_allclose(
        el2n(predict, variables, CROPS, LABELS),
        np.linalg.norm(probability - np.eye(5)[LABELS], axis=1),
        rtol=1e-5,
    )
    model, mlp = equinox()
    assert cross_entropy(model, mlp, CROPS, LABELS).shape == (7,)


def test_a_sure_and_right_teacher_scores_zero_not_nan():
    def sure(variables, images):
        return 200.0 * jax.nn.one_hot(jnp.zeros(len(images), int), 5) * variables["gain"]

    variables, labels = {"gain": jnp.float32(1)}, np.zeros(7, int)
    for score in (gradient_norm, el2n, cross_entropy):
        np.testing.assert_array_equal(score(sure, variables, CROPS, labels), np.zeros(7))
    np.testing.assert_allclose(el2n(sure, variables, CROPS, labels + 1), np.sqrt(2), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: gradient_norm(softmax_regression, REGRESSION, CROPS, LABELS, over="classifier"),
            "top-level keys are bias, kernel; use",
        ),
        (
            lambda: gradient_norm(softmax_regression, REGRESSION, CROPS, LABELS, over="last"),
            'over is "last"',
        ),
        (lambda: gradient_norms(weighted, {"n": 3}, jnp.ones((2, 2))), "no floating-point array"),
        (lambda: weighted_norms(jnp.ones((2, 2)), 0), "microbatch_size is 0"),
        (
            lambda: gradient_norms(weighted, {"a": jnp.ones(2)}, (jnp.ones(2), jnp.ones(3))),
            "leading axes",
        ),
    ],
)
def test_bad_input_is_told_in_a_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()
