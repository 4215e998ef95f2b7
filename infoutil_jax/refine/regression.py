"""Refinement through kernel regression: FRePo, and KIP on our own kernel (JAX).

What a student learns from the set is replaced by what ridge regression on features learns from it,
which is known in closed form and differentiable in pixels and labels. FRePo (Zhou, Nezhadarya & Ba,
NeurIPS 2022) regresses on features of networks that are trained on the set
meanwhile; KIP (Nguyen, Chen & Lee, ICLR 2021) on a kernel of untrained ones, which RFAD
(Loo et al., NeurIPS 2022) estimates from random networks, as here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from infoutil_jax import ranges
from infoutil_jax.method.selection.kernel_student import TEMPERATURE
from infoutil_jax.refine.contracts import (
    Batch,
    Network,
    NormalisedBy,
    Objective,
    Step,
    Synthetic,
    Variables,
    pick,
)


def answers(
    own: Float[Array, "n n"],
    across: Float[Array, "batch n"],
    taught: Float[Array, "n classes"],
    ridge: float,
) -> Float[Array, "batch classes"]:
    """What ridge regression answers about a batch, relative to the mean of all classes.

    Args:
        own: kernel of the set with itself.
        across: of the batch with the set.
        taught: what the set teaches, relative to the mean of all classes.
        ridge: variance of the labels' noise, in units of the kernel's mean diagonal.
    """
    noise = ridge * jnp.trace(own) / len(own)
    weights = jax.scipy.linalg.solve(own + noise * jnp.eye(len(own)), taught, assume_a="pos")
    return across @ weights


@jax.custom_jvp
def _bend(cosine: Array) -> Array:
    """The arc-cosine kernel of degree 1 as a function of the cosine."""
    cosine = jnp.clip(cosine, -1, 1)
    return (jnp.sqrt(1 - cosine**2) + cosine * (jnp.pi - jnp.arccos(cosine))) / jnp.pi


@_bend.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """Its slope is finite at both ends, where those of its terms are not."""
    cosine = jnp.clip(primals[0], -1, 1)
    return _bend(cosine), (1 - jnp.arccos(cosine) / jnp.pi) * tangents[0]


def arc_cosine(a: Float[Array, "n dim"], b: Float[Array, "m dim"]) -> Float[Array, "n m"]:
    """`selection.kernel_student.arc_cosine`, differentiable: 1 for the same direction."""
    return _bend(_directions(a) @ _directions(b).T)


def _directions(rows: Float[Array, "n dim"]) -> Float[Array, "n dim"]:
    """Rows of length 1, or of nought, where a root has no gradient."""
    square = jnp.square(rows).sum(1, keepdims=True)
    length = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 1)
    return rows / jnp.maximum(length, 1e-12)


class Trained(NamedTuple):
    """Networks of different ages, stacked.

    Attributes:
        variables: of each.
        optimiser: likewise.
        age: passes over the set that each has learnt for.
    """

    variables: Variables
    optimiser: Any
    age: Float[Array, " networks"]


@dataclass(frozen=True)
class NeuralFeatureRegression(Objective):
    """FRePo: ridge regression on the features of networks that learn from the set meanwhile.

    Every step takes one of several networks, of whatever age. The loss is the squared error of the
    regression's answers about a batch of real images, half its sum over the classes, on the mean.
    Then that network learns from the set for one step, and a new one takes the place of one that
    has reached its greatest age.

    Attributes:
        networks: how many there are at once.
        greatest_age: passes over the set after which a network is replaced: a step is one, or a
            part of one where the set has more than `batch_size` images. None: 100 for such a set,
            20 for a smaller one, which a network soon knows by heart.
        ridge: in units of the kernel's mean diagonal.
        learning_rate: of the networks, AdamW's.
        mirrored: the set's mirror images are regressed on, too, where images may be mirrored and
            the set has at most `batch_size` images.
        error: "scaled", of the answers at the scale at which it is least, or "squared", as in the
            paper. Under the latter a set of few images learns contrast: what is regressed on
            stronger features is answered more faintly, and faint answers are seldom far wrong.
        batch_size: images of the set that a network learns from in a step, at most; they are drawn
            anew for every step, as a student's are.
        normalised_by: whose statistics batch normalisation takes for what is regressed on and asked
            about: "set", the set's own, as in its students, or "running", the network's running
            averages, as in the published code.
    """

    networks: int = 10
    greatest_age: int | None = None
    ridge: float = 0.01
    learning_rate: float = 0.001
    mirrored: bool = True
    error: Literal["scaled", "squared"] = "scaled"
    batch_size: int = 100
    normalised_by: NormalisedBy = "set"

    def __post_init__(self) -> None:
        ranges.check_choice("error", self.error, ("scaled", "squared"))
        ranges.check_choice("normalised_by", self.normalised_by, get_args(NormalisedBy))
        ranges.check(self, batch_size=ranges.COUNT, greatest_age=ranges.COUNT)

    def sized(self, count: int) -> NeuralFeatureRegression:
        """The same with a greatest age, that of a set of `count` images where none is chosen."""
        return replace(self, greatest_age=self._lasts(count))

    def seen(self, real: int, count: int) -> int:
        """The batch, the set, with its mirror images if any, and what a network learns from."""
        twice = self.mirrored and count <= self.batch_size
        return real + count * (1 + twice) + min(count, self.batch_size)

    def start(self, network: Network, key: Key[Array, ""]) -> Trained:
        """Fresh networks; how long each has until it is replaced is drawn."""
        fresh, ages = jax.random.split(key)
        variables = jax.vmap(network.init)(jax.random.split(fresh, self.networks))
        optimiser = jax.vmap(self._optimiser().init)(variables["params"])
        # Of which set is decided already where a refiner asks (`sized`).
        age = jax.random.randint(ages, (self.networks,), 0, self._lasts(1))
        return Trained(variables, optimiser, age.astype(jnp.float32))

    def loss(
        self,
        network: Network,
        known: tuple[Any, Trained],
        step: Step,
        synthetic: Synthetic,
        batch: Batch,
    ) -> Float[Array, ""]:
        """Half the squared error of the regression's answers, at their scale or the best."""
        which, view = jax.random.split(jax.random.fold_in(step.key, 0))
        variables = pick(which, known[1].variables)[1]
        images, taught = network.view(view, synthetic.images), synthetic.taught()
        if self.mirrored and network.view.flip and len(images) <= self.batch_size:
            images = jnp.concatenate([images, images[:, :, ::-1]])
            taught = jnp.concatenate([taught, taught])
        seen, real = network.features(variables, images, batch.images, self.normalised_by)
        mean = 1 / batch.classes.shape[1]
        found = answers(seen @ seen.T, real @ seen.T, taught - mean, self.ridge)
        wanted = batch.classes - mean
        if self.error == "scaled":
            found *= (found * wanted).sum() / jnp.maximum((found**2).sum(), 1e-12)
        return 0.5 * ((found - wanted) ** 2).sum(1).mean()

    def advance(
        self, network: Network, state: Trained, step: Step, synthetic: Synthetic
    ) -> Trained:
        """The same network after a step on the set, or a new one."""
        which, _ = jax.random.split(jax.random.fold_in(step.key, 0))
        view, fresh = jax.random.split(jax.random.fold_in(step.key, 1))
        number, one = pick(which, state)
        images, taught = synthetic.images, synthetic.taught()
        age = one.age + min(1.0, self.batch_size / len(images))
        if len(images) > self.batch_size:
            drawn = jax.random.fold_in(step.key, 2)
            rows = jax.random.choice(drawn, len(images), (self.batch_size,), replace=False)
            images, taught = images[rows], taught[rows]
        images = network.view(view, images)

        def objective(params: Any) -> tuple[Array, Variables]:
            logits, after = network.train({**one.variables, "params": params}, images)
            return optax.softmax_cross_entropy(logits, taught).mean(), after

        params = one.variables["params"]
        gradient, after = jax.grad(objective, has_aux=True)(params)
        updates, optimiser = self._optimiser().update(gradient, one.optimiser, params)
        trained = {**after, "params": optax.apply_updates(params, updates)}

        def renewed(key: Array) -> Trained:
            variables = network.init(key)
            empty = self._optimiser().init(variables["params"])
            return Trained(variables, empty, jnp.zeros_like(one.age))

        # The condition is about one network: about the stack, it would copy all of it.
        older = Trained(trained, optimiser, age)
        last = age >= self._lasts(len(synthetic.images))
        now = jax.lax.cond(last, renewed, lambda _: older, fresh)
        done: Trained = jax.tree.map(lambda many, new: many.at[number].set(new), state, now)
        return done

    def _lasts(self, count: int) -> int:
        return self.greatest_age or (100 if count > self.batch_size else 20)

    def _optimiser(self) -> optax.GradientTransformation:
        return optax.adamw(self.learning_rate, weight_decay=0.01)


@dataclass(frozen=True)
class KernelRegression(Objective):
    """KIP on our own kernel: the set from which the kernel student learns most about the pool.

    The kernel is that of `infoutil`'s choice: arc-cosine, of the directions of what untrained
    networks see, here on the mean over networks that are drawn anew for every step.

    Attributes:
        networks: drawn for every step.
        ridge: in units of the kernel's diagonal.
        error: "cross_entropy" of the answers as log-odds, in nats, as in `infoutil`'s choice,
            or "squared", half of it, as in KIP.
    """

    networks: int = 2
    ridge: float = 0.001
    error: Literal["cross_entropy", "squared"] = "cross_entropy"

    def __post_init__(self) -> None:
        ranges.check_choice("error", self.error, ("cross_entropy", "squared"))

    def seen(self, real: int, count: int) -> int:
        """Batch and set, by every network."""
        return self.networks * (real + count)

    def loss(
        self,
        network: Network,
        known: tuple[Any, Any],
        step: Step,
        synthetic: Synthetic,
        batch: Batch,
    ) -> Float[Array, ""]:
        """The kernel student's error about a batch."""
        view, *keys = jax.random.split(step.key, self.networks + 1)
        images = network.view(view, synthetic.images)
        own, across = jnp.zeros((len(images),) * 2), jnp.zeros((len(batch.images), len(images)))
        for key in keys:
            variables = network.init(key)
            seen, real = network.features(variables, images, batch.images)
            own += arc_cosine(seen, seen) / self.networks
            across += arc_cosine(real, seen) / self.networks
        mean = 1 / batch.classes.shape[1]
        found = answers(own, across, synthetic.taught() - mean, self.ridge)
        if self.error == "squared":
            return 0.5 * ((found - (batch.classes - mean)) ** 2).sum(1).mean()
        surprise: Array = optax.softmax_cross_entropy(found / TEMPERATURE, batch.classes)
        return surprise.mean()
