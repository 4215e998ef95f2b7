"""A rare class: which one sets the budget, and what is done about it."""

from dataclasses import replace

import numpy as np
import pytest

from infoutil_jax.app.budget import budget_of
from infoutil_jax.app.config import RecipeConfig
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.distillation import DistillConfig, distill
from infoutil_jax.errors import InputError


@pytest.fixture(scope="module")
def rare(digits):
    """The digits with three fives only."""
    fives = np.flatnonzero(digits.train.labels == 5)
    kept = np.setdiff1d(np.arange(len(digits.train)), fives[3:])
    return replace(digits, train=digits.train.take(kept))


def test_without_a_wish_the_rarest_class_sets_the_budget(digits, rare):
    assert budget_of(digits, 1, None, "refuse") == (digits, 10, "budget: 10 images a class")
    source, budget, text = budget_of(rare, 1, None, "refuse")
    assert source is rare and budget == 3
    assert text == "budget: 3 images a class instead of 10, for class '5' has 3 training images"


def test_a_budget_that_is_asked_for_is_not_lowered_unasked(rare):
    with pytest.raises(InputError, match="class '5' has 3 training images, and 2 distilled images"):
        budget_of(rare, 4, 2, "refuse")
    assert budget_of(rare, 1, 5, "cap")[1] == 3
    assert budget_of(rare, 1, 2, "refuse")[1] == 2


def test_a_rare_class_is_filled_by_other_crops_of_its_images(rare, teachers, tmp_path):
    source, budget, text = budget_of(rare, 1, 5, "fill")
    assert budget == 5 and text.endswith("other crops of the same images: 5")
    counts, before = (np.bincount(one.train.labels) for one in (source, rare))
    assert counts[5] == 5 and counts.sum() == before.sum() + 2
    assert source.fingerprint() != rare.fingerprint()
    distilled = distill(
        source,
        teachers["converged"],
        RecipeConfig("rded").build(source),
        images_per_class=budget,
        workdir=tmp_path / "set",
        config=DistillConfig(progress=False),
    )
    assert isinstance(distilled, DistilledDataset)
    rows = np.flatnonzero(distilled.labels == 5)
    origins = {distilled.records[row]["tiles"][0]["source"] for row in rows}
    assert len(origins) == 3, "of three images"
    assert len(np.unique(distilled.images[rows], axis=0)) > 3, "but other crops of them"
    assert distilled.manifest["source"]["filled_classes"] == {"5": 3}
