"""Scores of examples: what training would lose without them. JAX, runs per image.

A score is the measure itself, whatever its direction; which end is kept is the selection's matter.
All have the signature `(predict, variables, crops [b, h, w, c], labels [b]) -> [b]`: crops are
normalised, `predict(variables, crops) -> logits`. `predict` and `loss_fn` are compiled once per
function object: pass the same one again, not a new lambda per batch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from infoutil_jax.errors import InputError
from infoutil_jax.method import layerwise
from infoutil_jax.method.linear_layers import norm

Method = Literal["layerwise", "vmap"]
Predict = Callable[[Any, Any], Any]
CLASSIFIERS = ("classifier", "head", "fc", "linear")


def gradient_norms(
    loss_fn: Callable[[Any, Any], Any],
    params: PyTree,
    batch: PyTree,
    *,
    microbatch_size: int | None = None,
    method: Method = "layerwise",
) -> Float[Array, " batch"]:
    r"""Norm of every example's own loss gradient, over all floating-point arrays of `params`.

    .. math:: u_i = \| \nabla_\theta \ell(\theta, x_i) \|_2

    Theorem 1 of InfoUtil (arXiv 2601.21296): leaving x out of an SGD step of rate :math:`\eta`
    changes the loss decrease of no example j by more than :math:`U(x) \le c \|g\|`, with g the
    gradient above and :math:`c = \eta \max_j \|g_j\|`.

    =========================  ==========================================================
    gradient of an example     its norm
    =========================  ==========================================================
    zero                       0 (no NaN)
    infinite                   inf; or NaN, where a layer's zeros are multiplied with it
    NaN anywhere               NaN, for this example alone
    finite, any magnitude      exact to rounding: squares neither overflow nor underflow
    batch of no examples       shape [0]
    =========================  ==========================================================

    No per-example gradient of a product's or a convolution's weights is formed, whatever modules
    they are written in: `loss_fn` is traced (`infoutil_jax.method.layerwise`). What that costs
    beside one gradient of the batch, `experiments.benchmarks.gradient_norm_cost` measures.

    Example:
        >>> loss = lambda params, example: (params["w"] * example) ** 2 / 2
        >>> gradient_norms(loss, {"w": jnp.float32(3)}, jnp.array([1.0, 2.0]))
        Array([ 3., 12.], dtype=float32)

    Args:
        loss_fn: `(params, example) -> scalar`; an example is `batch` without its leading axis.
        params: any pytree; leaves that are no floating-point arrays are passed on untouched.
        batch: any pytree of arrays with one leading axis.
        microbatch_size: gradients of so many examples are in memory at once, at the price of
            sequential steps; None takes the whole batch. Any batch size will do.
        method: "layerwise", or the reference "vmap": `jax.vmap(jax.grad(loss_fn))`.

    Raises:
        InputError: no floating-point array in `params`, leading axes that differ, a microbatch
            of less than one example, or another method.
    """
    selected = [_is_floating(leaf) for leaf in jax.tree.leaves(params)]
    return _select_and_run(loss_fn, params, batch, selected, microbatch_size, method)


def gradient_norm(
    predict: Predict,
    variables: PyTree,
    crops: Float[Array | np.ndarray, "batch height width channels"],
    labels: Int[Array | np.ndarray, " batch"],
    *,
    microbatch_size: int | None = 32,
    over: str | Callable[[str], bool] = "all",
) -> Float[Array, " batch"]:
    """Norm of the gradient of each crop's cross-entropy: stage 2 of InfoUtil (Theorem 1).

    Args:
        predict: the teacher, in inference mode.
        variables: the gradient is over `variables["params"]` where there is such a key, else
            over every floating-point array.
        crops: normalised, at the teacher's input size.
        labels: class indices.
        microbatch_size: as in `gradient_norms`.
        over: "all" parameters; "classifier", those under a top-level key named classifier, head,
            fc or linear (much cheaper, nothing is propagated further back); or a predicate of
            a parameter's path, such as `lambda path: path.endswith("kernel")`, where paths look
            like "blocks/0/kernel". The predicate must be pure.

    Raises:
        InputError: `over` selects no parameter, or as `gradient_norms`.
    """
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    prefix = "params/" if isinstance(variables, Mapping) and "params" in variables else ""
    eligible = [
        path.startswith(prefix) and _is_floating(leaf)
        for path, (_, leaf) in zip(paths, leaves, strict=True)
    ]
    names = [path.removeprefix(prefix) for path in paths]
    wanted = _predicate(over)
    selected = [ok and wanted(name) for ok, name in zip(eligible, names, strict=True)]
    if any(eligible) and not any(selected):
        keys = dict.fromkeys(
            name.split("/")[0] for ok, name in zip(eligible, names, strict=True) if ok
        )
        raise InputError(
            f"over={over!r} selects none of the parameters, whose top-level keys are "
            f'{", ".join(keys)}; use "all", "classifier" (keys {", ".join(CLASSIFIERS)}), '
            "or a predicate of the path"
        )
    batch = (crops, labels)
    return _select_and_run(_CropLoss(predict), variables, batch, selected, microbatch_size)


def el2n(
    predict: Predict,
    variables: PyTree,
    crops: Float[Array | np.ndarray, "batch height width channels"],
    labels: Int[Array | np.ndarray, " batch"],
) -> Float[Array, " batch"]:
    """Length of the error vector, `|| softmax(logits) - onehot(label) ||_2`, from 0 to √2.

    EL2N of Paul et al., "Deep Learning on a Data Diet" (NeurIPS 2021).
    """
    logits = _logits(predict, variables, crops)
    error = jax.nn.softmax(logits) - jax.nn.one_hot(labels, logits.shape[-1])
    return jax.vmap(norm)([error])


def cross_entropy(
    predict: Predict,
    variables: PyTree,
    crops: Float[Array | np.ndarray, "batch height width channels"],
    labels: Int[Array | np.ndarray, " batch"],
) -> Float[Array, " batch"]:
    """Loss of each crop, in nats: RDED keeps the lowest (Sun et al., CVPR 2024, eq. 8)."""
    logits = _logits(predict, variables, crops)
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(labels))


@dataclass(frozen=True)
class _CropLoss:
    """The loss of one crop; equal for equal `predict`, so it is compiled once per teacher."""

    predict: Predict

    def __call__(self, variables: PyTree, example: tuple[Array, Array]) -> Array:
        crop, label = example
        logits = self.predict(variables, crop[None])[0]
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, label)


def _predicate(over: str | Callable[[str], bool]) -> Callable[[str], bool]:
    if callable(over):
        return over
    if over == "all":
        return lambda path: True
    if over == "classifier":
        return lambda path: path.split("/")[0] in CLASSIFIERS
    raise InputError(f'over is "{over}"; use "all", "classifier" or a predicate of the path')


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def _is_floating(leaf: Any) -> bool:
    return _is_array(leaf) and bool(jnp.issubdtype(leaf.dtype, jnp.floating))


@dataclass(frozen=True)
class _Structure:
    """What `jit` must know of a pytree beside its arrays: activations in Equinox modules, say."""

    treedef: Any
    others: tuple[Any, ...]

    @classmethod
    def of(cls, tree: PyTree) -> tuple["_Structure", list[Any]]:
        leaves, treedef = jax.tree.flatten(tree)
        others = tuple(None if _is_array(leaf) else leaf for leaf in leaves)
        return cls(treedef, others), [leaf if _is_array(leaf) else None for leaf in leaves]

    def merge(self, arrays: list[Any]) -> PyTree:
        leaves = [
            other if array is None else array
            for array, other in zip(arrays, self.others, strict=True)
        ]
        return jax.tree.unflatten(self.treedef, leaves)


def _logits(predict: Predict, variables: PyTree, crops: Any) -> Array:
    structure, arrays = _Structure.of(variables)
    return _apply(predict, structure, arrays, crops)


@partial(jax.jit, static_argnums=(0, 1))
def _apply(predict: Predict, structure: _Structure, arrays: list[Any], crops: Any) -> Array:
    return predict(structure.merge(arrays), crops)


def _select_and_run(
    loss_fn: Callable[[Any, Any], Any],
    tree: PyTree,
    batch: PyTree,
    selected: list[bool],
    microbatch_size: int | None,
    method: Method = "layerwise",
) -> Array:
    """Check, then differentiate with respect to the `selected` leaves of `tree`."""
    if method not in get_args(Method):
        raise InputError(f"method is {method!r}; use {' or '.join(get_args(Method))}")
    if not any(selected):
        raise InputError("params hold no floating-point array; there is nothing to differentiate")
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(batch)}
    if len(sizes) != 1 or () in sizes:
        raise InputError(
            f"the batch's arrays have leading axes {sorted(sizes)}; all must have one, of one size"
        )
    if microbatch_size is not None and microbatch_size < 1:
        raise InputError(f"microbatch_size is {microbatch_size}; use at least 1, or None")
    structure, arrays = _Structure.of(tree)
    chosen = tuple(selected)
    return _gradient_norms(loss_fn, structure, chosen, microbatch_size, method, arrays, batch)


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _gradient_norms(
    loss_fn: Callable[[Any, Any], Any],
    structure: _Structure,
    selected: tuple[bool, ...],
    microbatch_size: int | None,
    method: Method,
    arrays: list[Any],
    batch: PyTree,
) -> Array:
    learnt = [a for a, chosen in zip(arrays, selected, strict=True) if chosen]

    def loss(learnt: list[Any], example: PyTree) -> Array:
        given = iter(learnt)
        together = [
            next(given) if chosen else a for a, chosen in zip(arrays, selected, strict=True)
        ]
        return loss_fn(structure.merge(together), example)

    def norms(batch: PyTree) -> Array:
        if method == "layerwise":
            return layerwise.gradient_norms(loss, learnt, batch)
        return jax.vmap(lambda example: norm(jax.grad(loss)(learnt, example)))(batch)

    size = jax.tree.leaves(batch)[0].shape[0]
    if microbatch_size is None or microbatch_size >= size:
        return norms(batch)
    # The last example fills up the last microbatch; what it gives there is dropped.
    index = np.minimum(np.arange(-(-size // microbatch_size) * microbatch_size), size - 1)
    padded = jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], batch)
    concatenate = optax.microbatching.AccumulationType.CONCAT
    return optax.microbatching.microbatch(norms, 0, microbatch_size, concatenate)(padded)[:size]
