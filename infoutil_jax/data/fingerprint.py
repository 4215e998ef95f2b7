"""What names a source, to the byte, wherever its folder lies. Host."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from infoutil_jax.data.split import Split

SIZE = 32
"""Bytes of a digest."""


def fingerprint_of(
    class_names: tuple[str, ...],
    train: Split,
    test: Split,
    digests: bytes,
    made: dict[str, Any],
    without: Sequence[int] = (),
) -> str:
    """Sha256 (hex) of classes, size, channels, and each example's split, id, label and bytes.

    Args:
        class_names: of the labels.
        train: the training images.
        test: the others.
        digests: sha256 of each image's encoded bytes, 32 bytes each, of train and then of test.
        made: what has changed images on the way: the range of values, the background.
        without: training images, by number, that are left out.
    """
    left_out, ids = set(without), train.ids + test.ids
    count = len(train) - len(left_out)
    head = [class_names, train.shape, count, len(test), *([made] if made else [])]
    whole = hashlib.sha256(json.dumps(head).encode())
    labels = np.concatenate([train.labels, test.labels]).tolist()
    for row, (name, label) in enumerate(zip(ids, labels, strict=True)):
        if row not in left_out:
            digest = digests[SIZE * row : SIZE * (row + 1)].hex()
            whole.update(json.dumps([name, label, digest]).encode())
    return whole.hexdigest()
