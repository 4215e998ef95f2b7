"""Statistics of the inputs of batch normalisation, beside the running ones (JAX)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.errors import TraceContextError
from jaxtyping import Array, Float

from infoutil_jax.errors import InputError
from infoutil_jax.method.logits import logits_of
from infoutil_jax.models.functional import Predict


class Statistics(NamedTuple):
    """Statistics of one batch normalisation layer in one forward pass.

    Attributes:
        batch_mean: of the layer's input over the batch and all positions.
        batch_var: its variance, divided by the count, like the running one.
        running_mean: what the layer normalises with in evaluation mode.
        running_var: its running variance.
    """

    batch_mean: Float[Array, " features"]
    batch_var: Float[Array, " features"]
    running_mean: Float[Array, " features"]
    running_var: Float[Array, " features"]


def batch_norm_inputs(
    predict: Callable[..., Any],
    variables: Any,
    images: Float[Array | np.ndarray, " batch *image"],
) -> tuple[Float[Array, "batch classes"], list[Statistics]]:
    """Logits in evaluation mode, and the statistics of each batch normalisation's input.

    One forward pass of the network as it is. Pure: works under `jit`, `grad` and `vmap`.

    Args:
        predict: of `as_predict`, from any NNX module with `nnx.BatchNorm` layers.
        variables: of the module.
        images: normalised.

    Returns:
        The logits, equal to `predict(variables, images)`, and the layers in the order in which
        they are called, a layer that is called twice counting as two.

    Raises:
        InputError: `predict` is not of `as_predict`, or its module calls no batch normalisation, or
            calls it inside a transformation of its own (`nnx.remat`, `nnx.scan`), out of which
            nothing can be read.

    Examples:
        >>> from infoutil_jax.models import as_predict, create
        >>> options = {"width": 8, "norm": "batch"}
        >>> model = create("convnet3", num_classes=2, image_size=8, rngs=nnx.Rngs(0), **options)
        >>> logits, layers = batch_norm_inputs(*as_predict(model), np.zeros((4, 8, 8, 3), "f"))
        >>> [(layers[0].batch_mean - layers[0].running_mean).shape, len(layers)]
        [(8,), 3]
    """
    if not isinstance(predict, Predict):
        raise InputError(
            "batch normalisation statistics can be read from an NNX module only: make predict with "
            "as_predict(module)"
        )
    module = predict._module(variables)
    found: list[Statistics] = []
    count = _Count()
    for _, layer in nnx.iter_modules(module):
        if isinstance(layer, nnx.BatchNorm):
            # Each layer passes its input and its arrays through this public attribute, so a
            # wrapper around it sees both without touching the computation.
            layer.promote_dtype = _recorder(layer.promote_dtype, layer.axis, found, count)
    logits = logits_of(module(jnp.asarray(images)))
    if not found:
        raise InputError(
            f"the network ({type(module).__name__}) has no batch normalisation, whose statistics "
            "were to be read: use one with nnx.BatchNorm layers"
        )
    return logits, found


class _Count(nnx.Module):
    """NNX refuses to change it inside another transformation than the one it was made in."""

    def __init__(self) -> None:
        self.calls = 0


def _recorder(
    promote: Callable[..., Any], axis: int, found: list[Statistics], count: _Count
) -> Callable[..., Any]:
    def record(arrays: Any, **options: Any) -> Any:
        try:
            count.calls += 1
        except TraceContextError:
            raise InputError(
                "the network calls batch normalisation inside a transformation of its own "
                "(nnx.remat or nnx.scan, say), out of which nothing can be read: call it outside"
            ) from None
        x, mean, var = (jnp.asarray(array, jnp.float32) for array in arrays[:3])
        others = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
        found.append(Statistics(x.mean(others), x.var(others), mean, var))
        return promote(arrays, **options)

    return record
