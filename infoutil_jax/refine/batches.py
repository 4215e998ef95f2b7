"""Batches of the pool: which rows each step sees, and their pixels (NumPy on the host)."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Array, Int, Key

from infoutil_jax.method.contracts import Pool


def drawn(
    key: Key[Array, ""],
    labels: Int[np.ndarray, " n"],
    batch_size: int,
    first: int,
    stop: int,
    count: int,
) -> Int[np.ndarray, "count batch"]:
    """Rows of the pool for steps `first` to `stop`: each epoch sees every row at most once.

    Rows of a class are spread evenly over an epoch, so that every batch has its share of each.

    Args:
        key: of the run.
        labels: class of each row.
        batch_size: rows of a step, at most all.
        first: step.
        stop: step after the last.
        count: rows of the result; those that are not asked for are the first again.
    """
    size = min(batch_size, len(labels))
    steps = len(labels) // size
    words = np.asarray(jax.random.key_data(key)).ravel().tolist()
    rows: dict[int, np.ndarray] = {}
    for epoch in range(first // steps, (stop - 1) // steps + 1):
        chance = np.random.default_rng([*words, epoch])
        shuffled = chance.permutation(len(labels))
        order = np.argsort(labels[shuffled], kind="stable")
        ranks = np.empty(len(labels), np.int64)
        counts = np.bincount(labels)
        ranks[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
        # A class's k-th row comes when k rows' share of the epoch is over, give or take.
        place = (ranks + chance.random(len(labels))) / counts[labels[shuffled]]
        rows[epoch] = shuffled[np.argsort(place, kind="stable")]
    steps_of = [(step // steps, step % steps) for step in range(first, stop)]
    some = np.stack([rows[epoch][at * size : (at + 1) * size] for epoch, at in steps_of])
    return np.concatenate([some, np.repeat(some[:1], count - len(some), 0)])


def gathered(
    pool: Pool, rows: Int[np.ndarray, "steps batch"], mirror: Key[Array, ""] | None, first: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and classes of the rows.

    Args:
        pool: real images.
        rows: of each step.
        mirror: draws which images are mirrored, half of each step's on the mean; None: none.
        first: the step whose rows are the first.
    """
    unique, inverse = np.unique(rows, return_inverse=True)
    pixels = np.asarray(pool.images[unique])[inverse.reshape(rows.shape)]
    if mirror is not None:
        words = np.asarray(jax.random.key_data(mirror)).ravel().tolist()
        for at, images in enumerate(pixels):
            turned = np.random.default_rng([*words, first + at, 1]).random(len(images)) < 0.5
            images[turned] = images[turned, :, ::-1]
    return pixels, pool.labels[rows]
