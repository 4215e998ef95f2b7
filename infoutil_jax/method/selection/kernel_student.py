"""Utility in closed form, for a student that is a kernel machine (JAX, in double precision).

A network that hardly leaves the features it starts with learns what kernel ridge regression on them
learns (Jacot et al., NeurIPS 2018; KIP, Nguyen et al., ICLR 2021, synthesises sets that way). What
one more example gives such a student, over its whole training and exactly, is a rank-one update, as
is what it loses without one. So Definition 3 needs no bound and no training.

Thousands of updates follow one another, some of which undo others: single precision would not do.
Call these functions within `jax.enable_x64(True)`; `choose` sees to it itself.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Float32, Float64, Int

from infoutil_jax.errors import InputError

TEMPERATURE = 1 / 3
"""At which answers of ridge regression, which shrinks them, are log-odds."""


class KernelStudent(NamedTuple):
    """Ridge regression from kernels to classes, which learns and forgets one candidate at a time.

    Its loss is the cross-entropy of its answers over `TEMPERATURE`, averaged over judges.

    Attributes:
        kernel: posterior covariance of the candidates with each other.
        judged: likewise of the candidates with the judges.
        left: what is left of what each candidate teaches.
        answers: to each judge, relative to the mean of all classes.
        knows: candidates it has learnt.
        truth: class of each judge.
        ridge: variance of the labels' noise, in units of the kernel's.
    """

    kernel: Float64[Array, "n n"]
    judged: Float64[Array, "n m"]
    left: Float64[Array, "n classes"]
    answers: Float64[Array, "classes m"]
    knows: Bool[Array, " n"]
    truth: Int[Array, " m"]
    ridge: Float64[Array, ""]


def arc_cosine(
    a: Float[np.ndarray, "n dim"], b: Float[np.ndarray, "m dim"]
) -> Float32[np.ndarray, "n m"]:
    """Arc-cosine kernel of degree 1 of the directions of `a` and `b`: 1 for the same, 0 opposite.

    Rows seen through one infinitely wide layer of rectifiers (Cho & Saul, NeurIPS 2009).
    """
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (a, b))
    cosine = np.clip((a @ b.T).astype(np.float32), -1, 1)
    result: Float32[np.ndarray, "n m"] = (
        np.sqrt(1 - cosine**2) + cosine * (np.float32(np.pi) - np.arccos(cosine))
    ) / np.pi
    return result


def untaught(
    kernel: Float[np.ndarray, "n n"],
    judged: Float[np.ndarray, "m n"],
    taught: Float[np.ndarray, "n classes"],
    truth: Int[np.ndarray, " m"],
    *,
    ridge: float = 0.1,
) -> KernelStudent:
    """A student that gives the same answer for every class.

    Args:
        kernel: of the candidates with each other.
        judged: of the judges with the candidates.
        taught: what the candidates teach, probabilities.
        truth: class of each judge.
        ridge: variance of the labels' noise, in units of the kernel's.

    Raises:
        InputError: a ridge that is not positive.
    """
    if not ridge > 0:
        raise InputError(f"ridge is {ridge}; it must be positive")
    double = partial(jnp.asarray, dtype=jnp.float64)
    classes = taught.shape[1]
    return KernelStudent(
        kernel=double(kernel),
        judged=double(judged.T),
        left=double(taught) - 1 / classes,
        answers=jnp.zeros((classes, len(truth)), jnp.float64),
        knows=jnp.zeros(len(kernel), bool),
        truth=jnp.asarray(truth),
        ridge=double(ridge),
    )


@jax.jit
def toggled(student: KernelStudent, candidate: Int[Array, ""] | int) -> KernelStudent:
    """The student after it has learnt a candidate, or forgotten it where it is known.

    To learn it again with the noise's sign turned undoes it.
    """
    kernel, judged, left = student.kernel, student.judged, student.left
    noise = jnp.where(student.knows[candidate], -student.ridge, student.ridge)
    variance = kernel[candidate, candidate] + noise
    along = kernel[candidate] / variance
    return student._replace(
        kernel=kernel - jnp.outer(along, kernel[candidate]),
        judged=judged - jnp.outer(along, judged[candidate]),
        left=left - jnp.outer(along, left[candidate]),
        answers=student.answers + jnp.outer(left[candidate] / variance, judged[candidate]),
        knows=student.knows.at[candidate].set(~student.knows[candidate]),
    )


@jax.jit
def losses(
    student: KernelStudent,
    candidates: Int[Array | np.ndarray, " some"],
    *,
    instead_of: Int[Array, ""] | int | None = None,
) -> Float32[Array, " some"]:
    """The judges' mean cross-entropy, in nats, after each candidate alone is `toggled`.

    Args:
        student: who learns or forgets it.
        candidates: each on its own.
        instead_of: one that it knows, and would have forgotten before.
    """
    answers, known = student.answers, student.knows[candidates]
    judged, left = student.judged[candidates], student.left[candidates]
    variances = student.kernel[candidates, candidates]
    if instead_of is not None:
        old = instead_of
        variance = student.kernel[old, old] - student.ridge
        shared = student.kernel[candidates, old]
        answers = answers + jnp.outer(student.left[old] / variance, student.judged[old])
        judged = judged - jnp.outer(shared / variance, student.judged[old])
        left = left - jnp.outer(shared / variance, student.left[old])
        variances, known = variances - shared**2 / variance, known & (candidates != old)
    steps = left / (variances + jnp.where(known, -student.ridge, student.ridge))[:, None]
    now, scale = (answers / TEMPERATURE).astype(jnp.float32), jnp.float32(1 / TEMPERATURE)
    right = now[student.truth, jnp.arange(len(student.truth))]

    def after(change: tuple[Array, Array]) -> Array:
        step, along_judges = change
        logits = now + step[:, None] * along_judges
        top = logits.max(0)
        surprise = jnp.log(jnp.exp(logits - top).sum(0)) + top
        return (surprise - right - step[student.truth] * along_judges).mean()

    changes = scale * steps.astype(jnp.float32), judged.astype(jnp.float32)
    result: Array = lax.map(after, changes, batch_size=64)
    return result


@jax.jit
def loss(student: KernelStudent) -> Float32[Array, ""]:
    """The judges' mean cross-entropy, in nats."""
    logits = (student.answers / TEMPERATURE).astype(jnp.float32)
    surprises = jax.nn.logsumexp(logits, axis=0)
    return (surprises - logits[student.truth, jnp.arange(len(student.truth))]).mean()


def choose(
    student: KernelStudent, labels: Int[np.ndarray, " n"], per_class: int, sweeps: int
) -> tuple[Int[np.ndarray, " chosen"], Float32[np.ndarray, " chosen"]]:
    """Chooses `per_class` candidates of each class, those that help an untaught student most.

    Class after class it learns the candidate that lowers its loss most, until all classes are full.
    Then each that was chosen is exchanged for the best of its class, until a sweep changes none.

    Args:
        student: knows nothing yet.
        labels: class of each candidate, from 0; each class has `per_class` at least.
        per_class: how many to choose.
        sweeps: of exchanges, at most.

    Returns:
        The candidates, and by how many nats the loss would rise without each.
    """
    groups = [np.flatnonzero(labels == label) for label in range(int(labels.max()) + 1)]
    members = np.full((len(groups), max(map(len, groups))), -1)
    for row, group in zip(members, groups, strict=True):
        row[: len(group)] = group
    with jax.enable_x64(True):
        found, utilities = _choose(student, members, labels, sweeps, per_class=per_class)
        return np.asarray(found), np.asarray(utilities)


@partial(jax.jit, static_argnames="per_class")
def _choose(
    student: KernelStudent, members: Array, labels: Array, sweeps: Array, *, per_class: int
) -> tuple[Array, Array]:
    def best(student: KernelStudent, label: Array, old: Array | None = None) -> Array:
        group = members[label]
        free = (group >= 0) & (~student.knows[group] | (old is not None and group == old))
        return group[jnp.where(free, losses(student, group, instead_of=old), jnp.inf).argmin()]

    def learn(place: Array, carry: tuple[KernelStudent, Array]) -> tuple[KernelStudent, Array]:
        student, chosen = carry
        new = best(student, place % len(members))
        return toggled(student, new), chosen.at[place].set(new)

    def exchange(
        place: Array, carry: tuple[KernelStudent, Array, Array]
    ) -> tuple[KernelStudent, Array, Array]:
        student, chosen, changes = carry
        old = chosen[place]
        new = best(student, labels[old], old)
        # A loop of two rounds or none: both branches of a condition would copy the student.
        both, rounds = jnp.stack([old, new]), jnp.where(new == old, 0, 2)
        student = lax.fori_loop(0, rounds, lambda j, now: toggled(now, both[j]), student)
        return student, chosen.at[place].set(new), changes + (new != old)

    def sweep(
        carry: tuple[KernelStudent, Array, Array, Array],
    ) -> tuple[KernelStudent, Array, Array, Array]:
        student, chosen, _, number = carry
        none = jnp.zeros((), int)
        return *lax.fori_loop(0, len(chosen), exchange, (student, chosen, none)), number + 1

    chosen = jnp.zeros(len(members) * per_class, members.dtype)
    student, chosen = lax.fori_loop(0, len(chosen), learn, (student, chosen))
    one = jnp.ones((), int)
    student, chosen, _, _ = lax.while_loop(
        lambda carry: (carry[2] > 0) & (carry[3] < sweeps),
        sweep,
        (student, chosen, one, 0 * one),
    )
    return chosen, losses(student, chosen) - loss(student)
