"""The set that is attacked."""

from pathlib import Path
from typing import Any

import numpy as np

from infoutil_jax.data.distilled import DistilledDataset, write_distilled

CLASSES, SIDE, TILES = ("ant", "bee", "<i>moth</i>"), 4, 2
_TILE = {"source": "a/1.png", "example": 1, "crop": 0, "box": [0, 0, 4, 4], "map": [[1.0]]}
_TEACHER = {"name": "user", "stage": "early", "digest": "0" * 64, "mean": [0.5], "std": [0.5]}
CONTENT: dict[str, Any] = {
    "images": np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE, 3)).astype(np.uint8),
    "labels": np.repeat(np.arange(3, dtype=np.int32), 2),
    "soft_labels": np.random.default_rng(1).normal(size=(6, TILES, 3)).astype(np.float32),
    "class_names": CLASSES,
    "records": [{"tiles": [{**_TILE, "score": 0.5, "rank": i}] * TILES} for i in range(6)],
    "manifest": {
        "images_per_class": 2,
        "teacher": _TEACHER,
        "label_teacher": _TEACHER,
        "source": {"name": "ants", "fingerprint": "0" * 64},
        "recipe": {"name": "random"},
    },
}
"""Six images of noise, as infoutil would have distilled them."""


def small_set(path: Path) -> DistilledDataset:
    """Writes the six images."""
    return write_distilled(path, **CONTENT)


def rewritten(path: Path, again: bool) -> DistilledDataset:
    """Writes the six images, or their negatives over what is there."""
    images = 255 - CONTENT["images"] if again else CONTENT["images"]
    return write_distilled(path, **CONTENT | {"images": images}, overwrite=again)
