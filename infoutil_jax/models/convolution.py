"""A 2-d convolution whose gradients are fast on CPUs, too (JAX).

Inside `lax.scan` and `lax.while_loop`, XLA's CPU backend runs the convolution that is a weight
gradient through a generic loop, tens of times slower than outside of it; and our training loops
are scans. Written as matrix products, the same gradient stays fast. The gradient of the images is
five times faster when it is written as an ordinary convolution. On every other platform the
gradients are XLA's own.

Each of the three maps, a convolution and the gradients of its two arguments, is linear in each of
its arguments, and the other two are its derivatives: so those of any order are fast.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from infoutil_jax.gradients import register_linear

_NHWC = lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
_COVERED = {
    "lhs_dilation",
    "rhs_dilation",
    "dimension_numbers",
    "feature_group_count",
    "precision",
}
IN_CACHE = 2**19  # numbers
_Pair = tuple[int, int]
_Padding = tuple[_Pair, _Pair]
_Margins = Sequence[_Pair]


def conv(
    lhs: Float[Array, "..."],
    rhs: Float[Array, "..."],
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **options: Any,
) -> Float[Array, "..."]:
    """Computes `jax.lax.conv_general_dilated`, for `nnx.Conv`; same arguments and result.

    It covers 2-d convolutions of NHWC images without dilation, with any kernel size, stride and
    padding, either without groups or with each channel by itself; it passes everything else on
    to `jax.lax.conv_general_dilated`.
    Reverse-mode differentiation of any order, `vmap` and `scan` work; forward-mode (`jax.jvp`)
    does not, because `jax.custom_vjp` does not define it.

    Args:
        lhs: images `[batch, height, width, in]`.
        rhs: kernel `[kernel height, kernel width, in, out]`.
        window_strides: pixels between two windows, per axis.
        padding: `"SAME"`, `"VALID"` or `((top, bottom), (left, right))`.
        **options: further arguments of `jax.lax.conv_general_dilated`, by name.

    Returns:
        `[batch, height', width', out]`.
    """
    groups = options.get("feature_group_count", 1)
    precision = options.get("precision")
    dilations = [n for name in ("lhs_dilation", "rhs_dilation") for n in options.get(name) or ()]
    plain = (
        lhs.ndim == 4
        and options.get("dimension_numbers") == _NHWC
        and (groups == 1 or lhs.shape[3] == groups == rhs.shape[3])
        and all(dilation == 1 for dilation in dilations)
        and all(options[name] is None for name in options.keys() - _COVERED)
    )
    if not plain:
        return lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)
    strides = (window_strides[0], window_strides[1])
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], strides, padding)
    (top, bottom), (left, right) = padding
    if groups > 1:
        return _depthwise(lhs, rhs, strides, ((top, bottom), (left, right)), precision)
    return conv_general_dilated(lhs, rhs, strides, ((top, bottom), (left, right)), precision)


def _forward(
    lhs: Array, rhs: Array, strides: _Pair, padding: _Margins, precision: Any, groups: int = 1
) -> Array:
    return lax.conv_general_dilated(
        lhs,
        rhs,
        strides,
        padding,
        dimension_numbers=_NHWC,
        feature_group_count=groups,
        precision=precision,
    )


def _depthwise(lhs: Array, rhs: Array, strides: _Pair, padding: _Padding, precision: Any) -> Array:
    """Each channel with a kernel of its own."""

    def on_cpu(x: Array, w: Array) -> Array:
        # Summed in float32, as a convolution is.
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        windows = _places(wide, w.shape[:2], out.shape[1:3], strides, padding)
        places = w.reshape(-1, w.shape[3]).astype(windows[0].dtype)
        products = [window * place for window, place in zip(windows, places, strict=True)]
        total: Array = sum(products[1:], products[0])
        return total.astype(out.dtype)

    def ordinary(x: Array, w: Array) -> Array:
        return _forward(x, w, strides, padding, precision, groups=x.shape[3])

    out = jax.eval_shape(ordinary, lhs, rhs)
    result: Array = lax.platform_dependent(lhs, rhs, cpu=on_cpu, default=ordinary)
    return result


def _places(
    images: Array, kernel: Sequence[int], size: Sequence[int], strides: _Pair, padding: _Padding
) -> list[Array]:
    """For each place of the kernel, row by row, the pixels that it meets at every window."""
    images = lax.pad(
        images,
        jnp.zeros((), images.dtype),
        ((0, 0, 0), (*padding[0], 0), (*padding[1], 0), (0, 0, 0)),
    )
    last_row, last_column = ((n - 1) * step + 1 for n, step in zip(size, strides, strict=True))
    return [
        images[:, i : i + last_row : strides[0], j : j + last_column : strides[1]]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]


def _weight_gradient(
    lhs: Array,
    cotangent: Array,
    kernel_shape: tuple[int, ...],
    strides: _Pair,
    padding: _Padding,
    precision: Any,
) -> Array:
    """Kernel gradient as matrix products, of every window laid out as a row.

    Of few images at once, so that their rows stay in the cache; of all at once it is slower.
    """
    size = cotangent.shape[1:3]

    def of(images: Array, cotangent: Array) -> Array:
        windows = _places(images, kernel_shape[:2], size, strides, padding)
        rows = jnp.concatenate(windows, axis=-1).reshape(-1, len(windows) * images.shape[3])
        flat = cotangent.reshape(-1, kernel_shape[3])
        sums = lax.dot_general(
            rows, flat, (((0,), (0,)), ((), ())), precision=precision, preferred_element_type=wide
        )
        return sums.reshape(kernel_shape)

    wide = jnp.promote_types(cotangent.dtype, jnp.float32)
    fitting = max(1, IN_CACHE // math.prod((*kernel_shape[:3], *size)))
    count = max((n for n in range(1, fitting + 1) if len(lhs) % n == 0), default=1)
    parts = [x.reshape(-1, count, *x.shape[1:]) for x in (lhs, cotangent)]
    total, _ = lax.scan(
        lambda total, part: (total + of(*part), None), jnp.zeros(kernel_shape, wide), parts
    )
    return total.astype(cotangent.dtype)


def _input_gradient(cotangent: Array, rhs: Array, padding: _Padding, precision: Any) -> Array:
    """Gradient of the images, at stride 1: the convolution with the kernel turned around."""
    turned = jnp.flip(rhs, (0, 1)).swapaxes(2, 3)
    margins = [
        (size - 1 - low, size - 1 - high)
        for size, (low, high) in zip(rhs.shape[:2], padding, strict=True)
    ]
    return _forward(cotangent, turned, (1, 1), margins, precision)


class _Windows(NamedTuple):
    """How a kernel of some size goes over images of some size; hashable."""

    strides: _Pair
    padding: _Padding
    precision: Any
    image: tuple[int, ...]
    kernel: tuple[int, ...]

    def over(self, lhs: Array, rhs: Array) -> Array:
        return _forward(lhs, rhs, self.strides, self.padding, self.precision)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def conv_general_dilated(
    lhs: Array, rhs: Array, strides: _Pair, padding: _Padding, precision: Any
) -> Array:
    """The primitive, with a derivative of the same value that is fast on CPUs."""
    return _forward(lhs, rhs, strides, padding, precision)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _of_images(cotangent: Array, rhs: Array, windows: _Windows) -> Array:
    """Gradient of the images."""

    def ordinary(cotangent: Array, rhs: Array) -> Array:
        images = jax.ShapeDtypeStruct(
            (len(cotangent), *windows.image, rhs.shape[2]), cotangent.dtype
        )
        found: Array = jax.linear_transpose(lambda x: windows.over(x, rhs), images)(cotangent)[0]
        return found

    def on_cpu(cotangent: Array, rhs: Array) -> Array:
        if windows.strides != (1, 1):
            return ordinary(cotangent, rhs)
        return _input_gradient(cotangent, rhs, windows.padding, windows.precision)

    found: Array = lax.platform_dependent(cotangent, rhs, cpu=on_cpu, default=ordinary)
    return found


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _of_kernel(lhs: Array, cotangent: Array, windows: _Windows) -> Array:
    """Gradient of the kernel."""
    shape = (*windows.kernel, lhs.shape[3], cotangent.shape[3])

    def ordinary(lhs: Array, cotangent: Array) -> Array:
        kernel = jax.ShapeDtypeStruct(shape, lhs.dtype)
        found: Array = jax.linear_transpose(lambda w: windows.over(lhs, w), kernel)(cotangent)[0]
        return found

    def on_cpu(lhs: Array, cotangent: Array) -> Array:
        strides, padding, precision = windows[:3]
        return _weight_gradient(lhs, cotangent, shape, strides, padding, precision)

    found: Array = lax.platform_dependent(lhs, cotangent, cpu=on_cpu, default=ordinary)
    return found


def _convolved(lhs: Array, rhs: Array, windows: _Windows) -> Array:
    return conv_general_dilated(lhs, rhs, *windows[:3])


def _conv_bwd(
    strides: _Pair,
    padding: _Padding,
    precision: Any,
    residuals: tuple[Array, Array],
    cotangent: Array,
) -> tuple[Array, Array]:
    lhs, rhs = residuals
    (_, *image, _), (*kernel, _, _) = lhs.shape, rhs.shape
    windows = _Windows(strides, padding, precision, tuple(image), tuple(kernel))
    return _of_images(cotangent, rhs, windows), _of_kernel(lhs, cotangent, windows)


def _of_images_bwd(
    windows: _Windows, residuals: tuple[Array, Array], images: Array
) -> tuple[Array, Array]:
    cotangent, rhs = residuals
    return _convolved(images, rhs, windows), _of_kernel(images, cotangent, windows)


def _of_kernel_bwd(
    windows: _Windows, residuals: tuple[Array, Array], kernel: Array
) -> tuple[Array, Array]:
    lhs, cotangent = residuals
    return _of_images(cotangent, kernel, windows), _convolved(lhs, kernel, windows)


def _keeping_both(function: Any) -> Any:
    return lambda one, other, *rest: (function(one, other, *rest), (one, other))


conv_general_dilated.defvjp(_keeping_both(conv_general_dilated), _conv_bwd)
_of_images.defvjp(_keeping_both(_of_images), _of_images_bwd)
_of_kernel.defvjp(_keeping_both(_of_kernel), _of_kernel_bwd)
register_linear(conv_general_dilated)
