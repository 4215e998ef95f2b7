"""Coresets of the most forgotten images."""

import json

import numpy as np
import pytest

from infoutil_jax.data.sources import open_source
from infoutil_jax.distillation import DistillConfig, distill
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import forgetting
from infoutil_jax.training.forgetting import load_forgetting


def test_a_coreset_of_the_most_forgotten(digits, teachers, teacher_dir, tmp_path):
    events = load_forgetting(teacher_dir)
    assert len(events) == len(digits.train)
    made = distill(
        digits,
        teachers["converged"],
        forgetting(events),
        images_per_class=2,
        workdir=tmp_path / "set",
        config=DistillConfig(pool=None, progress=False),
    )
    for label in range(10):
        of_class = np.flatnonzero(digits.train.labels == label)
        best = of_class[np.lexsort((of_class, -events[of_class]))][:2]
        tiles = [made.records[i]["tiles"][0] for i in np.flatnonzero(made.labels == label)]
        assert [tile["example"] for tile in tiles] == best.tolist()
        assert [tile["score"] for tile in tiles] == events[best].tolist()
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert manifest["recipe"]["select"]["values"]["shape"] == [len(events)]


def test_events_of_other_images_are_told(teachers, tmp_path):
    with pytest.raises(InputError, match=r"values has 7 entries, but there is an example with id"):
        distill(
            open_source("digits"),
            teachers["converged"],
            forgetting(np.zeros(7)),
            images_per_class=1,
            workdir=tmp_path / "set",
            config=DistillConfig(pool=3, progress=False),
        )
    assert not (tmp_path / "set").exists()
