"""Scores of crops, one crop at a time, for any model."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from infoutil_jax.errors import InputError
from infoutil_jax.method.scores import GradientNorm, cross_entropy, el2n
from infoutil_jax.method.shapley_maps import ShapleyConfig, ShapleyMaps

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
        norms.append(optax.tree.norm(grads))
    return np.array(norms)


@pytest.mark.parametrize("teacher", [linen, equinox, function])
@pytest.mark.parametrize("microbatch_size", [1, 3, 32, None])
def test_the_score_is_the_norm_of_each_gradient_by_itself(teacher, microbatch_size):
    predict, variables = teacher()
    norms = GradientNorm(microbatch_size=microbatch_size)(predict, variables, CROPS, LABELS)
    np.testing.assert_allclose(norms, reference_norms(predict, variables), rtol=1e-5)


def test_closed_form_for_softmax_regression():
    error = np.asarray(jax.nn.softmax(softmax_regression(REGRESSION, CROPS)))
    error = np.linalg.norm(error - np.eye(5)[LABELS], axis=1)
    length = np.sqrt((CROPS**2).sum((1, 2, 3)) + 1)  # + 1 for the bias
    norms = GradientNorm()(softmax_regression, REGRESSION, CROPS, LABELS)
    np.testing.assert_allclose(norms, error * length, rtol=1e-5)
    np.testing.assert_allclose(
        el2n(softmax_regression, REGRESSION, CROPS, LABELS), error, rtol=1e-5
    )
    only_bias = GradientNorm(wrt=lambda path: path == "bias")(
        softmax_regression, REGRESSION, CROPS, LABELS
    )
    np.testing.assert_allclose(only_bias, error, rtol=1e-5)


def test_with_respect_to_the_classifier_counts_its_params_alone():
    predict, variables = linen()
    norms = GradientNorm(wrt="classifier")(predict, variables, CROPS, LABELS)
    np.testing.assert_allclose(norms, reference_norms(predict, variables, ["classifier"]), 1e-5)
    kernels = GradientNorm(wrt=lambda path: path == "conv/kernel")(
        predict, variables, CROPS, LABELS
    )
    biases = GradientNorm(wrt=lambda path: path == "conv/bias")(predict, variables, CROPS, LABELS)
    np.testing.assert_allclose(
        np.hypot(kernels, biases), reference_norms(predict, variables, ["conv"]), 1e-5
    )


def test_only_a_key_at_the_top_names_the_classifier():
    """There is a shift at such a key, whose gradient is the error, and a head below another."""

    def predict(variables, images):
        flat = images.reshape(len(images), -1)
        return flat @ variables["body"]["head"] + variables["classifier"]["bias"]

    variables = {
        "body": {"head": REGRESSION["kernel"]},
        "classifier": {"bias": REGRESSION["bias"]},
    }
    norms = GradientNorm(wrt="classifier")(predict, variables, CROPS, LABELS)
    error = el2n(softmax_regression, REGRESSION, CROPS, LABELS)
    np.testing.assert_allclose(norms, error, rtol=1e-5)


def test_one_compilation_serves_every_batch():
    traced = []

    def predict(variables, images):
        traced.append(images.shape)
        return softmax_regression(variables, images)

    for scale in (1, 2, 3):
        GradientNorm()(predict, REGRESSION, scale * CROPS, LABELS)
    assert len(traced) == 2  # for how many logits it has, and to be compiled


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


def test_a_confident_teacher_that_is_right_scores_zero_not_nan():
    def confident(variables, images):
        return 200.0 * jax.nn.one_hot(jnp.zeros(len(images), int), 5) * variables["gain"]

    variables, labels = {"gain": jnp.float32(1)}, np.zeros(7, int)
    for score in (GradientNorm(), el2n, cross_entropy):
        np.testing.assert_array_equal(score(confident, variables, CROPS, labels), np.zeros(7))
    np.testing.assert_allclose(el2n(confident, variables, CROPS, labels + 1), np.sqrt(2), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: GradientNorm("classifier")(softmax_regression, REGRESSION, CROPS, LABELS),
            "wrt selects none of the parameters; their paths are bias, kernel",
        ),
        (lambda: GradientNorm(wrt="last"), 'wrt is "last"; use "all", "classifier"'),
        (lambda: GradientNorm(microbatch_size=0), "microbatch_size is 0"),
    ],
)
def test_bad_input_is_told_in_a_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("names", [("linear", "linear_1"), ("fc", "fc1", "fc2")])
def test_the_first_of_several_of_a_name_is_no_classifier(names):
    """Haiku numbers all layers but the first."""
    variables = {name: rng.normal(size=(5, 5)).astype(np.float32) for name in names}
    variables |= {"first": rng.normal(size=(48, 5)).astype(np.float32)}

    def predict(variables, images):
        seen = images.reshape(len(images), -1) @ variables["first"]
        for name in names:
            seen = jnp.tanh(seen) @ variables[name]
        return seen

    with pytest.raises(InputError, match=f"and there are {', '.join(names)}: say which it is"):
        GradientNorm(wrt="classifier")(predict, variables, CROPS, LABELS)
    last = GradientNorm(wrt=lambda path: path == names[-1])
    assert (last(predict, variables, CROPS, LABELS) > 0).all()


@pytest.mark.parametrize(
    "function", [GradientNorm(), ShapleyMaps(ShapleyConfig(grid=2, budget=8, pilot=0)).prepared()]
)
def test_functions_run_inside_a_shard_map_that_checks_no_axes(function):
    """As docs/devices.md says."""
    images = jnp.asarray(CROPS[:4])
    labels = jnp.asarray(LABELS[:4])
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("images",))
    shared, whole = jax.sharding.PartitionSpec("images"), jax.sharding.PartitionSpec()
    mapped = jax.shard_map(
        lambda variables, *batch: function(softmax_regression, variables, *batch),
        mesh=mesh,
        in_specs=(whole, shared, shared),
        out_specs=shared,
        check_vma=False,
    )
    expected = function(softmax_regression, REGRESSION, images, labels)
    found = jax.jit(mapped)(REGRESSION, images, labels)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
