"""Utility in closed form, for a student that is a kernel machine.

The student is NumPy's, in double precision on the host; what its judges make of candidates, where
all the time goes, is JAX's.

A network that hardly leaves the features it starts with learns what kernel ridge regression on them
does (Jacot et al., NeurIPS 2018; KIP, Nguyen et al., ICLR 2021, synthesises sets so). What such a
student gains from one more example, or loses without one, over its whole training and exactly, is a
rank-one update: Definition 3 needs no bound, and no training.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Float64, Int, Key

from infoutil_jax.errors import InputError
from infoutil_jax.method.selection import Candidates, best_crop, check_full, concatenate, take

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
    return (np.sqrt(1 - cosine**2) + cosine * (np.float32(np.pi) - np.arccos(cosine))) / np.pi


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
        """To each judge, above the mean of all classes."""
        return self._answers.T

    @property
    def loss(self) -> float:
        """The judges' mean cross-entropy, in nats."""
        nothing = np.zeros((1, len(self._answers))), np.zeros((1, len(self._truth)))
        return float(_losses(self._answers, *nothing, self._truth)[0])

    def losses(
        self, candidates: Int[np.ndarray, " some"], *, instead_of: int | None = None
    ) -> Float64[np.ndarray, " some"]:
        """What `loss` would be with each of them learnt, or where it knows it, forgotten.

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
        """One that is not known."""
        self._update(candidate)
        self.knows.append(candidate)

    def forget(self, candidate: int) -> None:
        """One that is known: learning it with the noise's sign turned undoes that it was learnt."""
        self._update(candidate)
        self.knows.remove(candidate)

    def _variance(self, candidate: int) -> float:
        noise = -self._ridge if candidate in self.knows else self._ridge
        return self._kernel[candidate, candidate] + noise

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


def most_useful(
    key: Key[Array, ""],
    candidates: Candidates,
    per_class: int,
    *,
    keep: str = "lowest",
    among: int = 64,
    judges: int = 4000,
    ridge: float = 0.1,
    sweeps: int = 8,
    classes_at_once: int = 20,
) -> Candidates:
    """The crops from which a kernel student learns most about the pool's images.

    The best-scored crop of each image competes, and the largest judges. Class after class the
    student learns the crop that lowers its loss most, until all are full; then each that was chosen
    is forgotten, and the best of its class learnt instead, until that changes nothing. Kernel:
    `arc_cosine` of the features.

    Args:
        key: draws the judges, where the pool has more images, and which classes share a student.
        candidates: with the features that `features.student_features` gives (`Recipe.embed`).
        per_class: rows to keep in each class.
        keep: which score is the best: "lowest", "highest", or "middle".
        among: images of a class that compete, those that `keep` ranks first; four times as many as
            are kept where that is more.
        judges: of one student, at most.
        ridge: of the student.
        sweeps: over those chosen, at most.
        classes_at_once: that one student learns to tell apart, at most; more of them take several.

    Returns:
        By class, the most useful first. Scores are their utilities (Definition 3): by how many nats
        the loss would rise without each. Memory, beside the candidates', is that of (competing +
        judging) * competing numbers of the classes of one student.

    Raises:
        InputError: features that are not as above, a score that is no number, a class of fewer
            than `per_class` images, or an argument out of range.
    """
    for name, value, least in (
        *(("among", among, 1), ("judges", judges, 1), ("per_class", per_class, 1)),
        *(("sweeps", sweeps, 0), ("classes_at_once", classes_at_once, 1)),
    ):
        if value < least:
            raise InputError(f"{name} is {value}; give at least {least}")
    classes = _check_features(candidates)
    rows, jury = best_crop(candidates, keep), _largest_crops(candidates)
    check_full(classes, rows.labels, per_class)
    rank = np.arange(len(rows.labels)) - np.searchsorted(rows.labels, rows.labels)
    rows = take(rows, rank < max(among, 4 * per_class))
    rng = np.random.default_rng(int(jax.random.bits(key)))
    groups = np.array_split(rng.permutation(classes), -(-len(classes) // classes_at_once))
    kept = []
    for group in groups:
        ours, theirs = (take(table, np.isin(table.labels, group)) for table in (rows, jury))
        theirs = take(theirs, np.sort(rng.permutation(len(theirs.ids))[:judges]))
        kept.append(_choose(ours, theirs, classes, per_class, ridge, sweeps))
    chosen = concatenate(*kept)
    return take(chosen, np.lexsort((chosen.ids, -chosen.scores, chosen.labels)))


def _choose(rows, jury, classes, per_class, ridge, sweeps) -> Candidates:
    """Those of `rows` that one student, of their classes alone, is taught."""
    present = np.isin(classes, rows.labels)
    labels, truth = (np.searchsorted(classes[present], t.labels) for t in (rows, jury))
    seen, judged = (table.features[:, : -len(classes)] for table in (rows, jury))
    taught = rows.features[:, -len(classes) :][:, present].astype(np.float64) + 1e-12
    student = KernelStudent(
        arc_cosine(seen, seen),
        arc_cosine(judged, seen),
        taught / taught.sum(1, keepdims=True),
        truth,
        ridge=ridge,
    )

    def best(label, old=None):
        """Of those of a class that are not known, the old one among them."""
        members = np.flatnonzero(labels == label)
        free = members[~np.isin(members, student.knows) | (members == old)]
        return int(free[student.losses(free, instead_of=old).argmin()])

    for _ in range(per_class):
        for label in range(present.sum()):
            student.learn(best(label))
    chosen = list(student.knows)
    for _ in range(sweeps):
        before = list(chosen)
        for i, old in enumerate(before):
            chosen[i] = best(labels[old], old)
            if chosen[i] != old:
                student.forget(old)
                student.learn(chosen[i])
        if chosen == before:
            break
    knows = np.array(student.knows)
    return take(rows, knows)._replace(
        scores=(student.losses(knows) - student.loss).astype(np.float32)
    )


def _largest_crops(candidates: Candidates) -> Candidates:
    """Of each example the crop of largest area, the first if tied."""
    area = candidates.boxes[:, 2] * candidates.boxes[:, 3]
    order = np.lexsort((candidates.crops, -area, candidates.ids))
    _, first = np.unique(candidates.ids[order], return_index=True)
    return take(candidates, order[first])


def _check_features(candidates: Candidates) -> Int[np.ndarray, " classes"]:
    """The classes, whose probabilities the last features are.

    Raises:
        InputError: they are not.
    """
    classes, features = np.unique(candidates.labels), candidates.features
    if features is None:
        raise InputError("the candidates have no features; give the recipe an embed function")
    for row in np.flatnonzero(~np.isfinite(features).all(1))[:1]:
        raise InputError(f"the features of example {candidates.ids[row]} are not all numbers")
    sums = features[:, -len(classes) :].sum(1)
    if features.shape[1] <= len(classes) or not np.allclose(sums, 1, atol=1e-2):
        raise InputError(
            f"the last {len(classes)} features are not the probabilities of the classes: give the "
            "recipe embed=features.student_features"
        )
    return classes


def _losses(
    answers: Float64[np.ndarray, "classes m"],
    steps: Float64[np.ndarray, "some classes"],
    judged: Float64[np.ndarray, "some m"],
    truth: Int[np.ndarray, " m"],
) -> Float64[np.ndarray, " some"]:
    """The judges' mean cross-entropy after each step alone, which `judged` scales to a judge."""
    rows = ((0, -len(steps) % 32), (0, 0))  # so that few shapes are compiled
    steps, judged = (np.pad(array.astype(np.float32), rows) for array in (steps, judged))
    each = _cross_entropies(answers.astype(np.float32), steps, judged, truth)
    return np.asarray(each)[: len(steps) - rows[0][1]].mean(1, dtype=np.float64)


@jax.jit
def _cross_entropies(answers, steps, judged, truth):
    scale = 1 / TEMPERATURE

    def after(change):
        step, along_judges = change
        logits = (answers + step[:, None] * along_judges) * scale
        right, top = (now + step[truth] * along_judges) * scale, logits.max(0)
        return jnp.log(jnp.exp(logits - top).sum(0)) + top - right

    now = answers[truth, jnp.arange(len(truth))]
    return jax.lax.map(after, (steps, judged))
