"""Norms of the gradients of single examples. JAX.

`loss_fn` is compiled once per function object: pass the same one again, not a new lambda a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from infoutil_jax.blocks import block_rows
from infoutil_jax.errors import InputError
from infoutil_jax.gradients import layerwise
from infoutil_jax.gradients.linear_layers import norm

Method = Literal["layerwise", "vmap"]
Loss = Callable[[Any, Any], Any]


def gradient_norms(
    loss_fn: Callable[[Any, Any], Any],
    params: PyTree,
    batch: PyTree,
    *,
    microbatch_size: int | None = None,
    wrt: Callable[[str], bool] | None = None,
    method: Method = "layerwise",
) -> Float[Array, " batch"]:
    r"""Norm of the gradient of every example's own loss.

    $$u_i = \| \nabla_\theta \ell(\theta, x_i) \|_2$$

    Theorem 1 of InfoUtil (arXiv 2601.21296): leaving x out of an SGD step of rate $\eta$
    changes the loss decrease of no example j by more than $U(x) \le c \|g\|$, with g the
    gradient above and $c = \eta \max_j \|g_j\|$.

    | gradient of an example | its norm                                                |
    | ---------------------- | ------------------------------------------------------- |
    | zero                   | 0 (no NaN)                                              |
    | infinite               | inf; or NaN, where a layer's zeros are multiplied by it |
    | NaN anywhere           | NaN, for this example alone                             |
    | finite, any magnitude  | exact to rounding: squares neither over- nor underflow  |
    | batch of no examples   | shape [0]                                               |

    Where the products of a layer's rows and their gradients cancel (two opposite tokens with like
    gradients, say), its layerwise norm is a small difference of large numbers, exact to the root
    of rounding; `method="vmap"` forms the gradient. Rows that are nearly alike do not cancel.

    No gradient of a single example is formed for the weights of a product or a convolution,
    whatever modules they are written in: `loss_fn` is traced (`gradients.layerwise`).
    `experiments.benchmarks.gradient_norm_cost` measures what that costs beside one gradient of the
    batch.

    Examples:
        >>> loss = lambda params, example: (params["w"] * example) ** 2 / 2
        >>> gradient_norms(loss, {"w": jnp.float32(3)}, jnp.array([1.0, 2.0]))
        Array([ 3., 12.], dtype=float32)

    Args:
        loss_fn: `(params, example) -> scalar`; an example is `batch` without its leading axis.
        params: any pytree; leaves that are no floating-point arrays are passed on untouched.
        batch: any pytree of arrays with one leading axis.
        microbatch_size: gradients of so many examples are in memory at once, at the price of
            sequential steps; None takes the whole batch. Any batch size will do.
        wrt: a predicate of a parameter's path, such as `lambda path: path.endswith("kernel")`,
            where paths look like "blocks/0/kernel"; it must be pure. None: the norm is over every
            floating-point array of `params`.
        method: "layerwise", or the reference "vmap": `jax.vmap(jax.grad(loss_fn))`.

    Raises:
        InputError: no floating-point array in `params`, or `wrt` selects none, leading axes that
            differ, a microbatch of less than one example, or another method.
    """
    if method not in get_args(Method):
        raise InputError(f"method is {method!r}; use {' or '.join(get_args(Method))}")
    selected = _selected(params, wrt)
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(batch)}
    if len(sizes) != 1 or () in sizes:
        raise InputError(
            f"the batch's arrays have leading axes {sorted(sizes)}; all must have one, of one size"
        )
    if microbatch_size is not None and microbatch_size < 1:
        raise InputError(f"microbatch_size is {microbatch_size}; use at least 1, or None")
    structure, arrays = Structure.of(params)
    how = _How(loss_fn, structure, selected, microbatch_size, method)
    found: Array = _gradient_norms(how, arrays, batch)
    return found


def _selected(params: PyTree, wrt: Callable[[str], bool] | None) -> tuple[bool, ...]:
    """Which leaves the norm is over."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    floating = [_is_floating(leaf) for _, leaf in leaves]
    if not any(floating):
        raise InputError("params hold no floating-point array; there is nothing to differentiate")
    if wrt is None:
        return tuple(floating)
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    selected = tuple(ok and wrt(path) for ok, path in zip(floating, paths, strict=True))
    if not any(selected):
        there = [path for ok, path in zip(floating, paths, strict=True) if ok]
        some = f"{', '.join(there[:3])}{', ...' if len(there) > 3 else ''}"
        raise InputError(
            f"wrt selects none of the parameters; their paths are {some}: give a "
            "predicate that is true of some of them"
        )
    return selected


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def _is_floating(leaf: Any) -> bool:
    return _is_array(leaf) and bool(jnp.issubdtype(leaf.dtype, jnp.floating))


@dataclass(frozen=True)
class Structure:
    """What `jit` must know of a pytree beside its arrays, such as Equinox's activations."""

    treedef: Any
    others: tuple[Any, ...]

    @classmethod
    def of(cls, tree: PyTree) -> tuple[Structure, list[Any]]:
        """The structure of a pytree, and its leaves with None where one is no array."""
        leaves, treedef = jax.tree.flatten(tree)
        others = tuple(None if _is_array(leaf) else leaf for leaf in leaves)
        return cls(treedef, others), [leaf if _is_array(leaf) else None for leaf in leaves]

    def merge(self, arrays: list[Any]) -> PyTree:
        """The pytree with these arrays."""
        leaves = [
            other if array is None else array
            for array, other in zip(arrays, self.others, strict=True)
        ]
        return jax.tree.unflatten(self.treedef, leaves)


@dataclass(frozen=True)
class _How:
    """All that the compiled program depends on, apart from shapes."""

    loss_fn: Loss
    structure: Structure
    selected: tuple[bool, ...]
    microbatch_size: int | None
    method: Method


@partial(jax.jit, static_argnums=0)
def _gradient_norms(how: _How, arrays: list[Any], batch: PyTree) -> Array:
    learnt = [a for a, chosen in zip(arrays, how.selected, strict=True) if chosen]

    def loss(learnt: list[Any], example: PyTree) -> Any:
        given = iter(learnt)
        together = [
            next(given) if chosen else a for a, chosen in zip(arrays, how.selected, strict=True)
        ]
        return how.loss_fn(how.structure.merge(together), example)

    def norms(batch: PyTree) -> Array:
        if how.method == "layerwise":
            return layerwise.gradient_norms(loss, learnt, batch)
        return jax.vmap(lambda example: norm(jax.grad(loss)(learnt, example)))(batch)

    size, most = jax.tree.leaves(batch)[0].shape[0], how.microbatch_size
    if most is None or most >= size:
        return norms(batch)
    index = block_rows(size, most).ravel()
    filled = jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], batch)
    concatenate = optax.microbatching.AccumulationType.CONCAT
    result: Array = optax.microbatching.microbatch(norms, 0, most, concatenate)(filled)
    return result[:size]
