"""Backbones in Flax NNX, and their functional views (JAX).

The rest of the library knows a model as `predict(variables, images) -> logits` and nothing else.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from infoutil_jax.errors import InputError
from infoutil_jax.models.convnet import convnet
from infoutil_jax.models.mobilenet_v2 import mobilenet_v2
from infoutil_jax.models.resnet import resnet
from infoutil_jax.models.swin_v2 import swin_v2_t
from infoutil_jax.models.vgg import vgg

Variables = dict[str, Any]

BACKBONES: dict[str, Callable[..., nnx.Module]] = {
    **{f"convnet{depth}": partial(convnet, depth) for depth in (3, 4, 5, 6)},
    **{f"resnet{depth}": partial(resnet, depth) for depth in (18, 50, 101)},
    "mobilenet_v2": mobilenet_v2,
    "vgg11": partial(vgg, False),
    "vgg11_bn": partial(vgg, True),
    "swin_v2_t": swin_v2_t,
}


def create(
    name: str,
    *,
    num_classes: int,
    image_size: int | tuple[int, int],
    channels: int = 3,
    rngs: nnx.Rngs,
    **options: Any,
) -> nnx.Module:
    """A freshly initialised backbone.

    Args:
        name: a key of `BACKBONES`.
        num_classes: outputs.
        image_size: side, or height and width, of the images in pixels.
        channels: of the images.
        rngs: randomness of the initial weights.
        **options: the backbone's own, as `width=128` and `norm="batch"` of the ConvNets.

    Returns:
        A module from normalised images `[batch, height, width, channels]` to logits.

    Raises:
        InputError: unknown name or option, or an image size that the backbone cannot take.

    Example:
        >>> model = create("convnet3", num_classes=10, image_size=32, rngs=nnx.Rngs(0))
        >>> predict, variables = as_predict(model)
    """
    if name not in BACKBONES:
        raise InputError(f"backbone {name!r} is unknown: choose one of {', '.join(BACKBONES)}")
    factory, known = BACKBONES[name], options_of(name)
    for option in options:
        if option not in known:
            has = ", ".join(sorted(known)) or "none"
            raise InputError(f"backbone {name} has no option {option!r}; its options: {has}")
    if num_classes < 1 or channels < 1:
        raise InputError(
            f"a backbone needs at least one class and one channel, got {num_classes} and {channels}"
        )
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    return factory(
        num_classes=num_classes, image_size=size, channels=channels, rngs=rngs, **options
    )


def options_of(name: str) -> set[str]:
    """Names of a backbone's own options, as `width`; none for an unknown backbone."""
    known = set(inspect.signature(BACKBONES[name]).parameters) if name in BACKBONES else set()
    return known - {"num_classes", "image_size", "channels", "rngs"}


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


def _split(module: nnx.Module) -> tuple[nnx.GraphDef, Variables]:
    graphdef, *states = nnx.split(module, *_COLLECTIONS.values())
    return graphdef, _from_states(dict(zip(_COLLECTIONS, states, strict=True)))


def _merge(graphdef: nnx.GraphDef, variables: Mapping[str, Any]) -> nnx.Module:
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

    graphdef: nnx.GraphDef

    def __call__(
        self, variables: Mapping[str, Any], images: Float[Array | np.ndarray, " batch *image"]
    ) -> Float[Array, "batch classes"]:
        """Logits of normalised images."""
        return self._module(variables)(jnp.asarray(images))

    def features(
        self, variables: Mapping[str, Any], images: Float[Array, " batch *image"]
    ) -> Float[Array, "batch rows columns channels"]:
        """The last convolutional maps, for modules that have a `features` method."""
        return self._module(variables).features(images)

    def head(
        self,
        variables: Mapping[str, Any],
        features: Float[Array, "batch rows columns channels"],
    ) -> Float[Array, "batch classes"]:
        """Logits of those maps: `head(features(images))` is `predict(images)`."""
        return self._module(variables).head(features)

    def _module(self, variables: Mapping[str, Any]) -> Any:
        module = _merge(self.graphdef, variables)
        module.eval()
        return module


@dataclass(frozen=True)
class Train:
    """`apply(variables, images) -> (logits, variables)` of a module in training mode.

    The returned variables have the running statistics (and random counters) moved on by one
    batch and the parameters as they were.
    """

    graphdef: nnx.GraphDef

    def __call__(
        self, variables: Mapping[str, Any], images: Float[Array, " batch *image"]
    ) -> tuple[Float[Array, "batch classes"], Variables]:
        """Logits of one batch, and the variables after it."""
        module = _merge(self.graphdef, variables)
        module.train()
        logits = module(images)
        return logits, _split(module)[1]


def as_predict(module: nnx.Module) -> tuple[Predict, Variables]:
    """The function of a module in evaluation mode, and its variables.

    Args:
        module: any NNX module from images to logits.

    Returns:
        predict: `predict(variables, images[batch, height, width, channels]) -> [batch, classes]`,
            hashable.
        variables: `{"params": ..., "batch_stats": ...}`, nested dicts of arrays; other state of
            the module under further keys.
    """
    graphdef, variables = _split(module)
    return Predict(graphdef), variables


def as_train(module: nnx.Module) -> tuple[Train, Variables]:
    """The function of a module in training mode, and its variables.

    Args:
        module: any NNX module from images to logits.

    Returns:
        apply: `apply(variables, images) -> (logits, variables after the batch)`, hashable.
        variables: as those of `as_predict`, and interchangeable with them.
    """
    graphdef, variables = _split(module)
    return Train(graphdef), variables


def initialise(
    name: str, seeds: Sequence[int], **arguments: Any
) -> tuple[Predict, Train, Variables]:
    """Backbones of several seeds, ready for training.

    Args:
        name: as for `create`.
        seeds: one initialisation each.
        **arguments: the others of `create`, without `rngs`.

    Returns:
        The function of evaluation, that of training, and the variables of all seeds, stacked
        along a first axis.

    Raises:
        InputError: as `create` does.
    """
    modules = [create(name, rngs=nnx.Rngs(seed), **arguments) for seed in seeds]
    graphdefs, variables = zip(*(_split(module) for module in modules), strict=True)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *variables)
    return Predict(graphdefs[0]), Train(graphdefs[0]), stacked


def outline(name: str, **arguments: Any) -> tuple[Predict, Variables]:
    """A backbone's function of evaluation, and its variables as shapes and types only.

    Nothing is computed: this is what a checkpoint needs to be read.

    Args:
        name: as for `create`.
        **arguments: the others of `create`, without `rngs`.

    Raises:
        InputError: as `create` does.
    """
    graphdefs = []

    def build():
        graphdef, variables = _split(create(name, rngs=nnx.Rngs(0), **arguments))
        graphdefs.append(graphdef)
        return variables

    variables = jax.eval_shape(build)
    return Predict(graphdefs[0]), variables


def create_partly(
    name: str, drawn: Callable[[str], bool], *, rngs: nnx.Rngs, **arguments: Any
) -> nnx.Module:
    """`create`, but zeros where no initial values are asked for: weights will be loaded there.

    What is not drawn is not compiled: XLA compiles a generator for every shape, which on a CPU
    takes longer than all else in `create`.

    Args:
        name: as for `create`.
        drawn: whether the parameter or statistic at this path ("stages/0/1/kernel") gets its
            initial values. State of other kinds, random counters say, always does.
        rngs: as for `create`; it is not moved on.
        **arguments: as for `create`.

    Raises:
        InputError: as `create` does.
    """
    predict, shapes = outline(name, **arguments)
    streams, state = nnx.split(rngs)

    @jax.jit
    def build(state):
        module = create(name, rngs=nnx.merge(streams, state), **arguments)
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf if wanted(path) else None, _split(module)[1]
        )

    def wanted(path):
        kind, *rest = (str(key.key) for key in path)
        return kind not in ("params", "batch_stats") or drawn("/".join(rest))

    variables = jax.tree.map(
        lambda shape, value: jnp.zeros(shape.shape, shape.dtype) if value is None else value,
        shapes,
        build(state),
        is_leaf=lambda leaf: leaf is None,
    )
    return _merge(predict.graphdef, variables)
