"""Scores of crops: how useful each is to training. JAX, runs per image.

A score (`contracts.Score`) is the measure itself, whatever its direction; which end is kept is the
selector's to say. All have the signature `(predict, variables, crops, labels) -> [batch]`; crops
are normalised. `predict` is compiled once per function object: pass the same one again, not a new
lambda a batch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from infoutil_jax.errors import InputError
from infoutil_jax.gradients import Structure, gradient_norms, norm
from infoutil_jax.method.contracts import Predict
from infoutil_jax.method.logits import as_logits, check_labels

Wrt = str | Callable[[str], bool]
"""Parameters that a gradient is over: see `GradientNorm`."""

CLASSIFIERS = ("classifier", "head", "fc", "linear")
Crops = Float[Array | np.ndarray, "batch height width channels"]
Labels = Int[Array | np.ndarray, " batch"]


@dataclass(frozen=True)
class GradientNorm:
    """Norm of the gradient of each crop's cross-entropy: stage 2 of InfoUtil (Theorem 1).

    The gradient is over `variables["params"]` where there is such a key, else over every
    floating-point array.

    Attributes:
        wrt: "all" parameters; "classifier", those under a top-level key named classifier, head, fc
            or linear (much cheaper, as nothing is propagated further back); or a predicate of a
            parameter's path, as in `gradient_norms`.
        microbatch_size: as in `gradient_norms`.

    Raises:
        InputError: another word for `wrt`, a microbatch of less than one crop; when called, a label
            that is no class, a classifier with numbered namesakes, or as `gradient_norms`.
    """

    wrt: Wrt = "all"
    microbatch_size: int | None = 32

    def __post_init__(self) -> None:
        if isinstance(self.wrt, str) and self.wrt not in ("all", "classifier"):
            raise InputError(
                f'wrt is "{self.wrt}"; use "all", "classifier" (keys {", ".join(CLASSIFIERS)}) or '
                "a predicate of the path"
            )
        if self.microbatch_size is not None and self.microbatch_size < 1:
            raise InputError(f"microbatch_size is {self.microbatch_size}; use at least 1, or None")

    def __call__(
        self, predict: Predict, variables: PyTree, crops: Crops, labels: Labels, /
    ) -> Float[Array, " batch"]:
        """One norm a crop; crops are at the teacher's input size."""
        collected = isinstance(variables, Mapping) and "params" in variables
        prefix = "params/" if collected else ""

        def wanted(path: str) -> bool:
            name = path.removeprefix(prefix)
            if callable(self.wrt):
                return path.startswith(prefix) and self.wrt(name)
            known = self.wrt == "all" or name.split("/")[0] in CLASSIFIERS
            return path.startswith(prefix) and known

        predict = as_logits(predict)
        _check(predict, variables, crops, labels)
        if self.wrt == "classifier":
            _check_one(variables["params"] if collected else variables)
        return gradient_norms(
            _CropLoss(predict),
            variables,
            (crops, labels),
            microbatch_size=self.microbatch_size,
            wrt=wanted,
        )


def el2n(
    predict: Predict, variables: PyTree, crops: Crops, labels: Labels, /
) -> Float[Array, " batch"]:
    """Length of the error vector, `|| softmax(logits) - onehot(label) ||_2`, from 0 to √2.

    EL2N of Paul et al., "Deep Learning on a Data Diet" (NeurIPS 2021).

    Raises:
        InputError: a label that is no class.
    """
    logits = _logits(predict, variables, crops, labels)
    error = jax.nn.softmax(logits) - jax.nn.one_hot(labels, logits.shape[-1])
    return jax.vmap(norm)([error])


def cross_entropy(
    predict: Predict, variables: PyTree, crops: Crops, labels: Labels, /
) -> Float[Array, " batch"]:
    """Loss of each crop, in nats: RDED keeps the lowest (Sun et al., CVPR 2024, eq. 8).

    Raises:
        InputError: a label that is no class.
    """
    logits = _logits(predict, variables, crops, labels)
    losses: Array = optax.losses.softmax_cross_entropy_with_integer_labels(
        logits, jnp.asarray(labels)
    )
    return losses


@dataclass(frozen=True)
class _CropLoss:
    """The loss of one crop; equal for equal `predict`, so it is compiled once per teacher."""

    predict: Predict

    def __call__(self, variables: PyTree, example: tuple[Array, Array]) -> Any:
        crop, label = example
        logits = self.predict(variables, crop[None])[0]
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, label)


def _logits(predict: Predict, variables: PyTree, crops: Any, labels: Any) -> Array:
    """Logits of crops, of labels that fit them."""
    predict = as_logits(predict)
    shape = _check(predict, variables, crops, labels)
    if not len(crops):
        return jnp.zeros((0, shape[1]))
    structure, arrays = Structure.of(variables)
    logits: Array = _apply(predict, structure, arrays, crops)
    return logits


def _check(predict: Predict, variables: PyTree, crops: Any, labels: Any) -> tuple[int, int]:
    """Checks that labels are classes of the logits; returns the shape of one crop's logits."""
    structure, arrays = Structure.of(variables)
    one = jax.ShapeDtypeStruct((1, *crops.shape[1:]), crops.dtype)
    logits = _apply.eval_shape(predict, structure, arrays, one)
    check_labels(labels, len(crops), logits)
    shape: tuple[int, int] = logits.shape
    return shape


def _check_one(params: Any) -> None:
    """Checks that a classifier's name is not that of the first of several, as in Haiku."""
    names = [str(name) for name in params] if isinstance(params, Mapping) else []
    for name in names:
        alike = [other for other in names if re.fullmatch(rf"{re.escape(name)}_?\d+", other)]
        if name in CLASSIFIERS and alike:
            raise InputError(
                f'wrt is "classifier", and there are {", ".join([name, *alike])}: say which it is '
                f'by a predicate of the path, lambda path: path.startswith("{alike[-1]}/"), say'
            )


@partial(jax.jit, static_argnums=(0, 1))
def _apply(predict: Predict, structure: Structure, arrays: list[Any], crops: Any) -> Any:
    return predict(structure.merge(arrays), crops)
