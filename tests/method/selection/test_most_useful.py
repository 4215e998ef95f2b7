"""Who competes for a kernel student's choice, and who judges."""

import jax
import numpy as np
import pytest

from infoutil_jax.method.selection import (
    Candidates,
    MostUseful,
    Shortlist,
    Stratified,
    concatenate,
)

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


def test_the_judges_are_the_last_crops():
    """The best-scored crops compete, whichever they are; an image itself judges, which is last."""
    rows = pool(20)
    crops = concatenate(rows, rows._replace(crops=rows.crops + 1, scores=rows.scores + 100))
    kept = MostUseful(shortlist=1, judges=3).reduce(KEY, crops, 1)
    assert (kept.crops == 0).sum() == 4 and (kept.crops == 1).sum() == 3


def test_a_teacher_that_rules_classes_out_teaches_that():
    """Probabilities of zero, to which single precision rounds what is unlikely."""
    rows = pool(4, classes=2)
    features = {
        "untrained": np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32),
        "probabilities": np.eye(2, dtype=np.float32)[rows.labels],
    }
    kept = MostUseful().finalize(KEY, rows._replace(features=features), 2)
    assert kept.labels.tolist() == [0, 0, 1, 1] and np.isfinite(kept.scores).all()


def test_without_a_word_a_stream_keeps_what_the_documentation_says():
    """docs/stream.md: four times as many as are needed, or 64 of a class and its 4,000 judges."""
    kept = Shortlist().reduce(None, pool(50, classes=2), 3)
    assert ranks(kept) == {0: list(range(12)), 1: list(range(12))}
    competing = MostUseful(judges=1).reduce(KEY, pool(200), 1)
    assert set(range(64)) <= set(ranks(competing)[0]) and len(competing.ids) <= 65


def test_without_a_word_its_settings_stay_what_they_are():
    """So that a published set can be made anew: their records give the first two at most."""
    settings = MostUseful(shortlist=64, judges=4000, ridge=0.1, sweeps=8, classes_at_once=20)
    assert MostUseful() == settings


def test_without_a_word_strata_are_those_of_the_paper():
    """Zheng et al., ICLR 2023: 50 strata, without the hardest 0.3 where a tenth is kept."""
    assert Stratified() == Stratified(prune=0.3, strata=50)
