"""Norms by layers are those of `vmap(grad)`, for whatever loss."""

import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from infoutil_jax.gradients import gradient_norms, layerwise, register_linear

rng = np.random.default_rng(0)


def normal(*shape, scale=1.0):
    return jnp.asarray(scale * rng.normal(size=shape), jnp.float32)


def dense(params, x):
    return jnp.tanh(x @ params["a"]) @ params["b"]


def tied(params, x):
    return jnp.tanh(jnp.tanh(x @ params["a"]) @ params["a"].T)


def standardised(params, x):
    kernel = (params["a"] - params["a"].mean(0)) / params["a"].std(0)
    return x @ kernel


def turned(params, x):
    return jnp.einsum("pi,oi->po", x, params["b"].reshape(3, 6)) + params["bias"]


def decayed(params, x):
    return x @ params["a"] + (params["a"] ** 2).sum()


def looked_up(params, x):
    rows = jnp.take(params["a"], jnp.arange(3), axis=0)
    return x[:, :3] @ rows + params["a"][5]


def recurrent(params, x):
    def step(state, row):
        return jnp.tanh(state @ params["square"] + row), state

    return lax.scan(step, jnp.zeros(6), x)[0]


def chosen(params, x):
    return lax.cond(x.sum() > 0, lambda: x @ params["a"], lambda: x @ params["b"].T)


@jax.custom_vjp
def odd(x, w):
    return x @ w


odd.defvjp(lambda x, w: (x @ w, (x, w)), lambda saved, g: (g @ saved[1].T, jnp.sign(saved[1])))


def with_a_rule_of_its_own(params, x):
    return odd(x, params["a"])


@jax.custom_vjp
def dot_general(x, w):
    return x @ w


# Named as the primitive is, and not registered: it may say anything, and here it does.
dot_general.defvjp(lambda x, w: (x @ w, (x, w)), lambda saved, g: (g @ saved[1].T, saved[1] * 2))


def with_a_rule_of_the_primitives_name(params, x):
    return dot_general(x, params["a"])


@jax.custom_vjp
def product(x, w):
    return x @ w


product.defvjp(lambda x, w: (x @ w, (x, w)), lambda saved, g: (g @ saved[1].T, saved[0].T @ g))
register_linear(product)


def with_a_registered_rule(params, x):
    return product(x, params["a"])


@jax.custom_vjp
def bounded_product(x, w):
    return jnp.tanh(x @ w)


# Two primitives, and a rule that is theirs: registered in error, as it is no one layer.
bounded_product.defvjp(
    lambda x, w: (jnp.tanh(x @ w), (x, w)),
    lambda saved, g: jax.vjp(lambda x, w: jnp.tanh(x @ w), *saved)[1](g),
)
register_linear(bounded_product)


def with_a_rule_of_two_primitives(params, x):
    return bounded_product(x, params["a"])


def grouped(params, x):
    return jax.checkpoint(jax.jit(dense))(params, x)


def stopped(params, x):
    return lax.stop_gradient(x @ params["a"]) @ params["b"]


def attention(params, x):
    query, key = x @ params["a"], x @ params["b"].T
    return jax.nn.softmax(query @ key.T) @ x @ params["square"]


def convolved(params, x):
    image = x.reshape(1, 4, 6, 1)
    out = lax.conv_general_dilated(
        image, params["kernel"], (1, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jax.nn.relu(out) * params["bias"][:2]


def spread(params, x):
    return x @ jnp.broadcast_to(params["bias"], (6, 3))


def in_waves(params, x):
    """What the weight meets is complex, and its own gradient is real."""
    return jnp.abs(jnp.fft.fft(x) @ params["a"]) ** 2


def of_signs(params, x):
    return jnp.concatenate([(x > 0) @ params["a"], x.astype(jnp.int32) @ params["square"]], 1)


LOSSES = [
    *(dense, tied, standardised, turned, decayed, looked_up, recurrent, chosen),
    *(with_a_rule_of_its_own, with_a_rule_of_the_primitives_name, with_a_registered_rule),
    *(with_a_rule_of_two_primitives, grouped, stopped, attention, convolved, spread),
    *(in_waves, of_signs),
]
PARAMS = {
    "a": normal(6, 3),
    "b": normal(3, 6),
    "square": normal(6, 6, scale=0.4),
    "bias": normal(3),
    "kernel": normal(3, 3, 1, 2),
}


@pytest.mark.parametrize("model", LOSSES, ids=lambda model: model.__name__)
def test_any_use_of_a_parameter(model):
    def loss(params, example):
        return jnp.sin(model(params, example)).sum()

    batch = normal(5, 4, 6)
    expected = gradient_norms(loss, PARAMS, batch, method="vmap")
    np.testing.assert_allclose(gradient_norms(loss, PARAMS, batch), expected, rtol=1e-5)


def test_a_matrix_that_is_made_of_a_parameter_is_no_weight():
    """The gradient is 2x: it is the parameter's, and not that of the matrix that x meets."""
    batch = normal(5, 6)
    norms = layerwise.gradient_norms(lambda params, x: x @ (2 * params[0]), [normal(6)], batch)
    np.testing.assert_allclose(norms, 2 * np.linalg.norm(batch, axis=1), rtol=1e-6)


def test_a_layer_that_computes_in_half_precision_is_a_layer():
    """Its parameter is there in another precision: no example's gradient is formed for that."""

    def loss(params, x):
        return jnp.sin(x.astype(jnp.bfloat16) @ params.astype(jnp.bfloat16)).sum()

    params, batch = normal(512, 513), normal(2, 3, 512)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        norms = gradient_norms(loss, params, batch)
    # vmap rounds each example's gradient to half precision, which has eight bits.
    np.testing.assert_allclose(norms, gradient_norms(loss, params, batch, method="vmap"), 1e-2)


@pytest.mark.parametrize(
    "layer",
    [
        lambda x, w: x @ w.reshape(512, 513),
        lambda x, w: x @ w.T,
        lambda x, w: x @ jnp.squeeze(jnp.expand_dims(w, 1), 1).T,
        lambda x, w: x @ lax.rev(w, (0,)).T,
        jax.jit(lambda x, w: x @ w.T),
        jax.checkpoint(lambda x, w: x @ w.T),
    ],
    ids=["reshaped", "transposed", "expanded and squeezed", "reversed", "jit", "checkpoint"],
)
def test_where_entries_move_or_equations_are_grouped_a_layer_is_a_layer(layer):
    """Its gradient has the norm of that of the matrix which is multiplied: none is formed."""

    def loss(params, x):
        return jnp.sin(layer(x, params)).sum()

    params, batch = normal(513, 512), normal(2, 3, 512)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        norms = gradient_norms(loss, params, batch)
    np.testing.assert_allclose(norms, gradient_norms(loss, params, batch, method="vmap"), 1e-4)


def test_a_loss_that_no_example_changes():
    norms = gradient_norms(
        lambda params, x: 3 * params["w"].sum(), {"w": jnp.ones(4)}, normal(3, 2)
    )
    np.testing.assert_allclose(norms, [6, 6, 6])
    norms = gradient_norms(lambda params, x: x.sum(), {"w": jnp.ones(4)}, normal(3, 2))
    np.testing.assert_array_equal(norms, [0, 0, 0])


def test_linen_modules_go_by_layers_too():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(300, (3, 3))(x))
            x = nn.MultiHeadDotProductAttention(num_heads=4, qkv_features=512)(x.reshape(16, 300))
            return nn.Dense(1000)(nn.LayerNorm()(x.ravel()))

    net, images = Net(), normal(2, 4, 4, 3)
    params = net.init(jax.random.key(0), images[0])

    def loss(params, image):
        return jax.nn.logsumexp(net.apply(params, image))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        norms = gradient_norms(loss, params, images)
    np.testing.assert_allclose(norms, gradient_norms(loss, params, images, method="vmap"), 1e-5)


def wide(params, x):
    return jnp.sin(jnp.sin(x @ params["in"]) @ params["out"]).sum()


def test_memory_does_not_grow_with_batch_times_parameters():
    params = {"in": jnp.ones((32, 1024)), "out": jnp.ones((1024, 1024))}

    def memory(batch, method):
        norms = jax.jit(lambda p, x: gradient_norms(wide, p, x, method=method))
        compiled = norms.lower(params, jnp.ones((batch, 32))).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    parameters = 4 * 1056 * 1024
    assert memory(64, "layerwise") < parameters < memory(64, "vmap") / 10


def test_what_is_formed_whole_is_told_once():
    def shared(params, x):
        return jnp.sin(jnp.sin(x @ params) @ params).sum()

    params, batch = jnp.ones((512, 512)), jnp.ones((2, 512))
    with pytest.warns(UserWarning, match=r"parameters of 512×512.*microbatch_size bounds"):
        gradient_norms(shared, params, batch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradient_norms(shared, 2 * params, batch)
        gradient_norms(lambda params, x: jnp.sin(x @ params).sum(), params, batch)


def test_equations_of_groups_are_read_once_each():
    # The same inner function, called twice, is two layers with two weights.
    inner = jax.jit(lambda w, x: jnp.tanh(x @ w))

    def loss(params, x):
        return inner(params["square"], inner(params["again"], x)).sum()

    params, batch = {"square": normal(6, 6), "again": normal(6, 6)}, normal(4, 2, 6)
    leaves, tree = jax.tree.flatten(params)
    norms = layerwise.gradient_norms(
        lambda leaves, x: loss(jax.tree.unflatten(tree, leaves), x), leaves, batch
    )
    np.testing.assert_allclose(norms, gradient_norms(loss, params, batch, method="vmap"), 1e-5)


@pytest.mark.parametrize(("product", "formed"), [(product, False), (dot_general, True)])
def test_only_a_registered_rule_is_seen_through(product, formed):
    """Of any other the example's own gradient is formed, whatever the rule is called."""

    def loss(params, x):
        return jnp.sin(product(x, params)).sum()

    params, batch = jnp.ones((512, 513)), jnp.ones((2, 3, 512))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        norms = gradient_norms(loss, params, batch)
    assert any("forms every example's gradient" in str(one.message) for one in told) == formed
    np.testing.assert_allclose(norms, gradient_norms(loss, params, batch, method="vmap"), 1e-4)
