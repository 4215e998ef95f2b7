import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from infoutil_jax.models.convolution import conv

NHWC = lax.conv_dimension_numbers((1, 8, 8, 1), (3, 3, 1, 1), ("NHWC", "HWIO", "NHWC"))


def data(height=9, width=7, kernel=(3, 3), channels=3, out=4):
    keys = jax.random.split(jax.random.key(0), 3)
    images = jax.random.normal(keys[0], (2, height, width, channels))
    weights = jax.random.normal(keys[1], (*kernel, channels, out))
    return images, weights


def value(function, strides, padding):
    """A scalar with nonzero second derivatives in both arguments."""
    return lambda x, w: jnp.sum(
        jnp.sin(function(x, w, strides, padding, dimension_numbers=NHWC)) ** 2
    )


@pytest.mark.parametrize(
    ("kernel", "strides", "padding"),
    [
        ((3, 3), (1, 1), "SAME"),
        ((3, 3), (2, 2), "SAME"),
        ((1, 1), (2, 2), "VALID"),
        ((3, 2), (1, 2), "VALID"),
        ((5, 4), (3, 1), ((2, 0), (1, 3))),
        ((7, 7), (2, 2), ((3, 3), (3, 3))),
    ],
)
def test_values_and_gradients_are_laxs(kernel, strides, padding):
    images, weights = data(kernel=kernel)
    ours = jax.value_and_grad(value(conv, strides, padding), (0, 1))(images, weights)
    reference = jax.value_and_grad(value(lax.conv_general_dilated, strides, padding), (0, 1))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4),
        ours,
        reference(images, weights),
    )


@pytest.mark.parametrize("wrap", [jax.jit, lambda f: lambda *a: scanned(f, *a)])
@pytest.mark.parametrize(("strides", "padding"), [((1, 1), "SAME"), ((1, 2), ((1, 1), (0, 1)))])
def test_each_channel_by_itself(strides, padding, wrap):
    images, weights = data(channels=5)
    weights = weights[:, :, :1, :1] * jnp.arange(1.0, 6)

    def both(function):
        def total(x, w):
            options = {"dimension_numbers": NHWC, "feature_group_count": 5}
            return jnp.sum(jnp.sin(function(x, w, strides, padding, **options)) ** 2)

        return jax.value_and_grad(total, (0, 1))

    expected = jax.jit(both(lax.conv_general_dilated))(images, weights)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4),
        wrap(both(conv))(images, weights),
        expected,
    )


def scanned(function, *arguments):
    """Its result inside of a scan."""
    _, results = lax.scan(lambda carry, _: (carry, function(*arguments)), 0, None, length=2)
    return jax.tree.map(lambda leaf: leaf[1], results)


def test_each_channel_in_half_precision_is_summed_in_single():
    images, weights = (a.astype(jnp.bfloat16) for a in data(kernel=(5, 5), channels=8, out=8))
    options = {"dimension_numbers": NHWC, "feature_group_count": 8}
    weights = weights[:, :, :1]
    exact = conv(images.astype(jnp.float32), weights.astype(jnp.float32), (1, 1), "SAME", **options)
    ours = conv(images, weights, (1, 1), "SAME", **options)
    assert ours.dtype == jnp.bfloat16
    np.testing.assert_array_equal(ours, exact.astype(jnp.bfloat16))


@pytest.mark.parametrize(
    ("strides", "padding"), [((1, 1), "SAME"), ((1, 1), ((2, 0), (1, 1))), ((1, 2), "VALID")]
)
@pytest.mark.parametrize("wrap", [jax.jit, lambda f: lambda *a: scanned(f, *a)])
def test_derivatives_of_the_second_and_third_order_are_laxs(wrap, strides, padding):
    """Of either argument, and mixed: a student's gradient, differentiated in its images."""
    images, weights = data(height=5, width=4)
    along = [
        jnp.cos(jnp.arange(a.size, dtype=jnp.float32)).reshape(a.shape) for a in (images, weights)
    ]

    def higher(function):
        derivative = value(function, strides, padding)
        found = []
        for _ in range(2):
            before = derivative

            def derivative(x, w, before=before):
                gradients = jax.grad(before, (0, 1))(x, w)
                return sum(jnp.vdot(g, a) for g, a in zip(gradients, along, strict=True))

            found.append(jax.grad(derivative, (0, 1)))
        return lambda x, w: [gradient(x, w) for gradient in found]

    expected = jax.jit(higher(lax.conv_general_dilated))(images, weights)
    for ours, theirs in zip(
        *map(jax.tree.leaves, (wrap(higher(conv))(images, weights), expected)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * float(jnp.abs(theirs).max()))


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_vmapped_gradients(axes):
    images, weights = data()
    stack = [
        jnp.stack([a, 2 * a]) if ax == 0 else a
        for a, ax in zip((images, weights), axes, strict=True)
    ]
    got = jax.vmap(jax.grad(value(conv, (1, 1), "SAME"), 1), axes)(*stack)
    for i in range(2):
        one = [a[i] if ax == 0 else a for a, ax in zip(stack, axes, strict=True)]
        expected = jax.grad(value(lax.conv_general_dilated, (1, 1), "SAME"), 1)(*one)
        np.testing.assert_allclose(got[i], expected, rtol=2e-4, atol=2e-4)


def test_in_a_scan():
    images, weights = data()

    def descend(function):
        step = jax.grad(value(function, (1, 1), "SAME"), 1)
        return lax.scan(lambda w, _: (w - 1e-3 * step(images, w), None), weights, length=3)[0]

    np.testing.assert_allclose(descend(conv), descend(lax.conv_general_dilated), atol=1e-5)


def test_what_it_does_not_cover_is_passed_on():
    images = jnp.ones((1, 6, 6, 4))
    for options in (
        {"feature_group_count": 2},
        {"kernel_dilation": 2},
        {"input_dilation": 2, "padding": 1},
    ):
        ours = nnx.Conv(4, 4, (3, 3), conv_general_dilated=conv, rngs=nnx.Rngs(0), **options)
        reference = nnx.Conv(4, 4, (3, 3), rngs=nnx.Rngs(0), **options)
        np.testing.assert_array_equal(ours(images), reference(images))
    assert nnx.Conv(4, 2, (3,), conv_general_dilated=conv, rngs=nnx.Rngs(0))(
        jnp.ones((1, 6, 4))
    ).shape == (1, 6, 2)
