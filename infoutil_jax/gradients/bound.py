"""Theorem 1: the bound on utility that the gradient norm is (JAX)."""

from __future__ import annotations

from functools import partial

from jaxtyping import Array, Float, PyTree

from infoutil_jax.errors import InputError
from infoutil_jax.gradients.exact_utility import Loss, batch_size_of
from infoutil_jax.gradients.norms import gradient_norms


def utility_bound(
    loss_fn: Loss,
    params: PyTree,
    batch: PyTree,
    *,
    learning_rate: float,
    probes: PyTree = None,
    microbatch_size: int | None = None,
) -> Float[Array, " batch"]:
    r"""Theorem 1: an upper bound on the utility of each example under SGD on summed gradients.

    $$U(x_i) \le c \|g_i\|, \qquad c = \eta \max_j \|g_j\|$$

    With the batch as probes it is attained at the batch's largest gradient. The proof needs the
    sum: under the mean the same holds of $g_i - \bar g$ with $\eta / (n - 1)$, not of $g_i$.

    Args:
        loss_fn: as in `exact_utilities`.
        params: as in `gradient_norms`.
        batch: the mini-batch.
        learning_rate: $\eta$, positive.
        probes: the examples j; None is the batch itself.
        microbatch_size: gradients in memory at once; None for all.

    Raises:
        InputError: a rate that is not positive, no probes, or as `gradient_norms`.
    """
    if not learning_rate > 0:
        raise InputError(f"learning_rate is {learning_rate}; it must be positive")
    norms = partial(gradient_norms, loss_fn, params, microbatch_size=microbatch_size)
    own = norms(batch)
    if probes is not None:
        batch_size_of(probes, "probes")
    largest = (own if probes is None else norms(probes)).max(initial=0)
    return learning_rate * largest * own
