"""Coverage-centric selection: every stratum gives its share, the hardest none."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoutil_jax.errors import InputError
from infoutil_jax.method.selection import Candidates, Stratified, take

KEY = jax.random.key(0)


def table(*scores):
    """One class for each list of scores."""
    rows = sum(map(len, scores))
    return Candidates(
        ids=np.arange(rows),
        crops=np.zeros(rows, np.int32),
        labels=np.repeat(np.arange(len(scores), dtype=np.int32), [len(s) for s in scores]),
        scores=np.concatenate(scores).astype(np.float32),
        features={},
    )


def scores_kept(scores, count, **options):
    return Stratified(**options).finalize(KEY, table(scores), count).scores.tolist()


def test_strata_are_of_one_width_and_give_as_much_each():
    # Of a range from 0 to 4: two below 1, one from 1, none from 2, five from 3.
    scores = [0.0, 0.5, 1.0, 3.0, 3.1, 3.2, 3.3, 4.0]
    kept = scores_kept(scores, 5, prune=0.0, strata=4)
    # One of one, then two of two, then what is left of the largest.
    assert kept[:3] == [0.0, 0.5, 1.0] and len(kept) == 5 and min(kept[3:]) >= 3
    assert sorted(scores_kept(scores, 8, prune=0.0, strata=4)) == pytest.approx(scores)
    # Fewer are asked for than there are strata: the largest gives what there is to give.
    assert scores_kept(scores, 1, prune=0.0, strata=4)[0] >= 3


@pytest.mark.parametrize(("prune", "hardest"), [(0.0, 9), (0.3, 6), (0.5, 4), (0.9, 3)])
def test_the_hardest_are_left_out_as_far_as_enough_are_left(prune, hardest):
    several = [scores_kept(np.arange(10.0), 4, prune=prune, strata=1)]
    for key in range(20):
        kept = Stratified(prune=prune, strata=1).finalize(
            jax.random.key(key), table(np.arange(10.0)), 4
        )
        several.append(kept.scores.tolist())
    assert max(map(max, several)) == hardest


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 12),
    strata=st.integers(1, 60),
    prune=st.floats(0, 0.99),
)
def test_classes_are_full_and_order_does_not_matter(seed, count, strata, prune):
    rng = np.random.default_rng(seed)
    pool = table(rng.exponential(size=12), rng.normal(size=30), np.zeros(20))
    select = Stratified(prune, strata)
    kept = select.finalize(KEY, pool, count)
    np.testing.assert_array_equal(kept.labels, np.repeat(np.arange(3), count))
    assert len(set(kept.ids)) == 3 * count
    shuffled = take(pool, rng.permutation(len(pool.ids)))
    jax.tree.map(np.testing.assert_array_equal, select.finalize(KEY, shuffled, count), kept)


def test_bad_input_is_one_sentence():
    for options, told in (
        ({"prune": 1.0}, "prune is 1.0"),
        ({"prune": -0.1}, "prune is -0.1"),
        ({"strata": 0}, "strata is 0"),
    ):
        with pytest.raises(InputError, match=told):
            Stratified(**options)
    with pytest.raises(InputError, match="needs a key"):
        Stratified().finalize(None, table([1.0, 2.0]), 1)
    with pytest.raises(InputError, match="class 0 has 2 candidates to choose from, but 3"):
        scores_kept([1.0, 2.0], 3)
