"""Utility in closed form, for a student that is a kernel machine.

A network that hardly leaves the features it starts with learns what kernel ridge regression on them
learns (Jacot et al., NeurIPS 2018; KIP, Nguyen et al., ICLR 2021, synthesises sets that way). What
one more example gives such a student, over its whole training and exactly, is a rank-one update, as
is what it loses without one. So Definition 3 needs no bound and no training.

The student computes in double precision with NumPy on the host. What each candidate does to its
judges, which takes nearly all the time, is computed by JAX.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Float64, Int

from infoutil_jax.errors import InputError

TEMPERATURE = 1 / 3
"""At which answers of ridge regression, which shrinks them, are log-odds."""


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


class KernelStudent:
    """Ridge regression from kernels to classes, which learns and forgets one candidate at a time.

    It starts from the same answer for every class. Its loss is the cross-entropy of its answers
    over `TEMPERATURE`, averaged over judges.

    Args:
        kernel: of the candidates with each other.
        judged: of the judges with the candidates.
        taught: what the candidates teach, probabilities.
        truth: class of each judge.
        ridge: variance of the labels' noise, in units of the kernel's.

    Attributes:
        knows: candidates it has learnt, in that order.

    Raises:
        InputError: a ridge that is not positive.
    """

    def __init__(
        self,
        kernel: Float[np.ndarray, "n n"],
        judged: Float[np.ndarray, "m n"],
        taught: Float[np.ndarray, "n classes"],
        truth: Int[np.ndarray, " m"],
        *,
        ridge: float = 0.1,
    ):
        if not ridge > 0:
            raise InputError(f"ridge is {ridge}; it must be positive")
        self.knows = list[int]()
        self._truth, self._ridge = truth, ridge
        # Of the posterior: covariances, and what is left of the targets.
        self._kernel = kernel.astype(np.float64)
        self._judged = judged.T.astype(np.float64, order="C")  # a row is read at a time
        self._left = taught - 1 / np.float64(taught.shape[1])
        self._answers = np.zeros((taught.shape[1], len(truth)))

    @property
    def answers(self) -> Float64[np.ndarray, "m classes"]:
        """The answer to each judge, relative to the mean of all classes."""
        return self._answers.T

    @property
    def loss(self) -> float:
        """The judges' mean cross-entropy, in nats."""
        nothing = np.zeros((1, len(self._answers))), np.zeros((1, len(self._truth)))
        return float(_losses(self._answers, *nothing, self._truth)[0])

    def losses(
        self, candidates: Int[np.ndarray, " some"], *, instead_of: int | None = None
    ) -> Float64[np.ndarray, " some"]:
        """The loss after learning each candidate, or after forgetting it where it is known.

        Args:
            candidates: each on its own.
            instead_of: one that it knows, and would have forgotten before.
        """
        answers, judged, left = self._answers, self._judged[candidates], self._left[candidates]
        variances, known = self._kernel[candidates, candidates], np.isin(candidates, self.knows)
        if instead_of is not None:
            old, variance = instead_of, self._variance(instead_of)
            along = self._kernel[candidates, old] / variance
            answers = answers + np.outer(self._left[old] / variance, self._judged[old])
            judged -= np.outer(along, self._judged[old])
            left -= np.outer(along, self._left[old])
            variances = variances - along * self._kernel[candidates, old]
            known &= candidates != old
        left /= (variances + np.where(known, -self._ridge, self._ridge))[:, None]
        return _losses(answers, left, judged, self._truth)

    def learn(self, candidate: int) -> None:
        """Learns a candidate that is not known."""
        self._update(candidate)
        self.knows.append(candidate)

    def forget(self, candidate: int) -> None:
        """Forgets a known candidate: learning it again with the noise's sign turned undoes it."""
        self._update(candidate)
        self.knows.remove(candidate)

    def _variance(self, candidate: int) -> float:
        noise = -self._ridge if candidate in self.knows else self._ridge
        return float(self._kernel[candidate, candidate] + noise)

    def _update(self, candidate: int) -> None:
        along = self._kernel[candidate] / self._variance(candidate)
        left, judged = self._left[candidate].copy(), self._judged[candidate].copy()
        self._answers += np.outer(left / self._variance(candidate), judged)
        own = self._kernel[candidate].copy()
        for part in range(0, len(along), 64):  # small enough for the cache
            now = slice(part, part + 64)
            self._left[now] -= np.outer(along[now], left)
            self._judged[now] -= np.outer(along[now], judged)
            self._kernel[now] -= np.outer(along[now], own)


def _losses(
    answers: Float64[np.ndarray, "classes m"],
    steps: Float64[np.ndarray, "some classes"],
    judged: Float64[np.ndarray, "some m"],
    truth: Int[np.ndarray, " m"],
) -> Float64[np.ndarray, " some"]:
    """The judges' mean cross-entropy after each step alone; `judged` scales steps per judge."""
    rows = ((0, -len(steps) % 32), (0, 0))  # so that few shapes are compiled
    steps, judged = (np.pad(array.astype(np.float32), rows) for array in (steps, judged))
    each = _cross_entropies(answers.astype(np.float32), steps, judged, truth)
    result: Float64[np.ndarray, " some"] = np.asarray(each)[: len(steps) - rows[0][1]].mean(
        1, dtype=np.float64
    )
    return result


@jax.jit
def _cross_entropies(answers: Array, steps: Array, judged: Array, truth: Array) -> Array:
    scale = 1 / TEMPERATURE

    def after(change: tuple[Array, Array]) -> Array:
        step, along_judges = change
        logits = (answers + step[:, None] * along_judges) * scale
        right, top = (now + step[truth] * along_judges) * scale, logits.max(0)
        return jnp.log(jnp.exp(logits - top).sum(0)) + top - right

    now = answers[truth, jnp.arange(len(truth))]
    result: Array = jax.lax.map(after, (steps, judged))
    return result
