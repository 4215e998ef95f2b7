"""Utility measured: what each candidate adds to the accuracy of students trained on sets with it.

A linear datamodel (Ilyas et al., ICML 2022, arXiv 2202.00622): many small sets are drawn from the
candidates, a student is trained on each, and its accuracy on images it has not seen is regressed on
which candidates its set held. NumPy on the host; `infoutil_jax.trials` trains the students.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize_scalar

from infoutil_jax.errors import InputError


@dataclass(frozen=True)
class Trials:
    """How candidates are tried; the cost is that of `students` short trainings.

    Attributes:
        students: trained in all, in rounds that each halve the candidates; at least two a round.
        shortlist: how many times as many candidates as are needed are tried, or all there are.
        epochs: of each student.
        held_out: training images at most, of all classes alike, on which a student is tested.
        at_once: students whose sets and weights are in memory at once.
        backbone: of the students; None is a ConvNet by the image size.
        width: its channels: narrow students cost little, and sets that they call better are better
            for wide ones (`experiments.measured_utility`). None is the backbone's default.

    Raises:
        InputError: a number below 1, or a shortlist below 2.
    """

    students: int = 256
    shortlist: int = 16
    epochs: int = 100
    held_out: int = 2000
    at_once: int = 32
    backbone: str | None = None
    width: int | None = 16

    def __post_init__(self):
        for name in ("students", "epochs", "held_out", "at_once"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} of the trials is {getattr(self, name)}; give at least 1")
        if self.shortlist < 2:
            raise InputError(f"shortlist is {self.shortlist}: there is no choice below 2")


def deal(
    rng: np.random.Generator, candidates: int, hand: int, hands: int
) -> Int[np.ndarray, "hands hand"]:
    """Random subsets of `hand` different candidates, each candidate in equally many.

    A shuffled deck is dealt until it is used up, and shuffled again: the numbers of hands that two
    candidates are in differ by one at most.

    Raises:
        InputError: a hand larger than the deck.
    """
    if not 1 <= hand <= candidates:
        raise InputError(f"no {hand} different ones can be dealt from {candidates}")
    deck, dealt = rng.permutation(candidates), []
    for _ in range(hands):
        drawn, deck = deck[:hand], deck[hand:]
        if len(drawn) < hand:
            fresh = rng.permutation(candidates)
            more = fresh[~np.isin(fresh, drawn)][: hand - len(drawn)]
            drawn, deck = np.concatenate([drawn, more]), fresh[~np.isin(fresh, more)]
        dealt.append(drawn)
    return np.array(dealt)


def utilities(
    held: Bool[np.ndarray, "trials candidates"], outcomes: Float[np.ndarray, " trials"]
) -> Float[np.ndarray, " candidates"]:
    """Each candidate's part in the outcomes: ridge regression whose strength the outcomes choose.

    The parts are independent and normal, of one variance, and so is what they leave unexplained;
    the ratio of the two is that under which the outcomes are most probable (empirical Bayes:
    MacKay, Neural Computation 1992). Where they tell nothing, all means are near zero. Memory is
    that of `held` as float64, and trials² numbers.

    Args:
        held: which candidates each trial's set held.
        outcomes: of each trial, in any unit.

    Returns:
        What a set gains by each, over the average candidate in its place; in that unit.

    Raises:
        InputError: fewer than two trials, or an outcome that is no number.
    """
    if len(outcomes) < 2:
        raise InputError(f"{len(outcomes)} trial tells nothing of its parts; give at least two")
    for trial in np.flatnonzero(~np.isfinite(outcomes))[:1]:
        raise InputError(f"the outcome of trial {trial} is {outcomes[trial]}, which is no number")
    x = held - held.mean(0)
    y = outcomes - outcomes.mean()
    strengths, directions = np.linalg.eigh(x @ x.T)
    strengths, along = np.maximum(strengths, 0), directions.T @ y
    unit = 1 / max(strengths.mean(), 1e-12)  # in which the ratio is of the order of one

    def surprise(log_ratio: float) -> float:
        spread = np.exp(log_ratio) * unit * strengths + 1
        return len(y) * np.log((along**2 / spread).mean() + 1e-30) + np.log(spread).sum()

    best = minimize_scalar(surprise, bounds=(-12, 12), method="bounded").x
    ratio = np.exp(best) * unit
    return ratio * (directions @ (along / (ratio * strengths + 1))) @ x
