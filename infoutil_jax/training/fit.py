"""The one training loop, shared by teacher and student (JAX).

An epoch is a `lax.scan` over steps on the device, over batches drawn from `data` without
replacement. What differs between uses is given as functions: the view of a batch, the loss, the
optimiser.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, Shaped

from infoutil_jax import parallel

Data = Any  # pytree of arrays, one row an example

STREAMED_BYTES = 2**26
"""Of a slice of what is read from disk; two or three are in memory at once."""


class State(NamedTuple):
    """What one step hands to the next: a pytree of arrays."""

    variables: dict[str, Any]
    optimiser: optax.OptState


class Seen(NamedTuple):
    """What `Fit.observe` returned in an epoch.

    Attributes:
        rows: numbers of the examples of each step's batch.
        values: of those examples, `[steps, batch, ...]`.
    """

    rows: Int[Array | np.ndarray, "steps batch"]
    values: Shaped[Array | np.ndarray, "steps batch *each"]


@dataclass(frozen=True, eq=False)
class Fit:
    """How to train.

    Attributes:
        apply: `apply(variables, inputs) -> (logits, variables)`, training mode (see `as_train`).
        view: `view(context, key, batch) -> (inputs, targets)`: augments, normalises, labels.
        loss: `loss(logits, targets) -> scalar`.
        optimiser: over `variables["params"]`.
        batch_size: examples a step; a set that is smaller is one batch.
        devices: that share each batch, which they must divide; the first alone by default.
        observe: `observe(logits, targets) -> [batch, ...]`, of every example that a step trains
            on, before its update; None for nothing, at no cost.
    """

    apply: Callable[..., Any]
    view: Callable[..., Any]
    loss: Callable[..., Any]
    optimiser: optax.GradientTransformation
    batch_size: int
    observe: Callable[..., Any] | None = None
    devices: parallel.Devices | None = None

    def init(self, variables: dict[str, Any]) -> State:
        """The state before the first step."""
        return State(variables, self.optimiser.init(variables["params"]))


def batches(
    key: Key[Array, ""], epoch: Any, num_examples: int, batch_size: int
) -> Int[Array, "steps batch"]:
    """Row numbers of each batch of an epoch: a permutation, its remainder left out.

    Args:
        key: of the run.
        epoch: number of the epoch.
        num_examples: rows of the data.
        batch_size: rows of a batch, at most `num_examples` of which are used.
    """
    size = min(batch_size, num_examples)
    steps = steps_per_epoch(num_examples, batch_size)
    order = jax.random.permutation(jax.random.fold_in(key, epoch), num_examples)
    return order[: steps * size].reshape(steps, size)


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Steps of an epoch, the remainder left out; at least one."""
    return num_examples // min(batch_size, num_examples)


def run_steps(
    fit: Fit,
    state: State,
    key: Key[Array, ""],
    context: Any,
    data: Data,
    rows: Int[Array, "steps batch"],
    first: Any = 0,
) -> tuple[State, Float[Array, " steps"], Shaped[Array, "steps batch *each"] | None]:
    """Trains on batches of `data`, in one scan.

    Args:
        fit: how to train.
        state: before the first of the steps.
        key: of the epoch; step s draws from `fold_in(key, s)`.
        context: handed to `fit.view` (a teacher's variables, say).
        data: on the device.
        rows: of each batch.
        first: number, within the epoch, of the first of the steps.

    Returns:
        The state after them, each step's loss, and what was observed, if anything.
    """

    def step(state: State, numbered: tuple[Array, Array]) -> tuple[State, tuple[Array, Any]]:
        number, row = numbered
        batch = jax.tree.map(lambda leaf: leaf[row], data)
        inputs, targets = fit.view(context, jax.random.fold_in(key, number), batch)
        if fit.devices is not None:
            inputs, targets = parallel.spread((inputs, targets), fit.devices)

        def objective(params: Any) -> tuple[Array, tuple[dict[str, Any], Any]]:
            logits, variables = fit.apply({**state.variables, "params": params}, inputs)
            observed = None if fit.observe is None else fit.observe(logits, targets)
            return fit.loss(logits, targets), (variables, observed)

        params = state.variables["params"]
        (loss, aux), gradient = jax.value_and_grad(objective, has_aux=True)(params)
        variables, observed = aux
        updates, optimiser = fit.optimiser.update(gradient, state.optimiser, params)
        variables = {**variables, "params": optax.apply_updates(params, updates)}
        return State(variables, optimiser), (loss, observed)

    numbered = (first + jnp.arange(len(rows)), rows)
    state, (losses, observed) = jax.lax.scan(step, state, numbered)
    return state, losses, observed


def run_epoch(
    fit: Fit, state: State, key: Key[Array, ""], context: Any, data: Data, epoch: Any
) -> tuple[State, Float[Array, ""], Seen | None]:
    """Trains for one epoch on data that is on the device; `epoch` may be traced.

    Returns:
        The state after it, the mean loss of its steps, and what was observed, if anything.
    """
    num_examples = jax.tree.leaves(data)[0].shape[0]
    rows = batches(key, epoch, num_examples, fit.batch_size)
    key = jax.random.fold_in(jax.random.fold_in(key, epoch), 1)
    state, losses, observed = run_steps(fit, state, key, context, data, rows)
    return state, losses.mean(), None if observed is None else Seen(rows, observed)


def epochs(
    fit: Fit,
    state: State,
    key: Key[Array, ""],
    data: Data,
    *,
    first: int,
    stop: int,
    context: Any = None,
    device_bytes: int = 2**30,
) -> Iterator[tuple[int, State, float, Seen | None]]:
    """Trains epoch by epoch, from rows on the host.

    Data of at most `device_bytes` is sent to the device once; larger data, and what is read from
    disk (`data.streamed`), in slices of steps, the next of which is read while the device computes.
    Both give the same result.

    Args:
        fit: how to train.
        state: before epoch `first`.
        key: of the run; epoch e draws from `fold_in(key, e)`.
        data: pytree of arrays with one row an example, on the host or on disk.
        first: first epoch, from zero.
        stop: one past the last.
        context: handed to `fit.view`.
        device_bytes: the most data held on the device; of a slice from disk, at most
            `STREAMED_BYTES`.

    Yields:
        After each epoch: its number, the state, the mean loss, what was observed, if anything.
    """
    leaves = jax.tree.leaves(data)
    streamed = not all(isinstance(leaf, np.ndarray | jax.Array) for leaf in leaves)
    if not streamed and sum(leaf.nbytes for leaf in leaves) <= device_bytes:
        devices = fit.devices or ()
        data = parallel.replicated(data, devices) if len(devices) > 1 else jax.device_put(data)
        whole = jax.jit(
            lambda state, data, context, epoch: run_epoch(fit, state, key, context, data, epoch)
        )
        for epoch in range(first, stop):
            state, loss, seen = whole(state, data, context, epoch)
            yield epoch, state, float(loss), seen
        return

    part = jax.jit(
        lambda state, key, data, context, rows, first: run_steps(
            fit, state, key, context, data, rows, first
        )
    )
    row_bytes = sum(leaf.nbytes for leaf in leaves) // len(leaves[0])
    for epoch in range(first, stop):
        rows = np.asarray(batches(key, epoch, len(leaves[0]), fit.batch_size))
        epoch_key = jax.random.fold_in(jax.random.fold_in(key, epoch), 1)
        slice_bytes = min(device_bytes, STREAMED_BYTES) if streamed else device_bytes
        slice_steps = max(1, slice_bytes // max(1, row_bytes * rows.shape[1]))
        losses: list[Array] = []
        parts: list[Any] = []
        for start in range(0, len(rows), slice_steps):
            chosen = rows[start : start + slice_steps]
            local = np.arange(chosen.size).reshape(chosen.shape)
            sent = jax.tree.map(lambda leaf, chosen=chosen: leaf[chosen.ravel()], data)
            state, loss, observed = part(state, epoch_key, sent, context, local, start)
            jax.block_until_ready(losses[-1:])  # the one before: what waits is in memory
            losses.append(loss)
            parts.append(observed)
        seen = None if fit.observe is None else Seen(rows, jnp.concatenate(parts))
        yield epoch, state, float(jnp.concatenate(losses).mean()), seen
