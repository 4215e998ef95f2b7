"""Utility in closed form, for a student that is a kernel machine.

A network that hardly leaves the features it starts with learns what kernel ridge regression on them
learns (Jacot et al., NeurIPS 2018; KIP, Nguyen et al., ICLR 2021, synthesises sets that way). What
one more example gives such a student, over its whole training and exactly, is a rank-one update, as
is what it loses without one. So Definition 3 needs no bound and no training.

The student computes in double precision with NumPy on the host. What each candidate does to its
judges, which takes nearly all the time, is computed by JAX.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Float64, Int, Key

from infoutil_jax.errors import InputError
from infoutil_jax.method.contracts import Candidates, concatenate, take
from infoutil_jax.method.selection.ranking import (
    Keep,
    best_crop,
    check_candidates,
    check_full,
    check_keep,
)

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


@dataclass(frozen=True)
class MostUseful:
    """The crops from which a kernel student learns most about the pool's images.

    The best-scored crop of each image takes part; the last crop of each image, which is the whole
    image after `Union(..., WholeImage())`, is a judge. Class after class the student learns the
    crop that lowers its loss most, until all classes are full. Then each crop that was chosen is
    forgotten, and the best of its class is learnt instead, until that changes nothing. The kernel
    is `arc_cosine` of the column "untrained". What is taught is the class, or the column
    "probabilities" (`features.StudentFeatures` gives both columns).

    Beside the candidates' own, memory is (competing + judging) * competing numbers, counted over
    the classes of one student.

    Attributes:
        keep: which score is the best: "lowest", "highest", or "middle".
        taught: what a crop teaches the student: its "class", or the teacher's "probabilities".
        shortlist: images of a class that compete, those that `keep` ranks first; four times as
            many as are kept where that is more.
        judges: of one student, at most; they are drawn where there are more.
        ridge: of the student.
        sweeps: most passes of exchanging chosen crops.
        classes_at_once: classes that one student learns to tell apart, at most; where there are
            more, several students share them.

    Raises:
        InputError: an argument out of range; from `finalize`, features that are not as above, a
            score that is no number, or a class of fewer than `per_class` images.
    """

    keep: Keep = "lowest"
    taught: Literal["class", "probabilities"] = "probabilities"
    shortlist: int = 64
    judges: int = 4000
    ridge: float = 0.1
    sweeps: int = 8
    classes_at_once: int = 20
    reduce: ClassVar[None] = None

    def __post_init__(self) -> None:
        check_keep(self.keep)
        if self.taught not in ("class", "probabilities"):
            raise InputError(f'taught is "{self.taught}"; choose "class" or "probabilities"')
        for name, value, least in (
            *(("shortlist", self.shortlist, 1), ("judges", self.judges, 1)),
            *(("sweeps", self.sweeps, 0), ("classes_at_once", self.classes_at_once, 1)),
        ):
            if value < least:
                raise InputError(f"{name} is {value}; give at least {least}")

    def finalize(
        self, key: Key[Array, ""] | None, candidates: Candidates, per_class: int, /
    ) -> Candidates:
        """By class, the most useful first; `key` draws the judges and who shares a student.

        The scores are replaced by utilities (Definition 3): by how many nats the loss would rise
        without each row.
        """
        if key is None:
            raise InputError("the choice of judges needs a key")
        check_candidates(candidates, per_class)
        classes = np.unique(candidates.labels)
        _check_features(candidates, len(classes) if self.taught == "probabilities" else None)
        rows, jury = best_crop(candidates, self.keep), _last_crops(candidates)
        check_full(classes, rows.labels, per_class)
        rank = np.arange(len(rows.labels)) - np.searchsorted(rows.labels, rows.labels)
        rows = take(rows, rank < max(self.shortlist, 4 * per_class))
        rng = np.random.default_rng(int(jax.random.bits(key)))
        students = -(-len(classes) // self.classes_at_once)
        kept = []
        for group in np.array_split(rng.permutation(classes), students):
            ours, theirs = (take(table, np.isin(table.labels, group)) for table in (rows, jury))
            theirs = take(theirs, np.sort(rng.permutation(len(theirs.ids))[: self.judges]))
            kept.append(self._choose(ours, theirs, classes, per_class))
        chosen = concatenate(*kept)
        return take(chosen, np.lexsort((chosen.ids, -chosen.scores, chosen.labels)))

    def _choose(
        self,
        rows: Candidates,
        jury: Candidates,
        classes: Int[np.ndarray, " classes"],
        per_class: int,
    ) -> Candidates:
        """Chooses the rows that one student, of their classes alone, is taught."""
        present = np.isin(classes, rows.labels)
        labels, truth = (np.searchsorted(classes[present], t.labels) for t in (rows, jury))
        seen, judged = (table.features["untrained"] for table in (rows, jury))
        taught = np.eye(present.sum())[labels]
        if self.taught == "probabilities":
            taught = rows.features["probabilities"][:, present].astype(np.float64) + 1e-12
        student = KernelStudent(
            arc_cosine(seen, seen),
            arc_cosine(judged, seen),
            taught / taught.sum(1, keepdims=True),
            truth,
            ridge=self.ridge,
        )
        for _ in range(per_class):
            for label in range(present.sum()):
                student.learn(_best(student, labels, label))
        _exchange(student, labels, self.sweeps)
        knows = np.array(student.knows)
        utilities = (student.losses(knows) - student.loss).astype(np.float32)
        return take(rows, knows)._replace(scores=utilities)


def _best(
    student: KernelStudent, labels: Int[np.ndarray, " n"], label: int, old: int | None = None
) -> int:
    """The candidate of a class that helps most, among those not known and the old one."""
    members = np.flatnonzero(labels == label)
    free = members[~np.isin(members, student.knows) | (members == old)]
    return int(free[student.losses(free, instead_of=old).argmin()])


def _exchange(student: KernelStudent, labels: Int[np.ndarray, " n"], sweeps: int) -> None:
    """Exchanges each candidate that is known for the best of its class, until none changes."""
    chosen = list(student.knows)
    for _ in range(sweeps):
        before = list(chosen)
        for i, old in enumerate(before):
            chosen[i] = _best(student, labels, int(labels[old]), old)
            if chosen[i] != old:
                student.forget(old)
                student.learn(chosen[i])
        if chosen == before:
            break


def _last_crops(candidates: Candidates) -> Candidates:
    """The last crop of each example, by example."""
    order = np.lexsort((-candidates.crops, candidates.ids))
    _, first = np.unique(candidates.ids[order], return_index=True)
    return take(candidates, order[first])


def _check_features(candidates: Candidates, classes: int | None) -> None:
    """Checks that there are the columns that a student needs.

    Args:
        candidates: its choice.
        classes: that it is taught probabilities of; None: it is taught the classes themselves.

    Raises:
        InputError: there are not.
    """
    columns = candidates.features
    needed = ["untrained", *["probabilities"] * (classes is not None)]
    if not set(needed) <= set(columns):
        raise InputError(
            f"a kernel student needs the features {' and '.join(needed)}, but the candidates have "
            f"{', '.join(columns) or 'none'}: give the recipe embed=features.StudentFeatures()"
        )
    for column in columns.values():
        for row in np.flatnonzero(~np.isfinite(column).all(1))[:1]:
            raise InputError(f"the features of example {candidates.ids[row]} are not all numbers")
    if classes is None:
        return
    probabilities = columns["probabilities"]
    if probabilities.shape[1] != classes or not np.allclose(probabilities.sum(1), 1, atol=1e-2):
        raise InputError(
            f"the feature probabilities has {probabilities.shape[1]} columns; it must hold the "
            f"probabilities of the {classes} classes, which sum to 1"
        )


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
