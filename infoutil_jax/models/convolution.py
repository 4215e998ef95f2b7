"""A 2-d convolution whose weight gradient is fast on CPUs as well (JAX).

Inside `lax.scan` and `lax.while_loop`, XLA's CPU backend runs the convolution that is a weight
gradient through a generic loop, tens of times slower than outside of it; and our training loops
are scans. The same gradient as one matrix product per kernel row does not suffer from that. On
every other platform the gradient stays XLA's own.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_NHWC = lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
_Padding = tuple[tuple[int, int], tuple[int, int]]


def conv(
    lhs: Float[Array, "..."],
    rhs: Float[Array, "..."],
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
    **options: Any,
) -> Float[Array, "..."]:
    """`jax.lax.conv_general_dilated`, same arguments and result, for `nnx.Conv`.

    Covered are 2-d convolutions on NHWC images without groups and dilation, any kernel size,
    stride and padding; everything else is passed to `jax.lax.conv_general_dilated` as it is.
    Reverse-mode differentiation of any order, `vmap` and `scan` work; forward-mode (`jax.jvp`)
    does not, for it is not defined through `jax.custom_vjp`.

    Args:
        lhs: images `[batch, height, width, in]`.
        rhs: kernel `[kernel height, kernel width, in, out]`.
        window_strides: pixels between two windows, per axis.
        padding: `"SAME"`, `"VALID"` or `((top, bottom), (left, right))`.
        lhs_dilation: as in `jax.lax.conv_general_dilated`.
        rhs_dilation: as in `jax.lax.conv_general_dilated`.
        dimension_numbers: as in `jax.lax.conv_general_dilated`.
        feature_group_count: as in `jax.lax.conv_general_dilated`.
        precision: as in `jax.lax.conv_general_dilated`.
        **options: further arguments of `jax.lax.conv_general_dilated`.

    Returns:
        `[batch, height', width', out]`.
    """
    dilations = (*(lhs_dilation or ()), *(rhs_dilation or ()))
    plain = (
        lhs.ndim == 4
        and dimension_numbers == _NHWC
        and feature_group_count == 1
        and all(dilation == 1 for dilation in dilations)
        and all(option is None for option in options.values())
    )
    if not plain:
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            dimension_numbers,
            feature_group_count,
            precision=precision,
            **options,
        )
    strides = (window_strides[0], window_strides[1])
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], strides, padding)
    (top, bottom), (left, right) = padding
    return _conv(lhs, rhs, strides, ((top, bottom), (left, right)), precision)


def _forward(lhs, rhs, strides, padding, precision):
    return lax.conv_general_dilated(
        lhs, rhs, strides, padding, dimension_numbers=_NHWC, precision=precision
    )


def _weight_gradient_by_rows(lhs, cotangent, kernel_shape, strides, padding, precision):
    """Kernel gradient, a matrix product for each kernel row.

    Rows rather than the whole window: three times the images in memory instead of nine for a
    3×3 kernel, and the faster of the two.
    """
    kernel_height, kernel_width, in_channels, out_channels = kernel_shape
    out_height, out_width = cotangent.shape[1:3]
    padded = lax.pad(
        lhs, jnp.zeros((), lhs.dtype), ((0, 0, 0), (*padding[0], 0), (*padding[1], 0), (0, 0, 0))
    )
    last_column, last_row = (out_width - 1) * strides[1] + 1, (out_height - 1) * strides[0] + 1
    columns = jnp.concatenate(
        [padded[:, :, j : j + last_column : strides[1]] for j in range(kernel_width)], axis=-1
    )
    flat = cotangent.reshape(-1, out_channels)
    rows = [
        lax.dot_general(
            columns[:, i : i + last_row : strides[0]].reshape(-1, kernel_width * in_channels),
            flat,
            (((0,), (0,)), ((), ())),
            precision=precision,
        )
        for i in range(kernel_height)
    ]
    return jnp.stack(rows).reshape(kernel_shape)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv(lhs, rhs, strides, padding, precision):
    return _forward(lhs, rhs, strides, padding, precision)


def _conv_fwd(lhs, rhs, strides, padding, precision):
    return _forward(lhs, rhs, strides, padding, precision), (lhs, rhs)


def _conv_bwd(strides, padding, precision, residuals, cotangent):
    lhs, rhs = residuals
    _, input_vjp = jax.vjp(lambda x: _forward(x, rhs, strides, padding, precision), lhs)

    def ordinary(x, g):
        _, vjp = jax.vjp(lambda w: _forward(x, w, strides, padding, precision), rhs)
        return vjp(g)[0]

    def by_rows(x, g):
        return _weight_gradient_by_rows(x, g, rhs.shape, strides, padding, precision)

    weight = lax.platform_dependent(lhs, cotangent, cpu=by_rows, default=ordinary)
    return input_vjp(cotangent)[0], weight


_conv.defvjp(_conv_fwd, _conv_bwd)
