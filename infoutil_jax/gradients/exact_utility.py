r"""Utility itself, which Theorem 1 bounds by the gradient norm (JAX, for studies).

Definition 3 of InfoUtil (arXiv 2601.21296): the utility of example i of a mini-batch B is the
largest change that leaving it out makes to the rate at which the loss of any training example j
falls,

$$U(x_i) = \max_j \left| \dot\ell_j(B) - \dot\ell_j(B \backslash i) \right|, \qquad
\dot\ell_j = \langle g_j, \dot\theta \rangle$$

with $g_j$ the gradient of example j and $\dot\theta$ what the optimiser adds to the
parameters in one step. `gradient_norms` is the cheap score that stands in for it.

What the update is, decides what utility is:

- SGD, sum: $\eta \max_j \lvert \langle g_j, g_i \rangle \rvert \le c \|g_i\|$, with
  $c = \eta \max_j \|g_j\|$. Theorem 1 is proved for this case.
- SGD with momentum, sum: the same in the step itself, whatever the state, for the update is linear
  in the gradient. Nesterov's: times 1 + momentum.
- SGD, mean: $\frac{\eta}{n-1} \max_j \lvert \langle g_j, g_i - \bar g \rangle \rvert$. The rest is
  averaged over one example fewer, so that it is the centred gradient that counts, and an example
  without any gradient has a utility.
- Adam, clipping, ...: no closed form. Rates depend on the state, the batch and the coordinate, and
  c does not bound it.

Gradients are computed in the parameters' own precision. Updates, their differences and the inner
products are in double precision, whatever `jax_enable_x64` says: the update of a batch and of all
of it but one hardly differ where that one's gradient is small. Hence these functions run from the
host, block by block, and not within `jax.jit`; what they run is compiled.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from infoutil_jax.errors import InputError

Loss = Callable[[Any, Any], Any]
REDUCTIONS = ("sum", "mean")


def exact_utilities(
    loss_fn: Loss,
    params: PyTree,
    batch: PyTree,
    optimiser: optax.GradientTransformation,
    *,
    opt_state: PyTree = None,
    probes: PyTree = None,
    microbatch_size: int | None = None,
    reduction: str = "sum",
) -> Float[Array, " batch"]:
    """Utility of every example of a mini-batch under one step of any optimiser (Definition 3).

    Costs a gradient an example and a probe (with microbatches, two an example, and the probes' for
    each microbatch), and an update of the optimiser an example. Which probe attains the maximum:
    `jnp.abs(loss_rate_changes(...)).argmax(axis=1)`, at the same cost.

    Examples:
        >>> loss = lambda params, example: (params["w"] * example) ** 2 / 2
        >>> batch = jnp.array([1.0, 2.0])
        >>> exact_utilities(loss, {"w": jnp.float32(3)}, batch, optax.sgd(0.5))
        Array([18., 72.], dtype=float32)

    Args:
        loss_fn: `(params, example) -> scalar`, the loss of one example by itself; compiled once
            per function object.
        params: any pytree of floating-point arrays; what is not learnt belongs into `loss_fn`.
        batch: the mini-batch, any pytree of arrays with one leading axis.
        optimiser: what makes an update of a gradient.
        opt_state: its state before the step; None is `optimiser.init(params)`, that of a first
            step.
        probes: the examples j, like `batch`; None is the batch itself.
        microbatch_size: so many gradients of examples and of probes, and as many updates, are in
            memory at once, at the price of computing the probes' gradients anew for each
            microbatch; None takes everything at once. Any batch size will do.
        reduction: what the optimiser is given: the "sum" of the gradients (the paper), or their
            "mean" over those that are there.

    Returns:
        float32, zero or more. A NaN in one gradient makes every utility NaN, for the update of
        the whole batch is.

    Raises:
        InputError: a leaf of `params` that is no floating-point array, no examples or no probes,
            leading axes that differ, a microbatch of less than one example, an unknown reduction,
            the mean over a batch of one, or the state of another optimiser.
    """
    changes = loss_rate_changes(
        loss_fn,
        params,
        batch,
        optimiser,
        opt_state=opt_state,
        probes=probes,
        microbatch_size=microbatch_size,
        reduction=reduction,
    )
    return jnp.abs(changes).max(axis=1)


def loss_rate_changes(
    loss_fn: Loss,
    params: PyTree,
    batch: PyTree,
    optimiser: optax.GradientTransformation,
    *,
    opt_state: PyTree = None,
    probes: PyTree = None,
    microbatch_size: int | None = None,
    reduction: str = "sum",
) -> Float[Array, "batch probes"]:
    """How each example of a mini-batch changes the loss of each probe, to first order.

    Takes what `exact_utilities` takes, and raises what it raises.

    Returns:
        `<g_j, update(batch) - update(batch without i)>` at (i, j), float32; negative where the
        step lowers the loss of probe j more with example i than without.
    """
    others = batch if probes is None else probes
    size = _check(params, optimiser, opt_state, batch, others, reduction)
    _check_microbatch(microbatch_size)
    if microbatch_size is None:
        gradients = example_gradients(loss_fn, params, batch)
        others = gradients if probes is None else example_gradients(loss_fn, params, probes)
        return changes_of_gradients(
            gradients, others, params, optimiser, opt_state=opt_state, reduction=reduction
        )
    blocks = partial(_blocks, loss_fn, params, microbatch_size)
    with jax.enable_x64(True):
        total = jax.tree.map(lambda *parts: sum(parts), *map(_total, blocks(batch)))
    rows = []
    for block in blocks(batch):
        with jax.enable_x64(True):
            left_out = _differences(optimiser, reduction, size, params, opt_state, total, block)
        parts = []
        for probe_gradients in blocks(others):
            with jax.enable_x64(True):
                parts.append(_products(left_out, probe_gradients))
        rows.append(jnp.concatenate(parts, axis=1))
    return jnp.concatenate(rows)


def changes_of_gradients(
    gradients: PyTree,
    probe_gradients: PyTree,
    params: PyTree,
    optimiser: optax.GradientTransformation,
    *,
    opt_state: PyTree = None,
    reduction: str = "sum",
) -> Float[Array, "batch probes"]:
    """`loss_rate_changes` of gradients that are computed already, to try several optimisers.

    Takes what `example_gradients` gives for the mini-batch and for the probes, the parameters
    where they were taken, and for the rest what `exact_utilities` takes.

    Raises:
        InputError: as `exact_utilities`, or gradients that do not fit the parameters.
    """
    size = _check(params, optimiser, opt_state, gradients, probe_gradients, reduction)
    for tree in (gradients, probe_gradients):
        if _shapes(jax.tree.map(lambda leaf: leaf[0], tree)) != _shapes(params):
            raise InputError(
                "the gradients do not fit the parameters: each leaf must have the parameter's "
                "shape behind one leading axis, as example_gradients gives them"
            )
    with jax.enable_x64(True):
        total = _total(gradients)
        left_out = _differences(optimiser, reduction, size, params, opt_state, total, gradients)
        result: Float[Array, "batch probes"] = _products(left_out, probe_gradients)
        return result


def example_gradients(
    loss_fn: Loss, params: PyTree, batch: PyTree, *, microbatch_size: int | None = None
) -> PyTree[Float[Array, "batch ..."]]:
    """Gradient of every example's own loss: `params` with a leading axis on every leaf.

    Args:
        loss_fn: as in `exact_utilities`, like the others.
        params: any pytree of floating-point arrays.
        batch: any pytree of arrays with one leading axis.
        microbatch_size: examples differentiated at once; the result is in memory as a whole.

    Raises:
        InputError: as `exact_utilities`.
    """
    _check_params(params)
    batch_size_of(batch, "examples")
    _check_microbatch(microbatch_size)
    return _gradients(loss_fn, microbatch_size, params, batch)


def _check(
    params: PyTree,
    optimiser: optax.GradientTransformation,
    opt_state: PyTree,
    batch: PyTree,
    probes: PyTree,
    reduction: str,
) -> int:
    """Checks that everything fits, and returns the batch's size."""
    _check_params(params)
    size = batch_size_of(batch, "examples")
    batch_size_of(probes, "probes")
    if reduction not in REDUCTIONS:
        raise InputError(f"reduction is {reduction!r}; use sum or mean")
    if reduction == "mean" and size == 1:
        raise InputError("a batch of one has no mean without its example; use reduction='sum'")
    expected = jax.eval_shape(optimiser.init, params)
    if opt_state is not None and _shapes(opt_state) != _shapes(expected):
        raise InputError(
            "opt_state is not a state of this optimiser for these parameters; "
            "use optimiser.init(params), or what its update returned"
        )
    return size


def _check_params(params: PyTree) -> None:
    leaves = jax.tree.leaves(params)
    if not leaves or not all(_is_floating(leaf) for leaf in leaves):
        raise InputError(
            "params must hold floating-point arrays and nothing else; "
            "what is not learnt, such as running statistics, belongs into loss_fn"
        )


def _check_microbatch(size: int | None) -> None:
    if size is not None and size < 1:
        raise InputError(f"microbatch_size is {size}; use at least 1, or None")


def batch_size_of(batch: PyTree, what: str) -> int:
    """How many of `what` a batch holds.

    Raises:
        InputError: none, or leading axes that differ.
    """
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(batch)}
    if len(sizes) != 1 or () in sizes:
        raise InputError(
            f"the {what}' arrays have leading axes {sorted(sizes)}; all must have one, of one size"
        )
    ((size,),) = sizes
    if not size:
        raise InputError(f"there are no {what}; at least one is needed")
    return int(size)


def _is_floating(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and bool(jnp.issubdtype(leaf.dtype, jnp.floating))


def _shapes(tree: PyTree) -> tuple[Any, list[tuple[int, ...]]]:
    return jax.tree.structure(tree), [np.shape(leaf) for leaf in jax.tree.leaves(tree)]


def _blocks(loss_fn: Loss, params: PyTree, size: int, batch: PyTree) -> Iterator[PyTree]:
    """Gradients of `size` examples at a time; all blocks but the last are of one shape."""
    for start in range(0, batch_size_of(batch, "examples"), size):
        block = jax.tree.map(lambda leaf, start=start: leaf[start : start + size], batch)
        yield _gradients(loss_fn, None, params, block)


@partial(jax.jit, static_argnums=(0, 1))
def _gradients(loss_fn: Loss, microbatch_size: int | None, params: PyTree, batch: PyTree) -> PyTree:
    gradient = partial(jax.grad(loss_fn), params)
    if microbatch_size is None:
        return jax.vmap(gradient)(batch)
    return jax.lax.map(gradient, batch, batch_size=microbatch_size)


# What follows is traced in double precision: see the module's docstring.


@jax.jit
def _total(gradients: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64).sum(0), gradients)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _differences(
    optimiser: optax.GradientTransformation, reduction: str, size: int, *trees: PyTree
) -> PyTree:
    """`update(batch) - update(batch without i)`, of parameters, state, sum and gradients."""
    params, opt_state, total, gradients = (_double(tree) for tree in trees)
    state = optimiser.init(params) if opt_state is None else opt_state

    def update(summed: PyTree, count: int) -> PyTree:
        scale = 1 / count if reduction == "mean" else 1
        scaled = jax.tree.map(lambda leaf: scale * leaf, summed)
        return optimiser.update(scaled, state, params)[0]

    whole = update(total, size)

    def difference(gradient: PyTree) -> PyTree:
        rest = update(jax.tree.map(jnp.subtract, total, gradient), size - 1)
        return jax.tree.map(jnp.subtract, whole, rest)

    return jax.vmap(difference)(gradients)


def _double(tree: PyTree) -> PyTree:
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jnp.float64) if _is_floating(leaf) else leaf, tree
    )


@jax.jit
def _products(differences: PyTree, gradients: PyTree) -> Array:
    pairs = zip(jax.tree.leaves(differences), jax.tree.leaves(gradients), strict=True)
    rows = sum(
        d.reshape(len(d), -1) @ g.reshape(len(g), -1).astype(jnp.float64).T for d, g in pairs
    )
    return jnp.asarray(rows, jnp.float32)
