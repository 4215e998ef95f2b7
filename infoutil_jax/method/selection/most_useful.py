"""The crops from which a kernel student learns most: its tables on the host, its choice in JAX."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Array, Bool, Float64, Int, Key

from infoutil_jax.errors import InputError
from infoutil_jax.method.contracts import Candidates, Reduce, concatenate, take
from infoutil_jax.method.selection.kernel_student import arc_cosine, choose, untaught
from infoutil_jax.method.selection.ranking import (
    Keep,
    best_crop,
    by_chance,
    check_candidates,
    check_full,
    check_keep,
)

BOUNDS = (np.log(0.01), np.log(100.0))
"""Of the logarithm of `sharpness`."""


@dataclass(frozen=True)
class MostUseful:
    """The crops from which a kernel student learns most about the pool's images.

    The best-scored crop of each image takes part; the last crop of each image, which is the whole
    image after `Union(..., WholeImage())`, is a judge. Class after class the student learns the
    crop that lowers its loss most, until all classes are full. Then each crop that was chosen is
    forgotten, and the best of its class is learnt instead, until that changes nothing. The kernel
    is `arc_cosine` of the column "untrained". Taught is the column "probabilities", at the
    temperature at which the judges' own are calibrated: a teacher that is too modest, or too sure,
    teaches no less. (`features.StudentFeatures` gives both columns.)

    Each judge is drawn by its own key. So crops of examples that neither compete nor judge can be
    left out before all have come (`reduce`), but not with "middle", which is known at the end.
    Columns of probabilities are those of the labels that have rows, or of all labels from 0 on.

    Beside the candidates' own, memory is (competing + judging) * competing numbers, counted over
    the classes of one student.

    Attributes:
        keep: which score is the best: "lowest", "highest", or "middle".
        shortlist: images of a class that compete, those that `keep` ranks first; four times as
            many as are kept where that is more.
        judges: of one student, at most; they are drawn where there are more. `reduce` keeps so many
            of each class.
        ridge: of the student.
        sweeps: most passes of exchanging chosen crops.
        classes_at_once: classes that one student learns to tell apart, at most; where there are
            more, several students share them.

    Raises:
        InputError: an argument out of range; from `finalize`, features that are not as above, a
            score that is no number, or a class of fewer than `per_class` images.
    """

    keep: Keep = "lowest"
    shortlist: int = 64
    judges: int = 4000
    ridge: float = 0.1
    sweeps: int = 8
    classes_at_once: int = 20

    def __post_init__(self) -> None:
        check_keep(self.keep)
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
        key = _needed(key)
        check_candidates(candidates, per_class)
        classes = np.unique(candidates.labels)
        _check_features(candidates, classes)
        rows, jury = self._competing(candidates, per_class), _last_crops(candidates)
        check_full(classes, rows.labels, per_class)
        draws = _draws(key, jury)
        rng = np.random.default_rng(int(jax.random.bits(key)))
        students = -(-len(classes) // self.classes_at_once)
        kept = []
        for group in np.array_split(rng.permutation(classes), students):
            members = draws[np.isin(jury.labels[draws], group)]
            theirs = take(jury, np.sort(members[: self.judges]))
            ours = take(rows, np.isin(rows.labels, group))
            kept.append(self._choose(ours, theirs, classes, per_class))
        chosen = concatenate(*kept)
        return take(chosen, np.lexsort((chosen.ids, -chosen.scores, chosen.labels)))

    @property
    def reduce(self) -> Reduce | None:
        """Keeps who competes, and of each class as many judges as one student may have."""
        return None if self.keep == "middle" else self._reduced

    def _reduced(
        self, key: Key[Array, ""] | None, candidates: Candidates, per_class: int, /
    ) -> Candidates:
        check_candidates(candidates, per_class)
        jury = _last_crops(candidates)
        draws = _draws(_needed(key), jury)
        draws = draws[np.argsort(jury.labels[draws], kind="stable")]
        ordered = jury.labels[draws]
        rank = np.arange(len(draws)) - np.searchsorted(ordered, ordered)
        both = concatenate(
            self._competing(candidates, per_class), take(jury, draws[rank < self.judges])
        )
        _, first = np.unique(np.stack([both.ids, both.crops]), axis=1, return_index=True)
        return take(both, first)

    def _competing(self, candidates: Candidates, per_class: int) -> Candidates:
        """The shortlist of each class, by class, then rank."""
        rows = best_crop(candidates, self.keep)
        rank = np.arange(len(rows.labels)) - np.searchsorted(rows.labels, rows.labels)
        return take(rows, rank < max(self.shortlist, 4 * per_class))

    def _choose(
        self,
        rows: Candidates,
        jury: Candidates,
        classes: Int[np.ndarray, " classes"],
        per_class: int,
    ) -> Candidates:
        """Chooses the rows that one student, of their classes alone, is taught."""
        columns = rows.features["probabilities"].shape[1]
        known = classes if columns == len(classes) else np.arange(columns)
        present = np.isin(known, rows.labels)
        labels, truth = (np.searchsorted(known[present], t.labels) for t in (rows, jury))
        seen, judged = (table.features["untrained"] for table in (rows, jury))
        taught = _calibrated(rows, jury, truth, present)
        with jax.enable_x64(True):
            student = untaught(
                arc_cosine(seen, seen), arc_cosine(judged, seen), taught, truth, ridge=self.ridge
            )
        chosen, utilities = choose(student, labels, per_class, self.sweeps)
        return take(rows, chosen)._replace(scores=utilities)


def _calibrated(
    rows: Candidates,
    jury: Candidates,
    truth: Int[np.ndarray, " judges"],
    present: Bool[np.ndarray, " columns"],
) -> Float64[np.ndarray, "rows present"]:
    """What each row teaches of the present classes; rows sum to one."""
    said, judged = (
        np.log(table.features["probabilities"][:, present].astype(np.float64) + 1e-12)
        for table in (rows, jury)
    )
    from scipy.special import softmax

    result: Float64[np.ndarray, "rows present"] = softmax(sharpness(judged, truth) * said, axis=1)
    return result


def sharpness(
    log_probabilities: Float64[np.ndarray, "n classes"], truth: Int[np.ndarray, " n"]
) -> float:
    """What log-probabilities are multiplied by so that the truth is likeliest, 0.01 to 100.

    One over the temperature of temperature scaling (Guo et al., ICML 2017).
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    def surprise(log_sharpness: float) -> float:
        now = log_softmax(np.exp(log_sharpness) * log_probabilities, axis=1)
        return float(-np.take_along_axis(now, truth[:, None], 1).mean())

    return float(np.exp(minimize_scalar(surprise, bounds=BOUNDS, method="bounded").x))


def _needed(key: Key[Array, ""] | None) -> Key[Array, ""]:
    if key is None:
        raise InputError("the choice of judges needs a key")
    return key


def _draws(key: Key[Array, ""], jury: Candidates) -> Int[np.ndarray, " judges"]:
    """The rows of a jury in the order in which they are drawn."""
    example, ids, _ = by_chance(key, jury)
    return np.lexsort((ids, example))


def _last_crops(candidates: Candidates) -> Candidates:
    """The last crop of each example, by example."""
    order = np.lexsort((-candidates.crops, candidates.ids))
    _, first = np.unique(candidates.ids[order], return_index=True)
    return take(candidates, order[first])


def _check_features(candidates: Candidates, classes: Int[np.ndarray, " classes"]) -> None:
    """Checks that there are the columns that a student of these classes needs.

    Raises:
        InputError: there are not.
    """
    columns = candidates.features
    if not {"untrained", "probabilities"} <= set(columns):
        raise InputError(
            f"a kernel student needs the features untrained and probabilities, but the candidates "
            f"have {', '.join(columns) or 'none'}: give the recipe embed=features.StudentFeatures()"
        )
    for name in ("untrained", "probabilities"):
        finite = np.isfinite(columns[name].reshape(len(candidates.ids), -1)).all(1)
        for row in np.flatnonzero(~finite)[:1]:
            raise InputError(f"the features of example {candidates.ids[row]} are not all numbers")
    probabilities = columns["probabilities"]
    known = probabilities.shape[1]
    # Of labels from 0 on some may have no rows; fewer columns than that belong to those that have.
    fits = known == len(classes) or (known > len(classes) and classes.max() < known)
    if not fits or not np.allclose(probabilities.sum(1), 1, atol=1e-2):
        raise InputError(
            f"the feature probabilities has {known} columns; it must hold the "
            f"probabilities of the {len(classes)} classes, which sum to 1"
        )
