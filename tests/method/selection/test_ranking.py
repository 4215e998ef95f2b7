"""What a random selection draws, and what drawing costs."""

import jax
import numpy as np

from infoutil_jax.method.selection import Candidates, ranking

KEY = jax.random.key(0)


def rows(count):
    return Candidates(
        ids=np.arange(count),
        crops=np.zeros(count, np.int32),
        labels=np.zeros(count, np.int32),
        scores=np.zeros(count, np.float32),
        features={},
    )


def test_tables_of_many_lengths_share_a_few_compiled_programs():
    """One for each power of two: a stream's tables grow row by row."""
    ranking._chances.clear_cache()
    for count in range(17):
        example, ids, crop = ranking.by_chance(KEY, rows(count))
        assert len(example) == len(ids) == len(crop) == count
    assert ranking._chances._cache_size() == 5  # of 1, 2, 4, 8 and 16 rows
