"""What an objective of refinement is: the part that methods differ in (JAX).

The loop (`refine.refiner`) is one for all: it draws batches of the pool, differentiates the
objective in pixels and labels, and lets the objective go on with its networks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from infoutil_jax import models
from infoutil_jax.blocks import flattened
from infoutil_jax.data.siamese import Siamese
from infoutil_jax.method.contracts import Pool
from infoutil_jax.models import Architecture
from infoutil_jax.models.layers import MOMENTUM

Variables = dict[str, Any]
NormalisedBy = Literal["set", "running"]


class Synthetic(NamedTuple):
    """The set that is refined, as an objective sees it.

    Attributes:
        images: normalised.
        probabilities: what each tile of each image is taken to be; rows sum to 1.
        extra: what else the objective learns (`Objective.extra`).
    """

    images: Float[Array, "n height width channels"]
    probabilities: Float[Array, "n tiles classes"]
    extra: Any = ()

    def taught(self) -> Float[Array, "n classes"]:
        """What a whole image is taken to be: the mean of its tiles."""
        return self.probabilities.mean(1)


class Batch(NamedTuple):
    """Real images of the pool.

    Attributes:
        images: normalised.
        classes: one-hot.
    """

    images: Float[Array, "batch height width channels"]
    classes: Float[Array, "batch classes"]


@dataclass(frozen=True)
class Network:
    """The kind of network that an objective trains or looks through.

    Attributes:
        architecture: with what it is made for.
        view: in which images are seen; the same key is the same view.
    """

    architecture: Architecture
    view: Siamese

    @cached_property
    def train(self) -> models.Train:
        """The network as a function, in training mode: it normalises by the batch it is given."""
        return models.Train(models.outline(self.architecture)[0].graphdef)

    def init(self, key: Key[Array, ""]) -> Variables:
        """Variables of a fresh network; may be traced."""
        return models.as_train(models.build(self.architecture, nnx.Rngs(key)))[1]

    def features(
        self,
        variables: Variables,
        images: Float[Array, "n height width channels"],
        real: Float[Array, "m height width channels"],
        by: NormalisedBy = "set",
    ) -> tuple[Float[Array, "n features"], Float[Array, "m features"]]:
        """What the classifier layer sees of each image of the set, and of real ones, flattened.

        Batch normalisation normalises both by the same statistics: by the set's, as in a student
        that has learnt from it and has seen no others when it meets real images, so that what is
        seen of real images changes with the set, too; or by the network's running averages.
        """
        evaluated = models.Predict(self.train.graphdef)
        if by == "running":
            seen, asked = (evaluated.features(variables, x) for x in (images, real))
            return flattened(seen), flattened(asked)
        plain = dict(variables)
        if "batch_stats" in plain:
            plain["batch_stats"] = jax.tree.map(jnp.zeros_like, plain["batch_stats"])
        maps, after = self.train.features(plain, images)
        # A running average that begins at nought, after one batch.
        averages = jax.tree.map(lambda leaf: leaf / (1 - MOMENTUM), after.get("batch_stats", {}))
        if averages:
            variables = {**variables, "batch_stats": averages}
        return flattened(maps), flattened(evaluated.features(variables, real))


class Step(NamedTuple):
    """One step of refinement.

    Attributes:
        key: of all that it draws.
        progress: share of the steps that are done, 0 to 1.
    """

    key: Key[Array, ""]
    progress: Float[Array, ""]


class Objective(ABC):
    """What a refined set is to be good for, as a loss that is differentiable in it.

    Subclass it as a frozen dataclass: it is hashed into the compiled program and written into the
    manifest. Only `loss` is needed; the rest is for objectives that learn or know more.
    """

    def sized(self, count: int) -> Objective:
        """The same for a set of `count` images, where what it does depends on that."""
        return self

    def seen(self, real: int, count: int) -> int:
        """Images that networks see in a step, forward and backward, about: to say what it takes.

        Args:
            real: images of a batch.
            count: images of the set.
        """
        return real + count

    def extra(self) -> Any:
        """What it learns beside pixels and labels: a pytree of float arrays."""
        return ()

    def prepare(self, network: Network, key: Key[Array, ""], pool: Pool, scale: Any) -> Any:
        """What it needs from the pool before the first step, on the host.

        `scale` makes pixels what networks take (`data.augment.Normalisation`).
        """
        return ()

    def start(self, network: Network, key: Key[Array, ""]) -> Any:
        """Its state before the first step: networks, say. May be traced."""
        return ()

    @abstractmethod
    def loss(
        self,
        network: Network,
        known: tuple[Any, Any],
        step: Step,
        synthetic: Synthetic,
        batch: Batch,
    ) -> Float[Array, ""]:
        """The loss of a set on one batch.

        Args:
            network: the kind of network.
            known: what was prepared, and the state.
            step: the key, and how far refinement has gone.
            synthetic: the set.
            batch: of the pool.
        """

    def advance(self, network: Network, state: Any, step: Step, synthetic: Synthetic) -> Any:
        """The state after a step: a network that has learnt from the set, say."""
        return state


def pick(key: Key[Array, ""], many: Any) -> tuple[Array, Any]:
    """One of several stacked networks: its number, and what the stack holds of it."""
    count = jax.tree.leaves(many)[0].shape[0]
    number = jax.random.randint(key, (), 0, count)
    return number, jax.tree.map(lambda leaf: leaf[number], many)
