"""The norm of one layer's weight gradient, against JAX's own gradient."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from infoutil_jax.gradients.linear_layers import norm, recognise, scale_of

rng = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def check(layer, run, inputs, weight):
    """`run(inputs, weight)`: its weight's gradient has the norm that the layer tells."""
    out, pull = jax.vjp(lambda weight: run(inputs, weight), weight)
    cotangent = normal(*out.shape)
    (gradient,) = pull(cotangent)
    expected = jnp.linalg.norm(gradient.ravel())
    np.testing.assert_allclose(layer.norm(inputs, cotangent), expected, rtol=1e-5)


# Axes of a product are batched, contracted or free; any of them can stand anywhere, or be absent.
@settings(max_examples=6, deadline=None)
@given(st.data())
def test_any_product_of_two_arrays(data):
    sizes = st.integers(1, 5)
    shared, summed, rows, columns = (
        data.draw(st.lists(sizes, max_size=2), label=what)
        for what in ("shared", "summed", "rows", "columns")
    )
    x_axes = data.draw(st.permutations(range(len(shared + summed + rows))))
    w_axes = data.draw(st.permutations(range(len(shared + summed + columns))))
    x = normal(*(np.array(shared + summed + rows, int)[list(x_axes)]))
    w = normal(*(np.array(shared + summed + columns, int)[list(w_axes)]))

    def places(axes, start, count):
        return tuple(list(axes).index(axis) for axis in range(start, start + count))

    batch = [places(axes, 0, len(shared)) for axes in (x_axes, w_axes)]
    contract = [places(axes, len(shared), len(summed)) for axes in (x_axes, w_axes)]
    for weight in (0, 1):
        turn = (lambda pair: tuple(pair[::-1])) if weight == 0 else tuple
        numbers = (turn(contract), turn(batch))

        def run(x, w, numbers=numbers, weight=weight):
            return lax.dot_general(*((x, w) if weight else (w, x)), numbers)

        shapes = [*((x.shape, w.shape) if weight else (w.shape, x.shape)), run(x, w).shape]
        layer = recognise("dot_general", {"dimension_numbers": numbers}, shapes, weight)
        check(layer, run, x, w)


@pytest.mark.parametrize(
    ("x", "w", "numbers", "gradient"),
    [
        # Tokens of several sentences, and one weight: the input has more axes.
        ((2, 3, 4), (4, 5), (((2,), (0,)), ((), ())), "abk,abn->kn"),
        # A vector, and a weight that maps it to a matrix: the weight has more.
        ((4,), (4, 2, 5), (((0,), (0,)), ((), ())), "k,mn->kmn"),
        # A weight for each group, whose axis is not the input's first.
        ((3, 2, 4), (2, 4, 5), (((2,), (1,)), ((1,), (0,))), "agk,gan->gkn"),
    ],
)
def test_products_of_arrays_of_different_ranks_in_closed_form(x, w, numbers, gradient):
    x, w = normal(*x), normal(*w)
    g = normal(*jax.eval_shape(lambda: lax.dot_general(x, w, numbers)).shape)
    options, shapes = {"dimension_numbers": numbers}, [x.shape, w.shape, g.shape]
    expected = np.linalg.norm(np.einsum(gradient, x, g).ravel())
    np.testing.assert_allclose(
        recognise("dot_general", options, shapes, 1).norm(x, g), expected, rtol=1e-5
    )


def test_a_depthwise_convolution_correlates_each_channel_by_itself():
    x, g = normal(2, 9, 3), normal(2, 7, 3)  # examples, places, channels
    numbers = lax.conv_dimension_numbers(x.shape, (3, 1, 3), ("NWC", "WIO", "NWC"))
    options = {
        **{"dimension_numbers": numbers, "feature_group_count": 3, "batch_group_count": 1},
        **{"window_strides": (1,), "padding": ((0, 0),)},
        **{"lhs_dilation": (1,), "rhs_dilation": (1,)},
    }
    layer = recognise("conv_general_dilated", options, [x.shape, (3, 1, 3), g.shape], 1)
    gradient = [(x[:, start : start + 7] * g).sum((0, 1)) for start in range(3)]
    np.testing.assert_allclose(layer.norm(x, g), np.linalg.norm(np.array(gradient)), rtol=1e-5)


@settings(max_examples=6, deadline=None)
@given(
    space=st.lists(st.integers(5, 8), min_size=1, max_size=2),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    padding=st.sampled_from(["SAME", "VALID", 2]),
    groups=st.sampled_from([1, 2, 4]),
    examples=st.integers(1, 3),
    width=st.sampled_from([4, 128]),  # few channels stand side by side, many do not
    first=st.booleans(),
)
def test_any_convolution(space, kernel, stride, dilation, padding, groups, examples, width, first):
    rank, letters = len(space), "HW"[: len(space)]
    numbers = lax.conv_dimension_numbers(
        (examples, width, *space) if first else (examples, *space, width),
        (*[kernel] * rank, width // groups, 8),
        (f"NC{letters}", f"{letters}IO", f"NC{letters}")
        if first
        else (f"N{letters}C", f"{letters}IO", f"N{letters}C"),
    )
    x = normal(*((examples, width, *space) if first else (examples, *space, width)))
    w = normal(*[kernel] * rank, width // groups, 8)
    pads = [(padding, padding - 1)] * rank if isinstance(padding, int) else padding

    def run(x, w):
        return lax.conv_general_dilated(
            x,
            w,
            [stride] * rank,
            pads,
            rhs_dilation=[dilation] * rank,
            dimension_numbers=numbers,
            feature_group_count=groups,
        )

    (equation,) = jax.make_jaxpr(run)(x, w).jaxpr.eqns
    shapes = [atom.aval.shape for atom in (*equation.invars, *equation.outvars)]
    check(recognise(equation.primitive.name, equation.params, shapes, 1), run, x, w)


def test_what_is_not_linear_in_one_weight_is_no_layer():
    def transposed(x, w):
        return lax.conv_transpose(x, w, (2, 2), "SAME")

    (equation,) = jax.make_jaxpr(transposed)(normal(1, 4, 4, 2), normal(3, 3, 2, 2)).jaxpr.eqns
    shapes = [atom.aval.shape for atom in (*equation.invars, *equation.outvars)]
    assert recognise(equation.primitive.name, equation.params, shapes, 1) is None
    assert recognise("mul", {}, shapes, 1) is None


def test_of_a_convolution_the_kernel_is_the_weight_and_not_the_image():
    """An image that is learnt, as in an attack on a network, is no weight of a layer."""

    def convolved(x, w):
        return lax.conv(x, w, (1, 1), "SAME")

    (equation,) = jax.make_jaxpr(convolved)(normal(1, 2, 4, 4), normal(2, 2, 3, 3)).jaxpr.eqns
    shapes = [atom.aval.shape for atom in (*equation.invars, *equation.outvars)]
    assert recognise(equation.primitive.name, equation.params, shapes, 1) is not None
    assert recognise(equation.primitive.name, equation.params, shapes, 0) is None


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1.0, 1e12, 1e30])
@pytest.mark.parametrize("length", [1, 50])  # by the product of rows, and by the gradient
def test_squares_keep_their_range(size, length):
    x = normal(length, 16)
    numbers = (((1,), (0,)), ((), ()))
    shapes = [(length, 16), (16, 16), (length, 16)]
    layer = recognise("dot_general", {"dimension_numbers": numbers}, shapes, 1)
    g = normal(length, 16)
    expected = np.linalg.norm(np.asarray(x, np.float64).T @ np.asarray(g, np.float64))
    np.testing.assert_allclose(layer.norm(x, size * g) / size, expected, rtol=1e-5)
    np.testing.assert_allclose(layer.norm(size * x, g) / size, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        *itertools.product(["float32", "bfloat16"], [1.5e-38, 1e-9, 1.0, 1e38, 3.3e38]),
        *itertools.product(["float16"], [1e-4, 1.0, 6e4]),
    ],
)
def test_dividing_by_the_scale_is_exact_up_to_the_largest_numbers(kind, size):
    """XLA multiplies with the inverse, which must not be below the least normal number."""
    values = jnp.asarray([size, -0.9 * size], kind)
    scale = scale_of(values)
    scaled = np.asarray(values / scale, np.float64)
    assert 0.5 <= scaled[0] < 4
    np.testing.assert_array_equal(scaled * float(scale), np.asarray(values, np.float64))


def test_rows_that_cancel_have_next_to_no_norm():
    """Rounding makes the sum of products of rows negative about as often as positive."""
    x, g = rng.normal(size=(2, 32, 64)).astype(np.float32)
    rows, columns = np.stack([x, -x / 3], 1), np.stack([g, 3 * g], 1)
    shapes = [(2, 64), (64, 64), (2, 64)]
    layer = recognise("dot_general", {"dimension_numbers": (((1,), (0,)), ((), ()))}, shapes, 1)
    size = np.linalg.norm(x, axis=1) * np.linalg.norm(g, axis=1)
    assert (jax.jit(jax.vmap(layer.norm))(rows, columns) <= 2e-3 * size).all()


def test_rows_that_are_nearly_alike_do_not_cancel_cotangents_that_sum_to_nothing():
    """A constant image under attention, say."""
    places, width = 16, 256
    x = (rng.normal(size=(1, width)) + 1e-3 * rng.normal(size=(places, width))).astype(np.float32)
    g = rng.normal(size=(places, width)).astype(np.float32)
    g -= g.mean(0)
    shapes = [x.shape, (width, width), g.shape]
    layer = recognise("dot_general", {"dimension_numbers": (((1,), (0,)), ((), ()))}, shapes, 1)
    expected = np.linalg.norm(x.astype(np.float64).T @ g)
    found = layer.norm(jnp.asarray(x), jnp.asarray(g))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_an_array_without_entries_adds_nothing_to_a_norm_however_small():
    np.testing.assert_allclose(norm([jnp.zeros(0), jnp.array([3e-30, 4e-30])]), 5e-30, rtol=1e-6)


@pytest.mark.parametrize("compiled", [jax.jit, lambda function: function])
def test_numbers_near_the_largest_have_a_norm(compiled):
    np.testing.assert_allclose(compiled(norm)([jnp.full(4, 1e38)]), 2e38, rtol=1e-6)


def test_half_precision_is_summed_in_single():
    x, g = jnp.full((4096, 1), 1.0, jnp.bfloat16), jnp.full((4096, 1), 1.0, jnp.bfloat16)
    shapes = [(4096, 1), (1, 1), (4096, 1)]
    layer = recognise("dot_general", {"dimension_numbers": (((1,), (0,)), ((), ()))}, shapes, 1)
    assert layer.norm(x, g).dtype == jnp.float32
    np.testing.assert_allclose(layer.norm(x, g), 4096)
    np.testing.assert_allclose(norm([x, 2 * g]), 64 * np.sqrt(5), rtol=1e-6)
