"""What a classifier returns, whatever its habit, as logits; and labels that fit them. JAX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infoutil_jax.errors import InputError
from infoutil_jax.method.contracts import Predict


def logits_of(output: Any) -> Any:
    """The logits in what a classifier has returned.

    They are the output itself, its `.logits`, its entry "logits", or of a tuple the one array of
    two dimensions, as in (logits, state) or (loss, logits).

    Raises:
        InputError: the output holds none of these.
    """
    if hasattr(output, "shape"):
        return output
    if hasattr(output, "logits"):
        return logits_of(output.logits)
    if isinstance(output, Mapping):
        if "logits" in output:
            return logits_of(output["logits"])
        names = ", ".join(repr(key) for key in output) or "nothing"
        raise InputError(f'predict returned a dict of {names}: name the logits "logits"')
    if isinstance(output, tuple | list):
        found = [part for part in output if getattr(part, "ndim", None) == 2]
        if len(found) == 1:
            return found[0]
        raise InputError(
            f"predict returned a {type(output).__name__} with {len(found)} arrays of two "
            "dimensions: return the logits [batch, classes] alone"
        )
    raise InputError(
        f"predict returned {type(output).__name__}: return logits, an array [batch, classes]"
    )


@dataclass(frozen=True)
class Logits:
    """A classifier whose output is its logits; all else of it, such as `features`, stays its own.

    They are at least in single precision: in half the loss of a crop that is surely right is none.
    Equal and equally hashed for equal classifiers, so that nothing compiles twice.

    Attributes:
        predict: the classifier.
    """

    predict: Predict

    def __call__(self, variables: Any, images: Any) -> Any:
        """Logits of normalised images."""
        logits = logits_of(self.predict(variables, images))
        if not jnp.issubdtype(logits.dtype, jnp.floating):
            return logits
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def __getattr__(self, name: str) -> Any:
        if name == "predict" or name.startswith("__"):  # not there yet while it is copied
            raise AttributeError(name)
        return getattr(self.predict, name)


def as_logits(predict: Predict) -> Predict:
    """`predict` as a function that returns logits."""
    return predict if isinstance(predict, Logits) else Logits(predict)


def check_labels(labels: Any, images: int, logits: Any) -> None:
    """Checks that labels are a class of the logits each, one an image.

    Labels that JAX is tracing have no values yet: of them, only the shape is checked.

    Args:
        labels: any array.
        images: how many there are.
        logits: an array of `[n, classes]`, or its shape and type.

    Raises:
        InputError: logits or labels of another shape, or a label that is no class.
    """
    if len(logits.shape) != 2:
        raise InputError(
            f"predict returned an array of shape {tuple(logits.shape)}; it must be logits, "
            "[batch, classes]"
        )
    if jnp.shape(labels) != (images,) or not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
        raise InputError(
            f"the labels are {jnp.result_type(labels)} of shape {jnp.shape(labels)}; each of the "
            f"{images} images needs one integer"
        )
    if isinstance(labels, jax.core.Tracer):
        return
    classes, values = logits.shape[1], np.asarray(labels)
    for wrong in np.flatnonzero((values < 0) | (values >= classes))[:1]:
        raise InputError(
            f"label {values[wrong]} at index {wrong} is out of range: the {classes} logits have "
            f"the labels 0 to {classes - 1}"
        )
