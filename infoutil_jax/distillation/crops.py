"""Crops are cut from their source again: of its pixels, tables and records hold none (host)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int, UInt8

from infoutil_jax.blocks import padded
from infoutil_jax.data.sources import Source
from infoutil_jax.distillation.config import DistillConfig
from infoutil_jax.image.resampling import extract


def read_crops(
    source: Source,
    ids: Int[np.ndarray, " rows"],
    boxes: Int[np.ndarray, "rows 4"],
    size: tuple[int, int],
    batch_size: int = DistillConfig.batch_size,
) -> UInt8[np.ndarray, "rows height width channels"]:
    """Reads the pixels of crops, in the order given.

    Args:
        source: of the images.
        ids: of each crop, its training example.
        boxes: (top, left, height, width) in pixels.
        size: height and width of the result.
        batch_size: images in memory at once.
    """
    order = np.argsort(ids, kind="stable")
    crops = np.empty((len(order), *size, source.channels), np.uint8)
    start = 0
    for some, images in source.train.batches(ids[order], batch_size):
        rows = order[start : start + len(some)]
        cut = extract(padded(images, batch_size), padded(boxes[rows][:, None], batch_size), size)
        crops[rows] = cut[: len(some), 0]
        start += len(some)
    return crops
