"""Backbones by name, with weights, without them, or with some (JAX)."""

import inspect
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from flax import nnx

from infoutil_jax.errors import InputError
from infoutil_jax.models.architecture import Architecture, BackboneOptions
from infoutil_jax.models.convnet import convnet
from infoutil_jax.models.functional import Predict, Train, Variables, merge, split
from infoutil_jax.models.mobilenet_v2 import mobilenet_v2
from infoutil_jax.models.resnet import resnet
from infoutil_jax.models.swin_v2 import swin_v2_t
from infoutil_jax.models.vgg import vgg

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
    **options: Unpack[BackboneOptions],
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

    Examples:
        >>> from infoutil_jax.models import as_predict, create
        >>> model = create("convnet3", num_classes=10, image_size=32, rngs=nnx.Rngs(0), width=8)
        >>> predict, variables = as_predict(model)
        >>> predict(variables, jax.numpy.zeros((2, 32, 32, 3))).shape
        (2, 10)
    """
    architecture = Architecture.of(
        name, num_classes=num_classes, image_size=image_size, channels=channels, **options
    )
    return build(architecture, rngs)


def build(architecture: Architecture, rngs: nnx.Rngs) -> nnx.Module:
    """The freshly initialised backbone of an architecture.

    Raises:
        InputError: as `create` does.
    """
    name, known = architecture.name, options_of(architecture.name)
    if name not in BACKBONES:
        raise InputError(f"backbone {name!r} is unknown: choose one of {', '.join(BACKBONES)}")
    options = dict(architecture.options)
    for option in options:
        if option not in known:
            has = ", ".join(sorted(known)) or "none"
            raise InputError(f"backbone {name} has no option {option!r}; its options: {has}")
    if architecture.num_classes < 1 or architecture.channels < 1:
        raise InputError(
            "a backbone needs at least one class and one channel, got "
            f"{architecture.num_classes} and {architecture.channels}"
        )
    return BACKBONES[name](architecture, rngs=rngs, **options)


def options_of(name: str) -> set[str]:
    """Names of a backbone's own options, such as `width`; none for an unknown backbone."""
    known = set(inspect.signature(BACKBONES[name]).parameters) if name in BACKBONES else set()
    return known - {"architecture", "rngs"}


def initialise(
    architecture: Architecture, seeds: Sequence[int]
) -> tuple[Predict, Train, Variables]:
    """Backbones of several seeds, ready for training.

    Args:
        architecture: of the backbone.
        seeds: one initialisation each.

    Returns:
        The function of evaluation, that of training, and the variables of all seeds, stacked
        along a first axis.

    Raises:
        InputError: as `create` does.
    """
    modules = [build(architecture, nnx.Rngs(seed)) for seed in seeds]
    graphdefs, variables = zip(*(split(module) for module in modules), strict=True)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *variables)
    return Predict(graphdefs[0]), Train(graphdefs[0]), stacked


def outline(architecture: Architecture) -> tuple[Predict, Variables]:
    """A backbone's function of evaluation, and its variables as shapes and types only.

    Nothing is computed: this is what a checkpoint needs to be read.

    Raises:
        InputError: as `create` does.
    """
    predict, variables = _outlined(architecture, BACKBONES.get(architecture.name))
    return predict, jax.tree.map(lambda leaf: leaf, variables)


@lru_cache(maxsize=64)
def _outlined(architecture: Architecture, made_by: Any) -> tuple[Predict, Variables]:
    """Kept, for a command reads several checkpoints of one backbone, and each takes a trace.

    `made_by` is that of `BACKBONES`: another under the same name is another outline.
    """
    graphdefs = []

    def shapes() -> Variables:
        graphdef, variables = split(build(architecture, nnx.Rngs(0)))
        graphdefs.append(graphdef)
        return variables

    variables = jax.eval_shape(shapes)
    return Predict(graphdefs[0]), variables


def create_partly(
    architecture: Architecture, drawn: Callable[[str], bool], *, rngs: nnx.Rngs
) -> nnx.Module:
    """A backbone with zeros where no initial values are asked for: weights are loaded there later.

    What is not drawn is not compiled: XLA compiles a generator for every shape, which on a CPU
    takes longer than all else in `create`.

    Args:
        architecture: of the backbone.
        drawn: whether the parameter or statistic at this path ("stages/0/1/kernel") gets its
            initial values. State of other kinds, such as random counters, always does.
        rngs: as for `create`; it is not moved on.

    Raises:
        InputError: as `create` does.
    """
    predict, shapes = outline(architecture)
    streams, state = nnx.split(rngs)

    @jax.jit
    def draw(state: Any) -> Variables:
        variables = split(build(architecture, nnx.merge(streams, state)))[1]
        some: Variables = jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf if wanted(path) else None, variables
        )
        return some

    def wanted(path: tuple[Any, ...]) -> bool:
        kind, *rest = (str(key.key) for key in path)
        return kind not in ("params", "batch_stats") or drawn("/".join(rest))

    variables = jax.tree.map(
        lambda shape, value: jnp.zeros(shape.shape, shape.dtype) if value is None else value,
        shapes,
        draw(state),
        is_leaf=lambda leaf: leaf is None,
    )
    module: nnx.Module = merge(predict.graphdef, variables)
    return module
