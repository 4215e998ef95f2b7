from itertools import pairwise

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoutil_jax.errors import InputError
from infoutil_jax.method.selection import (
    Candidates,
    best_crop,
    by_statistic,
    concatenate,
    merge_top_k,
    random_k,
    running_top_k,
    take,
    top_k,
)

KEY = jax.random.key(3)


def table(scores, labels=None, ids=None, crops=None):
    n = len(scores)
    ids = np.arange(n) if ids is None else ids
    return Candidates(
        ids=np.asarray(ids, np.int64),
        crops=np.asarray(np.zeros(n) if crops is None else crops, np.int32),
        labels=np.asarray(np.zeros(n) if labels is None else labels, np.int32),
        boxes=np.stack([np.arange(n)] * 4, axis=-1).astype(np.int32).reshape(n, 4),
        scores=np.asarray(scores, np.float32),
        maps=np.asarray(ids, np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32),
        features=np.arange(2 * n, dtype=np.float32).reshape(n, 2),
    )


def assert_equal(one, other):
    for name, left, right in zip(Candidates._fields, one, other, strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right, err_msg=name)


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


def specification(candidates, per_class, keep, compete):
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
        if compete == "best":
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
def test_top_k_is_what_sorting_row_by_row_gives(candidates, per_class, keep, compete):
    if (candidates := full(candidates, per_class)) is None:
        return
    kept = top_k(None, candidates, per_class, keep=keep, compete=compete)
    assert_equal(kept, specification(candidates, per_class, keep, compete))
    assert (np.unique(kept.labels, return_counts=True)[1] == per_class).all()


@given(tables(), st.data())
@settings(deadline=None, max_examples=50)
def test_the_order_of_candidates_changes_nothing(candidates, data):
    shuffled = take(candidates, np.array(data.draw(st.permutations(range(len(candidates.ids))))))
    for keep in ("highest", "lowest", "middle"):
        assert_equal(top_k(None, shuffled, 1, keep=keep), top_k(None, candidates, 1, keep=keep))
        assert_equal(best_crop(shuffled, keep), best_crop(candidates, keep))
    assert_equal(random_k(KEY, shuffled, 1), random_k(KEY, candidates, 1))


@given(tables(), st.integers(1, 3), st.lists(st.integers(0, 60), max_size=4))
@settings(deadline=None, max_examples=50)
def test_a_stream_selects_what_the_whole_does(candidates, per_class, cuts):
    cuts = sorted({0, len(candidates.ids), *(min(cut, len(candidates.ids)) for cut in cuts)})
    batches = [take(candidates, np.arange(*span)) for span in pairwise(cuts)]
    for keep in ("highest", "lowest", "random"):
        key = KEY if keep == "random" else None
        kept = running_top_k(iter(batches), per_class, keep=keep, key=key)
        assert_equal(kept, running_top_k([candidates], per_class, keep=keep, key=key))
        if full(candidates, per_class) is not None:
            rows = full(candidates, per_class)
            whole = (
                random_k(KEY, rows, per_class)
                if keep == "random"
                else top_k(None, rows, per_class, keep=keep)
            )
            assert_equal(take(kept, np.isin(kept.labels, rows.labels)), whole)


def test_ties_break_by_example_then_crop():
    rows = table([1, 1, 1, 1], ids=[9, 4, 4, 6], crops=[0, 2, 1, 0])
    kept = top_k(None, rows, 3, compete="all")
    assert list(zip(kept.ids, kept.crops, strict=True)) == [(4, 1), (4, 2), (6, 0)]
    kept = top_k(None, rows, 3)
    assert list(zip(kept.ids, kept.crops, strict=True)) == [(4, 1), (6, 0), (9, 0)]


def test_a_statistic_of_examples_takes_the_place_of_the_scores():
    rows = table(
        [9, 8, 7, 6, 5], labels=[0, 0, 0, 1, 1], ids=[5, 2, 2, 0, 3], crops=[0, 1, 0, 0, 0]
    )
    values = np.array([4, 99, 7, 4, 99, 1])
    kept = by_statistic(None, rows, 2, values=values)
    assert list(zip(kept.ids, kept.crops, kept.scores, strict=True)) == [
        (2, 0, 7),
        (5, 0, 1),
        (0, 0, 4),
        (3, 0, 4),
    ]
    assert kept.scores.dtype == np.float32
    assert by_statistic(None, rows, 1, values=values, keep="lowest").ids.tolist() == [5, 0]


def test_rows_are_kept_whole():
    rows = table([0.5, 2.5, 1.5], ids=[5, 6, 7])
    kept = top_k(None, rows, 2)
    np.testing.assert_array_equal(kept.scores, [2.5, 1.5])
    np.testing.assert_array_equal(kept.boxes, [[1] * 4, [2] * 4])
    np.testing.assert_array_equal(kept.maps[:, 0, 0], [6, 7])


def test_the_middle_is_around_the_class_median():
    rows = table([0, 10, 20, 30, 100, 7, 8], labels=[0, 0, 0, 0, 0, 1, 1])
    kept = top_k(None, rows, 2, keep="middle")
    np.testing.assert_array_equal(kept.scores, [20, 10, 7, 8])


def test_a_cap_leaves_out_the_highest_scores_of_each_class():
    scores = np.concatenate([np.arange(11), 100 * np.arange(11)])
    rows = table(scores, labels=np.repeat([0, 1], 11))
    kept = top_k(None, rows, 2, cap=0.8)
    np.testing.assert_array_equal(kept.scores, [8, 7, 800, 700])
    assert_equal(top_k(None, rows, 2, cap=1.0), top_k(None, rows, 2))
    with pytest.raises(InputError, match="class 0 has 6 candidates to choose from, but 7"):
        top_k(None, rows, 7, cap=0.5)


def test_a_capped_crop_leaves_its_image_the_next_best():
    rows = table([1, 9, 2, 3], ids=[0, 0, 1, 1], crops=[0, 1, 0, 1])
    kept = top_k(None, rows, 2, cap=0.7)
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


def test_merging_accepts_classes_that_are_not_full_yet():
    first = table([1.0], labels=[0], ids=[0])
    second = table([2.0, 5.0], labels=[0, 3], ids=[1, 2])
    kept = merge_top_k(first, second, 4)
    assert kept.ids.tolist() == [1, 0, 2]
    assert_equal(kept, merge_top_k(second, first, 4)._replace(boxes=kept.boxes))


def test_a_stream_is_read_one_batch_at_a_time_and_little_is_kept():
    held = []

    def stream():
        rng = np.random.default_rng(0)
        for batch in range(50):
            ids = np.arange(100) + 100 * batch
            yield table(rng.normal(size=100), labels=ids % 4, ids=ids)
            held.append(batch)

    kept = running_top_k(stream(), 3)
    assert len(held) == 50
    assert len(kept.ids) == 12
    assert kept.maps.base is None or len(kept.maps.base) == 12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: top_k(None, table([1, np.nan], ids=[4, 8]), 1),
            "crop 0 of example 8 is NaN",
        ),
        (
            lambda: top_k(None, table([1, 2, 3], labels=[0, 7, 0]), 2),
            "class 7 has 1 candidates to choose from, but 2 are needed",
        ),
        (lambda: top_k(None, table([1, 2], ids=[3, 3]), 2), "class 0 has 1 candidates"),
        (lambda: random_k(KEY, table([1, 2], ids=[3, 3]), 2), "class 0 has 1 candidates"),
        (lambda: top_k(None, table([1]), 0), "per_class is 0"),
        (lambda: top_k(None, table([1]), 1, keep="best"), 'keep is "best"'),
        (lambda: top_k(None, table([1]), 1, compete="some"), 'compete is "some"'),
        (lambda: running_top_k([table([1])], 1, keep="middle"), "a stream allows"),
        (lambda: top_k(None, table([1]), 1, cap=0.0), "cap is 0.0"),
        (lambda: running_top_k([table([1])], 1, keep="random"), "needs a key"),
        (lambda: running_top_k([table([1])], 1, key=KEY), "takes no key"),
        (lambda: running_top_k([], 1), "batches is empty"),
        (
            lambda: by_statistic(None, table([1, 2], ids=[1, 4]), 1, values=np.zeros(4)),
            "values has 4 entries, but there is an example with id 4",
        ),
        (
            lambda: by_statistic(None, table([1]), 1, values=np.array([np.nan])),
            "example 0 is NaN",
        ),
        (lambda: top_k(None, concatenate(table([1]))._replace(ids=np.arange(3)), 1), "lengths"),
    ],
)
def test_bad_input_is_told_in_a_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()
