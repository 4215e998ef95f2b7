"""Coresets: choices made by hand, their approximation guarantees, and the table they work on."""

from itertools import combinations

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from infoutil_jax.errors import InputError
from infoutil_jax.method.selection import (
    Candidates,
    Chain,
    Coreset,
    Shortlist,
    facility_location,
    feature,
    herding,
    k_center,
    k_means,
)

KEY = jax.random.key(0)
LINE = np.array([[0.0], [1.0], [2.0], [10.0]])  # mean 3.25
CHOICES = [herding, k_center, k_means, facility_location]


@pytest.mark.parametrize(
    ("choose", "k", "expected"),
    [
        (herding, 3, [2, 1, 3]),  # means 2, 1.5, 4.33: each the nearest to 3.25
        (k_center, 3, [2, 3, 0]),  # nearest to the mean, then the farthest from what is chosen
        (k_means, 2, [1, 3]),  # clusters {0, 1, 2} and {10}
        (facility_location, 2, [1, 3]),  # sums of distances 11, then 2
    ],
)
def test_on_a_line_by_hand(choose, k, expected):
    np.testing.assert_array_equal(choose(LINE, k, 0), expected)


def test_the_next_centre_is_the_row_farthest_from_all_centres():
    """1 is nearest to the mean; then 9 is near to 10, which is chosen, and -6 to -7, which is."""
    line = np.array([[-1.5], [1.0], [9.0], [10.0], [-6.0], [-7.0]])
    np.testing.assert_array_equal(k_center(line, 4), [1, 3, 5, 0])


def test_k_means_are_the_best_of_ten_starts():
    """Of these the ninth is worse than the tenth, and the tenth than the eleventh."""
    features, start = np.random.default_rng(0).normal(size=(40, 2)), np.random.RandomState(17)
    runs = [KMeans(6, n_init=1, random_state=start).fit(features) for _ in range(10)]
    means = min(runs, key=lambda run: run.inertia_).cluster_centers_
    nearest = np.linalg.norm(features[:, None] - means, axis=-1).argmin(0)
    assert set(k_means(features, 6, seed=17)) == set(nearest)


def test_without_a_seed_k_means_have_that_of_no_key():
    features = np.random.default_rng(0).normal(size=(40, 2))
    found = [k_means(features, 6, *seed).tolist() for seed in ((), (0,), (1,))]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("choose", CHOICES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 7))
def test_rows_are_distinct_and_do_not_depend_on_where_the_origin_is(choose, seed, k):
    features = np.random.default_rng(seed).normal(size=(7, 3)).round(3)
    rows = choose(features, k, 0)
    assert len(set(rows)) == k and set(rows) <= set(range(7))
    if choose in (herding, k_center):  # the others have ties, which rounding breaks
        np.testing.assert_array_equal(rows, choose(features + np.array([3.0, -2.0, 1.0]), k, 0))


@pytest.mark.parametrize("choose", CHOICES)
def test_all_rows_and_equal_rows(choose):
    assert sorted(choose(LINE, 4, 0)) == [0, 1, 2, 3]
    if choose is not k_means:
        assert sorted(choose(np.zeros((3, 2)), 2, 0)) == [0, 1]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_greedy_choices_keep_their_guarantees(seed):
    features = np.random.default_rng(seed).normal(size=(9, 2))
    distances = np.linalg.norm(features[:, None] - features, axis=-1)
    best_radius = min(distances[:, c].min(1).max() for c in combinations(range(9), 3))
    assert distances[:, k_center(features, 3, 0)].min(1).max() <= 2 * best_radius + 1e-9
    start = distances.sum(0).min()
    costs = {c: distances[:, c].min(1).sum() for c in combinations(range(9), 3)}
    reached = distances[:, facility_location(features, 3, 0)].min(1).sum()
    assert start - reached >= (1 - 1 / np.e) * (start - min(costs.values())) - 1e-9


def test_herding_tracks_the_mean_better_than_chance():
    features = np.random.default_rng(0).normal(size=(200, 16))
    gap = np.linalg.norm(features[herding(features, 20, 0)].mean(0) - features.mean(0))
    chance = [
        np.linalg.norm(
            features[np.random.default_rng(s).permutation(200)[:20]].mean(0) - features.mean(0)
        )
        for s in range(50)
    ]
    assert gap < min(chance)


def table(features, scores, labels, ids=None, crops=None):
    n = len(scores)
    return Candidates(
        ids=np.arange(n, dtype=np.int64) if ids is None else np.asarray(ids, np.int64),
        crops=np.zeros(n, np.int32) if crops is None else np.asarray(crops, np.int32),
        labels=np.asarray(labels, np.int32),
        scores=np.asarray(scores, np.float32),
        features={} if features is None else {"mine": np.asarray(features, np.float32)},
    )


def coreset(candidates, per_class, choose, **options):
    return Coreset(choose, **options).finalize(KEY, candidates, per_class)


def shortlisted(candidates, per_class, choose, times, keep="lowest"):
    select = Chain(Shortlist(times, keep), Coreset(choose, keep))
    return select.finalize(KEY, candidates, per_class)


def test_each_class_is_chosen_by_itself():
    features = np.concatenate([LINE, LINE + 100])
    rows = coreset(table(features, range(8), [0] * 4 + [1] * 4), 2, herding)
    np.testing.assert_array_equal(rows.ids, [2, 1, 6, 5])
    np.testing.assert_array_equal(rows.features["mine"][:, 0], [2, 1, 102, 101])


def test_order_of_the_table_changes_nothing():
    candidates = table(np.concatenate([LINE, -LINE]), range(8), [0, 1] * 4)
    order = np.random.default_rng(0).permutation(8)
    shuffled = jax.tree.map(lambda column: column[order], candidates)
    for choose in CHOICES:
        a, b = (coreset(c, 2, choose) for c in (candidates, shuffled))
        np.testing.assert_array_equal(a.ids, b.ids)


def test_only_the_best_scored_take_part():
    candidates = table(LINE, [4.0, 1.0, 2.0, 3.0], [0] * 4)
    assert set(shortlisted(candidates, 1, k_center, 2).ids) <= {1, 2}
    assert set(shortlisted(candidates, 2, herding, 1).ids) == {1, 2}
    assert set(shortlisted(candidates, 1, herding, 1, "highest").ids) == {0}
    few, many = (shortlisted(candidates, 2, herding, n).ids for n in (2, 100))
    np.testing.assert_array_equal(few, many)


def test_one_crop_of_an_example_takes_part():
    candidates = table(LINE, [4.0, 1.0, 2.0, 3.0], [0] * 4, ids=[5, 5, 6, 6], crops=[0, 1, 0, 1])
    kept = coreset(candidates, 2, k_center)
    assert sorted(zip(kept.ids, kept.crops, strict=True)) == [(5, 1), (6, 0)]


@pytest.mark.parametrize(
    ("change", "arguments", "sentence"),
    [
        ({"features": None}, {}, "no features; give the recipe an embed function"),
        ({"features": [[0], [1], [np.nan], [3]]}, {}, "features of example 2 are not all numbers"),
        ({}, {"per_class": 5}, "class 0 has 4 candidates to choose from, but 5 are needed"),
        ({}, {"column": "theirs"}, "features are mine; name one of them, not 'theirs'"),
        ({}, {"keep": "best"}, 'keep is "best"'),
        ({"scores": [1, 2, np.nan, 4]}, {}, "score of crop 0 of example 2 is NaN"),
    ],
)
def test_what_cannot_be_chosen_from_is_told(change, arguments, sentence, unchecked):
    columns = {"features": LINE, "scores": [1, 2, 3, 4], "labels": [0] * 4} | change
    with pytest.raises(InputError, match=sentence):
        coreset(table(**columns), **{"per_class": 2, "choose": herding, **arguments})


def test_every_key_is_a_seed_of_its_own_and_none_is_seed_0():
    """Of 31 bits, which every generator takes."""
    seeds = []

    def choose(features, k, seed):
        seeds.append(seed)
        return np.arange(k)

    for number in range(30):
        Coreset(choose).finalize(jax.random.key(number), table(LINE, range(4), [0] * 4), 1)
    assert len(set(seeds)) == 30 and 2**30 < max(seeds) < 2**31
    Coreset(choose).finalize(None, table(LINE, range(4), [0] * 4), 1)
    assert seeds[-1] == 0


def test_of_several_columns_one_is_named():
    candidates = table(LINE, [1, 2, 3, 4], [0] * 4)
    both = candidates._replace(features={**candidates.features, "turned": -LINE.astype("f4")})
    np.testing.assert_array_equal(feature(both, "turned"), -LINE)
    kept = coreset(both, 2, herding, column="mine")
    np.testing.assert_array_equal(kept.ids, coreset(candidates, 2, herding).ids)
    with pytest.raises(InputError, match="features are mine, turned; name one of them, not None"):
        coreset(both, 2, herding)
