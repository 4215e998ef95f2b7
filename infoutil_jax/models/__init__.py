"""Backbones in Flax NNX, their pure functions, and torchvision's weights for them.

Here live the networks, one file a family; `create`, which makes them by name; `as_predict` and
`as_train`, through which the rest of the library sees any network as a function of its variables;
the statistics of batch normalisation; and the reading of weights files. Nothing in this room knows
of data sets, training or distillation.
"""

from infoutil_jax.models.architecture import Architecture
from infoutil_jax.models.create import (
    BACKBONES,
    build,
    create,
    create_partly,
    initialise,
    options_of,
    outline,
)
from infoutil_jax.models.functional import Predict, Train, Variables, as_predict, as_train

__all__ = [
    "BACKBONES",
    "Architecture",
    "Predict",
    "Train",
    "Variables",
    "as_predict",
    "as_train",
    "build",
    "create",
    "create_partly",
    "initialise",
    "options_of",
    "outline",
]
