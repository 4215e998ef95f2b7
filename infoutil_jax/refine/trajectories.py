"""Trajectory matching: MTT in TESLA's constant memory, with DATM's window (JAX).

MTT (Cazenavette et al., CVPR 2022): a student that starts where an expert stood and
learns from the set for some steps is to end where the expert, which learns from the real images,
ended some epochs later. TESLA (Cui et al., ICML 2023) takes the gradient step by step,
so that memory does not grow with the number of steps. DATM (Guo et al., ICLR 2024)
says from which part of the experts' training the starts are drawn, and widens it as it goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Key

from infoutil_jax.errors import InputError
from infoutil_jax.method.contracts import Pool
from infoutil_jax.refine.contracts import Batch, Network, Objective, Step, Synthetic, pick
from infoutil_jax.training import fit

Params = Any


@dataclass(frozen=True)
class TrajectoryMatching(Objective):
    """MTT: the set's students are to go where experts went.

    The loss is the squared distance between the student's and the expert's parameters, in units of
    the squared distance that the expert went.

    Attributes:
        experts: trained on the pool before the first step.
        expert_epochs: that each expert is trained for; its parameters are kept after each.
        expert_rate: of their gradient descent (no momentum, no decay).
        expert_batch_size: real images a step of theirs.
        ahead: epochs of an expert that a student is to make up for.
        student_steps: in which it does.
        student_batch_size: synthetic images a step; a set that is smaller is taken whole.
        earliest: epoch of the earliest start.
        latest: epoch of the latest start, at the end.
        latest_at_first: likewise, at the beginning; it grows evenly in between.
        student_rate: of the students' gradient descent at first; it is learnt.

    Raises:
        InputError: starts from which an expert does not go `ahead`, or a number out of range.
    """

    experts: int = 4
    expert_epochs: int = 20
    expert_rate: float = 0.01
    expert_batch_size: int = 128
    ahead: int = 2
    student_steps: int = 20
    student_batch_size: int = 128
    earliest: int = 0
    latest: int = 10
    latest_at_first: int = 5
    student_rate: float = 0.01

    def __post_init__(self) -> None:
        for name in ("experts", "expert_epochs", "ahead", "student_steps", "student_batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        window = self.earliest, self.latest_at_first, self.latest
        last = self.expert_epochs - self.ahead
        if not 0 <= window[0] <= window[1] <= window[2] <= last:
            raise InputError(
                f"earliest, latest_at_first and latest are {window}: they must be in this order, "
                f"from 0 to {last}, for experts are trained for {self.expert_epochs} epochs and "
                f"students go {self.ahead} ahead"
            )

    def seen(self, real: int, count: int) -> int:
        """What a student takes in, twice: to go there, and back for the gradient. No real image."""
        return 2 * self.student_steps * min(count, self.student_batch_size)

    def extra(self) -> Any:
        """The logarithm of the students' rate."""
        return {"log_rate": jnp.log(jnp.float32(self.student_rate))}

    def prepare(self, network: Network, key: Key[Array, ""], pool: Pool, scale: Any) -> Params:
        """Parameters of the experts, `[experts, epochs + 1, ...]`."""
        keys = jax.random.split(key, self.experts)
        each = [self._expert(network, one, pool, scale) for one in keys]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)

    def _expert(self, network: Network, key: Key[Array, ""], pool: Pool, scale: Any) -> Params:
        fresh, order = jax.random.split(key)
        variables = jax.jit(network.init)(fresh)

        def view(context: Any, key: Array, batch: Any) -> tuple[Array, Array]:
            return network.view(key, context(batch[0])), batch[1]

        def loss(logits: Array, labels: Array) -> Array:
            found: Array = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return found.mean()

        training = fit.Fit(
            network.train, view, loss, optax.sgd(self.expert_rate), self.expert_batch_size
        )
        passed = [variables["params"]]
        data, epochs = (pool.images, pool.labels), self.expert_epochs
        for _, state, _, _ in fit.epochs(
            training, training.init(variables), order, data, first=0, stop=epochs, context=scale
        ):
            passed.append(state.variables["params"])
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *passed)

    def start(self, network: Network, key: Key[Array, ""]) -> Any:
        """Statistics of batch normalisation, which training mode does not read."""
        return {k: v for k, v in network.init(key).items() if k != "params"}

    def loss(
        self,
        network: Network,
        known: tuple[Any, Any],
        step: Step,
        synthetic: Synthetic,
        batch: Batch,
    ) -> Float[Array, ""]:
        """How far the student ends from the expert; `batch` is not asked."""
        trajectories, rest = known
        which, when, steps = jax.random.split(step.key, 3)
        path = pick(which, trajectories)[1]
        width = self.latest - self.latest_at_first
        latest = self.latest_at_first + jnp.floor(step.progress * (width + 1)).astype(int)
        epoch = jax.random.randint(when, (), self.earliest, jnp.minimum(latest, self.latest) + 1)
        begin = jax.tree.map(lambda leaf: leaf[epoch], path)
        target = jax.tree.map(lambda leaf: leaf[epoch + self.ahead], path)
        descend = partial(self._gradient, network, rest, steps)
        rate = jnp.exp(synthetic.extra["log_rate"])
        shown = synthetic.images, synthetic.taught()
        return distance_after(descend, self.student_steps, shown, rate, begin, target)

    def _gradient(
        self,
        network: Network,
        rest: Any,
        key: Key[Array, ""],
        params: Params,
        shown: tuple[Array, Array],
        number: Array,
    ) -> Params:
        """The gradient of the student's loss on one batch of the set."""
        order, view = jax.random.split(jax.random.fold_in(key, number))
        count = len(shown[0])
        size = min(count, self.student_batch_size)
        rows = jax.random.permutation(order, count)[:size]
        images, taught = network.view(view, shown[0][rows]), shown[1][rows]

        def loss(params: Params) -> Array:
            logits, _ = network.train({**rest, "params": params}, images)
            found: Array = optax.softmax_cross_entropy(logits, taught)
            return found.mean()

        return jax.grad(loss)(params)


def distance_after(
    descend: Any,
    steps: int,
    shown: Any,
    rate: Float[Array, ""],
    begin: Params,
    target: Params,
) -> Float[Array, ""]:
    """Squared distance to `target` after descent from `begin`, in units of theirs to each other.

    Its derivative is TESLA's: each step's gradient is differentiated where that step stands, as if
    the place did not depend on the set. It is that of the distance itself for one step, and takes
    the memory of one step for any number.

    Args:
        descend: `descend(parameters, shown, number) -> gradient` of step `number`.
        steps: of the descent.
        shown: what the student learns from: a pytree; the result is differentiable in it.
        rate: of the descent; likewise.
        begin: where it starts.
        target: where it is to end.
    """
    begin, target = lax.stop_gradient((begin, target))

    def ended(shown: Any, rate: Array) -> Params:
        def one(number: Array, params: Params) -> Params:
            gradient = descend(params, shown, number)
            return jax.tree.map(lambda p, g: p - rate * g, params, gradient)

        return lax.fori_loop(0, steps, one, begin)

    unit = _square(jax.tree.map(jnp.subtract, begin, target))

    @jax.custom_vjp
    def distance(shown: Any, rate: Array) -> Array:
        return _square(jax.tree.map(jnp.subtract, ended(shown, rate), target)) / unit

    def forward(shown: Any, rate: Array) -> tuple[Array, Any]:
        gap = jax.tree.map(jnp.subtract, ended(shown, rate), target)
        return _square(gap) / unit, (shown, rate, gap)

    def backward(saved: Any, cotangent: Array) -> Any:
        shown, rate, gap = saved
        pull = jax.tree.map(lambda leaf: 2 * cotangent * leaf / unit, gap)

        def one(number: Array, carry: Any) -> Any:
            params, (for_shown, for_rate) = carry
            gradient, back = jax.vjp(lambda shown: descend(params, shown, number), shown)
            (part,) = back(jax.tree.map(lambda leaf: -rate * leaf, pull))
            for_rate -= _product(pull, gradient)
            params = jax.tree.map(lambda p, g: p - rate * g, params, gradient)
            return params, (jax.tree.map(jnp.add, for_shown, part), for_rate)

        nothing = jax.tree.map(jnp.zeros_like, shown), jnp.zeros_like(rate)
        return lax.fori_loop(0, steps, one, (begin, nothing))[1]

    distance.defvjp(forward, backward)
    found: Array = distance(shown, rate)
    return found


def _product(one: Params, other: Params) -> Array:
    leaves = jax.tree.map(lambda a, b: jnp.vdot(a, b), one, other)
    return jnp.sum(jnp.stack(jax.tree.leaves(leaves)))


def _square(params: Params) -> Array:
    return _product(params, params)
