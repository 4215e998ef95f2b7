"""The gradient norm of one layer's weights, from its input and its output's cotangent. JAX.

A dense layer, and a convolution place by place of its kernel, multiply rows x, P of them, with a
weight of K by N. With g the cotangent of what comes out, the weight's gradient is x^T g, and

    ||x^T g||^2 = sum_pq (x x^T)_pq (g g^T)_pq

(Goodfellow, arXiv 1510.01799; for convolutions Rochette et al., arXiv 1912.06015). The left side
costs P K N products, the right side P^2 (K + N). The rows are reflected first (`_turned`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

# Windows of so few channels are put side by side, for a product of its own is not worth it.
_FEW_CHANNELS = 32


@dataclass(frozen=True)
class Layer:
    """A layer that is linear in a weight."""

    rows: Callable[[Array], Sequence[Array]]
    """The input of an example -> x `[groups, P, K]`, in pieces that stand side by side."""
    columns: Callable[[Array], Array]
    """The cotangent of its output -> g `[groups, P, N]`."""

    def norm(self, inputs: Float[Array, "..."], cotangent: Float[Array, "..."]) -> Array:
        """Norm of the weight's gradient, for one example."""
        x_scale, g_scale = scale_of(inputs), scale_of(cotangent)
        pieces, g = self.rows(inputs / x_scale), self.columns(cotangent / g_scale)
        length, columns = g.shape[1:]
        width = sum(piece.shape[-1] for piece in pieces)
        wide = jnp.promote_types(g.dtype, jnp.float32)
        product = partial(jnp.einsum, preferred_element_type=wide)
        # Half as many products are not worth the cancellation that they bring.
        if 2 * length * (width + columns) < width * columns:
            if g.dtype == wide:  # in half precision turning rounds more than it saves
                pieces, g = [_turned(piece.astype(wide)) for piece in pieces], _turned(g)
            left = sum(product("gpi,gqi->gpq", piece, piece) for piece in pieces)
            square = jnp.maximum((left * product("gpo,gqo->gpq", g, g)).sum(), 0)
        else:
            gradients = [product("gpi,gpo->gio", piece, g) for piece in pieces]
            square = jnp.stack([jnp.square(part).sum() for part in gradients]).sum()
        return x_scale.astype(wide) * g_scale.astype(wide) * jnp.sqrt(square)


def _turned(rows: Array) -> Array:
    """The P rows `[groups, P, K]` reflected so that equal ones become one row and zeros.

    The reflection swaps the direction of equal rows with the first axis. What two arrays that are
    both turned have in common stays, x^T g among it; rows that are nearly alike, with cotangents
    that sum to nearly nothing, no longer cancel in the sum over pairs.
    """
    root = math.sqrt(rows.shape[1])
    common = root * rows.mean(1, keepdims=True)
    others = rows[:, 1:] - (common + rows[:, :1]) / (root + 1)
    return jnp.concatenate([-common, others], 1)


def norm(leaves: Sequence[Array]) -> Array:
    """2-norm over all entries, at least in float32, scaled so that squares stay in range."""
    wide = [leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) for leaf in leaves]
    scale = scale_of(jnp.stack([jnp.abs(leaf).max(initial=0) for leaf in wide]))
    return scale * jnp.sqrt(sum(jnp.square(leaf / scale).sum() for leaf in wide))


def scale_of(values: Array) -> Array:
    """A power of two near the largest entry; dividing by it is exact."""
    largest = jnp.abs(values).max(initial=0)
    _, exponent = jnp.frexp(largest)
    # XLA multiplies with its inverse, and takes an inverse below the least normal number for zero.
    kind = jnp.finfo(largest.dtype)
    exponent = jnp.clip(exponent, kind.minexp, kind.maxexp - 2)
    # Not exp2, which is off by some of the last bits.
    power = jnp.ldexp(jnp.ones_like(largest), exponent)
    return jnp.where(jnp.isfinite(largest), power, 1)


_REGISTERED: set[Any] = set()


def register_linear(function: Any) -> Any:
    """Lets the fast path see through a custom rule that only computes its derivative another way.

    `function` is a `jax.custom_vjp` (after `defvjp`) that computes one primitive, a product or a
    convolution, and whose backward rule has the value of that primitive's own derivative. Its
    weights' norms then come from `Layer`, as those of the primitive do; of a function that is not
    registered each example's gradient is formed, which is slower and right for any rule.

    Returns:
        `function`.
    """
    _REGISTERED.add(function.bwd)
    return function


def is_registered(rule: Any) -> bool:
    """Whether a backward rule, as an equation of a jaxpr holds it, is of a registered function."""
    return getattr(rule, "f", rule) in _REGISTERED


def recognise(
    primitive: str, options: Mapping[str, Any], shapes: Sequence[tuple[int, ...]], weight: int
) -> Layer | None:
    """The layer that an equation computes; None if it is none.

    Args:
        primitive: its name.
        options: its parameters.
        shapes: of its two inputs and its output.
        weight: which input is the weight.
    """
    if primitive == "dot_general":
        return _dense(options["dimension_numbers"], shapes, weight)
    if primitive == "conv_general_dilated" and weight == 1:
        return _convolution(options, shapes)
    return None


Shapes = Sequence[tuple[int, ...]]


def _dense(numbers: Any, shapes: Shapes, weight: int) -> Layer:
    contracted, batched = numbers
    rank = len(shapes[1 - weight])
    summed, shared = contracted[1 - weight], batched[1 - weight]
    free = [axis for axis in range(rank) if axis not in (*summed, *shared)]
    groups = math.prod(shapes[1 - weight][axis] for axis in shared)
    length = math.prod(shapes[1 - weight][axis] for axis in free)

    def rows(x: Array) -> list[Array]:
        return [x.transpose(*shared, *free, *summed).reshape(groups, length, -1)]

    def columns(g: Array) -> Array:
        if weight == 1:
            return g.reshape(groups, length, -1)
        return g.reshape(groups, -1, length).swapaxes(1, 2)

    return Layer(rows, columns)


def _convolution(options: Mapping[str, Any], shapes: Shapes) -> Layer | None:
    if options["batch_group_count"] != 1 or any(d != 1 for d in options["lhs_dilation"]):
        return None
    numbers, groups = options["dimension_numbers"], options["feature_group_count"]
    strides, dilation = options["window_strides"], options["rhs_dilation"]
    padding = [(0, 0, 0), *((*pair, 0) for pair in options["padding"]), (0, 0, 0)]
    kernel = [shapes[1][axis] for axis in numbers.rhs_spec[2:]]
    out = [shapes[2][axis] for axis in numbers.out_spec[2:]]

    def last(array: Array, spec: Sequence[int]) -> Array:  # examples, space, channels
        return array.transpose(spec[0], *spec[2:], spec[1])

    def grouped(array: Array) -> Array:
        return array.reshape(-1, groups, array.shape[-1] // groups).swapaxes(0, 1)

    def rows(x: Array) -> list[Array]:
        x = lax.pad(last(x, numbers.lhs_spec), jnp.zeros((), x.dtype), padding)
        pieces = []
        for place in itertools.product(*map(range, kernel)):
            starts = [at * step for at, step in zip(place, dilation, strict=True)]
            stops = [a + (n - 1) * s + 1 for a, n, s in zip(starts, out, strides, strict=True)]
            window = lax.slice(x, (0, *starts, 0), (len(x), *stops, x.shape[-1]), (1, *strides, 1))
            pieces.append(grouped(window))
        few = pieces[0].shape[-1] < _FEW_CHANNELS
        return [jnp.concatenate(pieces, -1)] if few else pieces

    return Layer(rows, lambda g: grouped(last(g, numbers.out_spec)))
