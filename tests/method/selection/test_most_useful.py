"""Who competes for a kernel student's choice, and of which class it is."""

import jax
import numpy as np
import pytest

from infoutil_jax.method.selection import Candidates, MostUseful, Shortlist, Stratified
from infoutil_jax.method.selection.kernel_student import arc_cosine, choose, untaught

KEY = jax.random.key(0)


def pool(images, classes=1):
    """One crop of each image; the images of a class score 0, 1, ..."""
    labels = np.repeat(np.arange(classes, dtype=np.int32), images)
    return Candidates(
        ids=np.arange(len(labels)),
        crops=np.zeros(len(labels), np.int32),
        labels=labels,
        scores=np.tile(np.arange(images, dtype=np.float32), classes),
        features={},
    )


def ranks(kept):
    """The scores that are left of each class."""
    return {int(c): sorted(kept.scores[kept.labels == c].tolist()) for c in np.unique(kept.labels)}


@pytest.mark.parametrize(
    ("shortlist", "per_class", "competing"), [(5, 1, 5), (5, 3, 12), (1, 2, 8)]
)
def test_the_shortlist_or_four_times_as_many_as_are_kept_compete(shortlist, per_class, competing):
    selector = MostUseful(shortlist=shortlist, judges=1)
    kept = selector.reduce(KEY, pool(200, classes=2), per_class)
    for scores in ranks(kept).values():  # and one more judges
        assert set(range(competing)) <= set(scores) and len(scores) <= competing + 1


@pytest.mark.parametrize("seed", range(5))
def test_a_class_of_few_candidates_is_filled_from_its_own(seed):
    """Whatever candidates of other classes would teach."""
    labels = np.array([0, 0, 0, 0, 0, 1, 2, 2])
    seen = np.random.default_rng(seed).normal(size=(8, 4))
    with jax.enable_x64(True):
        kernel = arc_cosine(seen, seen)
        student = untaught(kernel, kernel, np.eye(3)[labels], labels)
    chosen, _ = choose(student, labels, 1, 4)
    np.testing.assert_array_equal(labels[chosen], [0, 1, 2])


def test_without_a_word_a_stream_keeps_what_the_documentation_says():
    """docs/stream.md: four times as many as are needed, or 64 of a class and its 4,000 judges."""
    kept = Shortlist().reduce(None, pool(50, classes=2), 3)
    assert ranks(kept) == {0: list(range(12)), 1: list(range(12))}
    competing = MostUseful(judges=1).reduce(KEY, pool(200), 1)
    assert set(range(64)) <= set(ranks(competing)[0]) and len(competing.ids) <= 65
    assert MostUseful().judges == 4000


def test_without_a_word_strata_are_those_of_the_paper():
    """Zheng et al., ICLR 2023: 50 strata, without the hardest 0.3 where a tenth is kept."""
    assert Stratified() == Stratified(prune=0.3, strata=50)
