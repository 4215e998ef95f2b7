"""Selectors against their descriptions; what folds, folds without loss."""

from itertools import pairwise

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoutil_jax.errors import InputError
from infoutil_jax.method.contracts import as_selector
from infoutil_jax.method.selection import (
    ByStatistic,
    Candidates,
    Chain,
    Coreset,
    RandomK,
    Selector,
    Shortlist,
    TopK,
    best_crop,
    concatenate,
    facility_location,
    herding,
    running,
    take,
)

KEY = jax.random.key(3)


def table(scores, labels=None, ids=None, crops=None):
    n = len(scores)
    ids = np.arange(n) if ids is None else ids
    return Candidates(
        ids=np.asarray(ids, np.int64),
        crops=np.asarray(np.zeros(n) if crops is None else crops, np.int32),
        labels=np.asarray(np.zeros(n) if labels is None else labels, np.int32),
        scores=np.asarray(scores, np.float32),
        features={"mine": np.stack([np.asarray(ids) % 5, np.asarray(ids) // 5], 1).astype("f4")},
    )


def assert_equal(one, other):
    for name in ("ids", "crops", "labels", "scores"):
        left, right = getattr(one, name), getattr(other, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right, err_msg=name)
    np.testing.assert_array_equal(one.features["mine"], other.features["mine"])


def top_k(candidates, per_class, **options):
    return TopK(**options).finalize(None, candidates, per_class)


def random_k(key, candidates, per_class):
    return RandomK().finalize(key, candidates, per_class)


@st.composite
def tables(draw):
    """Examples of three classes with one to three crops each, few distinct scores, any order."""
    labels = draw(st.lists(st.integers(0, 2), min_size=1, max_size=20))
    crops = [draw(st.integers(1, 3)) for _ in labels]
    ids = np.repeat(np.arange(len(labels)) * 7 + 2, crops)
    scores = draw(st.lists(st.integers(-3, 3), min_size=len(ids), max_size=len(ids)))
    which = np.concatenate([np.arange(count) for count in crops])
    rows = table(scores, np.repeat(labels, crops), ids, which)
    return take(rows, np.array(draw(st.permutations(range(len(ids))))))


def full(candidates, per_class):
    """The classes with enough examples, or None."""
    enough = [
        label
        for label in np.unique(candidates.labels)
        if len(np.unique(candidates.ids[candidates.labels == label])) >= per_class
    ]
    rows = take(candidates, np.isin(candidates.labels, enough))
    return rows if enough else None


def specification(candidates, per_class, keep, crops_per_image):
    """Selection, written as it is described: row by row."""
    kept = []
    for label in sorted(set(candidates.labels.tolist())):
        rows = np.flatnonzero(candidates.labels == label).tolist()
        median = np.median(candidates.scores[rows])

        def rank(row, median=median):
            score = float(candidates.scores[row])
            badness = {"highest": -score, "lowest": score, "middle": abs(score - median)}[keep]
            return badness, candidates.ids[row], candidates.crops[row]

        rows.sort(key=rank)
        if crops_per_image == "best":
            seen = candidates.ids[rows].tolist()
            rows = [row for place, row in enumerate(rows) if seen.index(seen[place]) == place]
        kept += rows[:per_class]
    return take(candidates, np.array(kept))


@given(
    tables(),
    st.integers(1, 3),
    st.sampled_from(["highest", "lowest", "middle"]),
    st.sampled_from(["best", "all"]),
)
@settings(deadline=None)
def test_top_k_is_what_sorting_row_by_row_gives(candidates, per_class, keep, crops_per_image):
    if (candidates := full(candidates, per_class)) is None:
        return
    kept = top_k(candidates, per_class, keep=keep, crops_per_image=crops_per_image)
    assert_equal(kept, specification(candidates, per_class, keep, crops_per_image))
    assert (np.unique(kept.labels, return_counts=True)[1] == per_class).all()


@given(tables(), st.data())
@settings(deadline=None, max_examples=50)
def test_the_order_of_candidates_changes_nothing(candidates, data):
    shuffled = take(candidates, np.array(data.draw(st.permutations(range(len(candidates.ids))))))
    for keep in ("highest", "lowest", "middle"):
        assert_equal(top_k(shuffled, 1, keep=keep), top_k(candidates, 1, keep=keep))
        assert_equal(best_crop(shuffled, keep), best_crop(candidates, keep))
    assert_equal(random_k(KEY, shuffled, 1), random_k(KEY, candidates, 1))


STATISTIC = np.arange(200) % 7
REDUCING = [
    TopK("highest"),
    TopK("lowest"),
    TopK("highest", crops_per_image="all"),
    RandomK(),
    ByStatistic(STATISTIC),
    ByStatistic(STATISTIC, "lowest"),
    Shortlist(2),
    Shortlist(1, keep="highest"),
    Chain(Shortlist(2), RandomK()),
    Chain(Shortlist(3), Coreset(facility_location), TopK("lowest")),
    Chain(RandomK(), TopK()),
    Chain(Shortlist(2), lambda key, rows, n: top_k(rows, n, keep="lowest")),
]
WHOLE = [
    TopK("middle"),
    TopK(max_quantile=0.5),
    ByStatistic(STATISTIC, "middle"),
    Coreset(herding),
    Chain(Coreset(herding), TopK()),
    as_selector(lambda key, rows, n: top_k(rows, n)),
]


@pytest.mark.parametrize("selector", REDUCING, ids=[str(n) for n in range(len(REDUCING))])
@given(candidates=tables(), per_class=st.integers(1, 3), data=st.data())
@settings(deadline=None, max_examples=25)
def test_reducing_changes_nothing_that_is_kept_in_the_end(selector, candidates, per_class, data):
    """finalize(reduce(reduce(A) + B)) == finalize(A + B), however the rows are cut and ordered."""
    if (candidates := full(candidates, per_class)) is None:
        return
    rows = len(candidates.ids)
    order = np.array(data.draw(st.permutations(range(rows))))
    cuts = sorted({0, rows, *data.draw(st.lists(st.integers(0, rows), max_size=3))})
    parts = [take(candidates, order[slice(*span)]) for span in pairwise(cuts)]
    kept = running(selector, KEY, iter(parts), per_class)
    whole = selector.finalize(KEY, candidates, per_class)
    assert_equal(selector.finalize(KEY, kept, per_class), whole)
    assert (np.unique(whole.labels, return_counts=True)[1] >= min(per_class, 1)).all()


@pytest.mark.parametrize("selector", WHOLE, ids=[str(n) for n in range(len(WHOLE))])
def test_a_selector_that_needs_every_row_says_so(selector):
    assert isinstance(selector, Selector) and selector.reduce is None
    with pytest.raises(InputError, match="needs every row: it cannot run over a stream"):
        running(selector, KEY, [table([1.0])], 1)


def test_a_chain_is_its_links_one_after_the_other():
    rows = table(np.arange(40), labels=np.arange(40) % 2)
    chain = Chain(Shortlist(3, keep="highest"), RandomK(), TopK("lowest"))
    short = Shortlist(3, keep="highest").finalize(KEY, rows, 4)
    assert len(short.ids) == 24 and short.scores.min() == 16
    drawn = RandomK().finalize(jax.random.fold_in(KEY, 1), short, 4)
    assert_equal(chain.finalize(KEY, rows, 4), top_k(drawn, 4, keep="lowest"))


def test_a_shortlist_keeps_a_small_class_whole():
    rows = table(np.arange(9), labels=[0] * 7 + [1] * 2)
    kept = Shortlist(2).finalize(None, rows, 3)
    assert kept.ids.tolist() == [0, 1, 2, 3, 4, 5, 7, 8]


def test_ties_break_by_example_then_crop():
    rows = table([1, 1, 1, 1], ids=[9, 4, 4, 6], crops=[0, 2, 1, 0])
    kept = top_k(rows, 3, crops_per_image="all")
    assert list(zip(kept.ids, kept.crops, strict=True)) == [(4, 1), (4, 2), (6, 0)]
    kept = top_k(rows, 3)
    assert list(zip(kept.ids, kept.crops, strict=True)) == [(4, 1), (6, 0), (9, 0)]


def test_a_statistic_of_examples_takes_the_place_of_the_scores():
    rows = table(
        [9, 8, 7, 6, 5], labels=[0, 0, 0, 1, 1], ids=[5, 2, 2, 0, 3], crops=[0, 1, 0, 0, 0]
    )
    values = np.array([4, 99, 7, 4, 99, 1])
    kept = ByStatistic(values).finalize(None, rows, 2)
    assert list(zip(kept.ids, kept.crops, kept.scores, strict=True)) == [
        (2, 0, 7),
        (5, 0, 1),
        (0, 0, 4),
        (3, 0, 4),
    ]
    assert kept.scores.dtype == np.float32
    assert ByStatistic(values, "lowest").finalize(None, rows, 1).ids.tolist() == [5, 0]


def test_rows_are_kept_whole():
    rows = table([0.5, 2.5, 1.5], ids=[5, 6, 7])
    kept = top_k(rows, 2)
    np.testing.assert_array_equal(kept.scores, [2.5, 1.5])
    np.testing.assert_array_equal(kept.features["mine"], [[1, 1], [2, 1]])


def test_the_middle_is_around_the_class_median():
    rows = table([0, 10, 20, 30, 100, 7, 8], labels=[0, 0, 0, 0, 0, 1, 1])
    kept = top_k(rows, 2, keep="middle")
    np.testing.assert_array_equal(kept.scores, [20, 10, 7, 8])


def test_a_quantile_leaves_out_the_highest_scores_of_each_class():
    scores = np.concatenate([np.arange(11), 100 * np.arange(11)])
    rows = table(scores, labels=np.repeat([0, 1], 11))
    kept = top_k(rows, 2, max_quantile=0.8)
    np.testing.assert_array_equal(kept.scores, [8, 7, 800, 700])
    assert_equal(top_k(rows, 2, max_quantile=1.0), top_k(rows, 2))
    with pytest.raises(InputError, match="class 0 has 6 candidates to choose from, but 7"):
        top_k(rows, 7, max_quantile=0.5)


def test_a_crop_above_the_quantile_leaves_its_image_the_next_best():
    rows = table([1, 9, 2, 3], ids=[0, 0, 1, 1], crops=[0, 1, 0, 1])
    kept = top_k(rows, 2, max_quantile=0.7)
    assert list(zip(kept.ids, kept.crops, strict=True)) == [(1, 1), (0, 0)]


def test_random_selection_is_uniform_over_examples_and_over_their_crops():
    crops = np.tile(np.arange(4), 6)
    rows = table(np.arange(24), ids=np.repeat(np.arange(6), 4), crops=crops)
    rows = take(rows, np.arange(21))  # the last example has one crop only
    kept = [random_k(jax.random.key(seed), rows, 2) for seed in range(600)]
    ids = np.concatenate([k.ids for k in kept])
    assert all(len(set(k.ids.tolist())) == 2 for k in kept)
    np.testing.assert_allclose(np.bincount(ids) / 600, np.full(6, 1 / 3), atol=0.08)
    which = np.concatenate([k.crops[k.ids < 5] for k in kept])
    np.testing.assert_allclose(np.bincount(which) / len(which), np.full(4, 0.25), atol=0.06)
    assert_equal(random_k(KEY, rows, 2), random_k(KEY, rows, 2))


def test_random_selection_does_not_depend_on_other_examples():
    rows = table(np.zeros(40))
    kept = random_k(KEY, rows, 5)
    fewer = take(rows, np.union1d(kept.ids, np.arange(0, 40, 2)))
    assert_equal(random_k(KEY, fewer, 5), kept)


def test_a_stream_is_read_one_batch_at_a_time_and_little_is_kept():
    held = []

    def stream():
        rng = np.random.default_rng(0)
        for batch in range(50):
            ids = np.arange(100) + 100 * batch
            yield table(rng.normal(size=100), labels=ids % 4, ids=ids)
            held.append(batch)

    kept = running(TopK(), None, stream(), 3)
    assert len(held) == 50
    assert len(kept.ids) == 12
    assert kept.features["mine"].base is None or len(kept.features["mine"].base) == 12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: top_k(table([1, np.nan], ids=[4, 8]), 1),
            "crop 0 of example 8 is NaN",
        ),
        (
            lambda: top_k(table([1, 2, 3], labels=[0, 7, 0]), 2),
            "class 7 has 1 candidates to choose from, but 2 are needed",
        ),
        (lambda: top_k(table([1, 2], ids=[3, 3]), 2), "class 0 has 1 candidates"),
        (lambda: random_k(KEY, table([1, 2], ids=[3, 3]), 2), "class 0 has 1 candidates"),
        (lambda: top_k(table([1]), 0), "per_class is 0"),
        (lambda: TopK("best"), 'keep is "best"'),
        (lambda: TopK(crops_per_image="some"), 'crops_per_image is "some"'),
        (lambda: TopK(max_quantile=0.0), "max_quantile is 0.0"),
        (lambda: TopK(max_quantile=1.1), "max_quantile is 1.1"),
        (lambda: Shortlist(0), "holds 0 times as many"),
        (lambda: Shortlist(keep="middle"), 'keep is "middle"; a shortlist has'),
        (lambda: Chain(), "a chain of no selectors"),
        (lambda: random_k(None, table([1]), 1), "needs a key"),
        (lambda: running(TopK(), None, [], 1), "tables is empty"),
        (
            lambda: ByStatistic(np.zeros(4)).finalize(None, table([1, 2], ids=[1, 4]), 1),
            "values has 4 entries, but there is an example with id 4",
        ),
        (
            lambda: ByStatistic(np.array([np.nan])).finalize(None, table([1]), 1),
            "example 0 is NaN",
        ),
        (lambda: top_k(concatenate(table([1]))._replace(ids=np.arange(3)), 1), "lengths"),
        (
            lambda: top_k(table([1])._replace(features={"mine": np.zeros((2, 1), "f4")}), 1),
            "different lengths: .*'mine': 2",
        ),
    ],
)
def test_bad_input_is_told_in_a_sentence(call, message, unchecked):
    with pytest.raises(InputError, match=message):
        call()
