"""Modules as pure functions of their variables (JAX).

The rest of the library knows a model as `predict(variables, images) -> logits` and nothing else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from infoutil_jax.method.logits import logits_of

Variables = dict[str, Any]

# Collections of `variables`, in the order in which a module's state is sorted into them. Random
# keys (of a dropout, say) are kept as plain integers, which any file format can hold.
_COLLECTIONS = {
    "params": nnx.Param,
    "batch_stats": nnx.BatchStat,
    "rng_keys": nnx.RngKey,
    "other": ...,
}


def _rename(tree: Any, rename: Callable[[Any], Any]) -> Any:
    if isinstance(tree, Mapping):
        return {rename(key): _rename(value, rename) for key, value in tree.items()}
    return tree


def _from_states(states: Mapping[str, Any]) -> Variables:
    variables = {name: _rename(nnx.to_pure_dict(state), str) for name, state in states.items()}
    variables["rng_keys"] = jax.tree.map(jax.random.key_data, variables["rng_keys"])
    return {
        name: tree for name, tree in variables.items() if tree or name in ("params", "batch_stats")
    }


def split(module: nnx.Module) -> tuple[nnx.GraphDef[Any], Variables]:
    """A module's structure, and its variables."""
    graphdef, *states = nnx.split(module, *_COLLECTIONS.values())
    return graphdef, _from_states(dict(zip(_COLLECTIONS, states, strict=True)))


def merge(graphdef: nnx.GraphDef[Any], variables: Mapping[str, Any]) -> Any:
    """The module of a structure and variables, as they were before `split`."""
    trees = dict(variables)
    if "rng_keys" in trees:
        trees["rng_keys"] = jax.tree.map(jax.random.wrap_key_data, trees["rng_keys"])
    # Elements of an nnx.List have integers for names; variables have strings throughout.
    states = [_rename(tree, lambda k: int(k) if k.isdigit() else k) for tree in trees.values()]
    return nnx.merge(graphdef, *states)


@dataclass(frozen=True)
class Predict:
    """`predict(variables, images) -> logits` of a module in evaluation mode.

    Equal and equally hashed for modules of one architecture, so that `jax.jit` with `predict` as
    a static argument compiles once.
    """

    graphdef: nnx.GraphDef[Any]

    def __call__(
        self, variables: Mapping[str, Any], images: Float[Array | np.ndarray, " batch *image"]
    ) -> Float[Array, "batch classes"]:
        """Logits of normalised images."""
        logits: Array = logits_of(self._module(variables)(jnp.asarray(images)))
        return logits

    def features(
        self, variables: Mapping[str, Any], images: Float[Array, " batch *image"]
    ) -> Float[Array, "batch rows columns channels"]:
        """The last convolutional maps, for modules that have a `features` method."""
        maps: Array = self._module(variables).features(images)
        return maps

    def head(
        self,
        variables: Mapping[str, Any],
        features: Float[Array, "batch rows columns channels"],
    ) -> Float[Array, "batch classes"]:
        """Logits of those maps: `head(features(images))` is `predict(images)`."""
        logits: Array = logits_of(self._module(variables).head(features))
        return logits

    def _module(self, variables: Mapping[str, Any]) -> Any:
        module = merge(self.graphdef, variables)
        module.eval()
        return module


@dataclass(frozen=True)
class Train:
    """`apply(variables, images) -> (logits, variables)` of a module in training mode.

    The returned variables have the running statistics (and random counters) moved on by one
    batch and the parameters as they were.
    """

    graphdef: nnx.GraphDef[Any]

    def __call__(
        self, variables: Mapping[str, Any], images: Float[Array, " batch *image"]
    ) -> tuple[Float[Array, "batch classes"], Variables]:
        """Logits of one batch, and the variables after it."""
        module = merge(self.graphdef, variables)
        module.train()
        logits = logits_of(module(images))
        return logits, split(module)[1]

    def features(
        self, variables: Mapping[str, Any], images: Float[Array, " batch *image"]
    ) -> tuple[Float[Array, "batch rows columns channels"], Variables]:
        """The last convolutional maps, for modules that have them, and the variables after it.

        Only batch normalisation is in training mode: nothing is left out by chance.
        """
        module = merge(self.graphdef, variables)
        module.eval()
        module.set_attributes(use_running_average=False, raise_if_not_found=False)
        return module.features(images), split(module)[1]


def as_predict(module: nnx.Module) -> tuple[Predict, Variables]:
    """The function of a module in evaluation mode, and its variables.

    Args:
        module: any NNX module from images to logits, or to what `method.logits.logits_of` knows.

    Returns:
        predict: `predict(variables, images[batch, height, width, channels]) -> [batch, classes]`,
            hashable.
        variables: `{"params": ..., "batch_stats": ...}`, nested dicts of arrays; other state of
            the module under further keys.
    """
    graphdef, variables = split(module)
    return Predict(graphdef), variables


def as_train(module: nnx.Module) -> tuple[Train, Variables]:
    """The function of a module in training mode, and its variables.

    Args:
        module: any NNX module from images to logits.

    Returns:
        apply: `apply(variables, images) -> (logits, variables after the batch)`, hashable.
        variables: as those of `as_predict`, and interchangeable with them.
    """
    graphdef, variables = split(module)
    return Train(graphdef), variables
