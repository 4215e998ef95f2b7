"""The steps of refinement as one compiled program, whatever the objective (JAX)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from infoutil_jax.data.augment import Normalisation
from infoutil_jax.image import mosaic
from infoutil_jax.refine.contracts import Batch, Network, Step, Synthetic
from infoutil_jax.refine.spectrum import Spectrum


class Learnt(NamedTuple):
    """What gradients change.

    Attributes:
        images: normalised.
        labels: logits of what each tile is taken to be.
        extra: of the objective.
    """

    images: Float[Array, "n height width channels"]
    labels: Float[Array, "n tiles classes"]
    extra: Any


class Given(NamedTuple):
    """What stays the same from the first step to the last: a pytree of arrays.

    Attributes:
        first: what refinement started from.
        known: what the objective has prepared.
        scale: makes pixels what networks take.
        key: of every step's draws.
        spectrum: whose coefficients steps are taken in; None for pixels.
    """

    first: Learnt
    known: Any
    scale: Normalisation
    key: Key[Array, ""]
    spectrum: Spectrum | None


class State(NamedTuple):
    """What one step hands to the next: a pytree of arrays."""

    learnt: Learnt
    optimiser: Any
    objective: Any


def levels(images: Array, scale: Normalisation) -> Array:
    """Normalised images as pixels from 0 to 255, rounded."""
    return jnp.round(jnp.clip((images * scale.std + scale.mean) * 255, 0, 255))


@dataclass(frozen=True)
class Program:
    """The compiled half of a refiner: one for all sets of its shape."""

    refiner: Any  # a `Refiner`, whose module imports this one
    network: Network

    def optimiser(self) -> optax.GradientTransformation:
        """Adam, with a rate of its own for pixels, labels and what else is learnt."""
        refiner = self.refiner
        half = partial(optax.cosine_decay_schedule, decay_steps=refiner.steps)
        slow = optax.adam(half(refiner.label_learning_rate))
        fixed = optax.set_to_zero()
        rates = {
            "images": optax.adam(half(refiner.learning_rate)),
            "labels": slow if refiner.labels == "learnt" else fixed,
            "extra": slow,
        }
        return optax.multi_transform(rates, _groups)

    @partial(jax.jit, static_argnums=0)
    def begin(self, first: Learnt, key: Array) -> State:
        """The state before the first step."""
        state = self.refiner.objective.start(self.network, key)
        return State(first, self.optimiser().init(first), state)

    @partial(jax.jit, static_argnums=0, donate_argnums=1)
    def chunk(
        self,
        state: State,
        given: Given,
        batches: tuple[Array, Array],
        start: Any,
        stop: Any,
    ) -> tuple[State, Float[Array, " steps"]]:
        """Steps `start` to `stop`, and the loss of each."""
        pixels, labels = batches

        def step(number: Array, carry: tuple[State, Array]) -> tuple[State, Array]:
            state, losses = carry
            batch = Batch(
                given.scale(pixels[number - start]),
                jax.nn.one_hot(labels[number - start], given.first.labels.shape[2]),
            )
            state, loss = self._step(state, given, batch, number)
            return state, losses.at[number - start].set(loss)

        losses = jnp.zeros(len(pixels))
        done: tuple[State, Array] = jax.lax.fori_loop(start, stop, step, (state, losses))
        return done

    def _step(self, state: State, given: Given, batch: Batch, number: Array) -> tuple[State, Array]:
        refiner, objective, scale = self.refiner, self.refiner.objective, given.scale
        step = Step(jax.random.fold_in(given.key, number), number / refiner.steps)
        known = given.known, state.objective

        def loss(learnt: Learnt) -> Array:
            found = objective.loss(self.network, known, step, self._seen(learnt, scale), batch)
            if refiner.total_variation:
                found += refiner.total_variation * total_variation(learnt.images)
            if refiner.distance:
                found += refiner.distance * ((learnt.images - given.first.images) ** 2).mean()
            return cast(Array, found)

        value, gradient = jax.value_and_grad(loss)(state.learnt)
        if given.spectrum is not None:
            gradient = gradient._replace(images=given.spectrum.gradient(gradient.images))
        updates, optimiser = self.optimiser().update(gradient, state.optimiser, state.learnt)
        if given.spectrum is not None:
            updates = updates._replace(images=given.spectrum.pixels(updates.images))
        learnt: Learnt = optax.apply_updates(state.learnt, updates)
        low, high = -scale.mean / scale.std, (1 - scale.mean) / scale.std
        learnt = learnt._replace(images=jnp.clip(learnt.images, low, high))
        seen = jax.lax.stop_gradient(self._seen(learnt, scale))
        after = objective.advance(self.network, state.objective, step, seen)
        return State(learnt, optimiser, after), value

    def _seen(self, learnt: Learnt, scale: Normalisation) -> Synthetic:
        """The set as the objective sees it.

        Pixels are rounded, with a gradient as if they were not; under a partition every tile is an
        image of its own.
        """
        images = learnt.images
        if self.refiner.quantise:
            written = (levels(images, scale) / 255 - scale.mean) / scale.std
            images = images + jax.lax.stop_gradient(written - images)
        probabilities = jax.nn.softmax(learnt.labels)
        if self.refiner.partition:
            _, tiles, classes = probabilities.shape
            images = mosaic.enlarged(images, tiles)
            probabilities = probabilities.reshape(-1, 1, classes)
        return Synthetic(images, probabilities, learnt.extra)


def total_variation(images: Float[Array, "n height width channels"]) -> Float[Array, ""]:
    """Mean absolute difference between neighbours, of rows and of columns, summed."""
    down = jnp.abs(jnp.diff(images, axis=1)).mean()
    return down + jnp.abs(jnp.diff(images, axis=2)).mean()


def _groups(learnt: Learnt) -> Any:
    """Which rate each leaf has."""
    extra = jax.tree.map(lambda _: "extra", learnt.extra)
    return Learnt(cast(Array, "images"), cast(Array, "labels"), extra)
