"""What a random selection draws, and what drawing costs."""

import jax
import numpy as np

from infoutil_jax.method.selection import Candidates, RandomK, concatenate, ranking

KEY = jax.random.key(0)


def rows(count):
    return Candidates(
        ids=np.arange(count),
        crops=np.zeros(count, np.int32),
        labels=np.zeros(count, np.int32),
        scores=np.zeros(count, np.float32),
        features={},
    )


def test_examples_and_then_their_crops_rank_by_draws_of_their_own_the_highest_first():
    """`uniform(fold_in(key, id))`, as documented: a published set can be drawn anew."""

    def draws(key, numbers):
        keys = [jax.random.fold_in(key, number) for number in numbers]
        return [float(jax.random.uniform(one)) for one in keys], keys

    table = concatenate(rows(6), rows(6)._replace(crops=np.ones(6, np.int32)))
    kept = RandomK().finalize(KEY, table, 6)
    drawn, keys = draws(KEY, range(6))
    assert kept.ids.tolist() == np.argsort(drawn)[::-1].tolist()
    for number, crop in zip(kept.ids, kept.crops, strict=True):
        assert crop == np.argmax(draws(keys[number], range(2))[0])


def test_tables_of_many_lengths_share_a_few_compiled_programs():
    """One for each power of two: a stream's tables grow row by row."""
    ranking._chances.clear_cache()
    for count in range(17):
        example, ids, crop = ranking.by_chance(KEY, rows(count))
        assert len(example) == len(ids) == len(crop) == count
    assert ranking._chances._cache_size() == 5  # of 1, 2, 4, 8 and 16 rows
