"""A rare class: which one sets the budget, and what is done about it."""

from dataclasses import replace

import numpy as np
import pytest

from infoutil_jax.app.budget import budget_of, shares
from infoutil_jax.app.config import RecipeConfig
from infoutil_jax.app.governance import audit
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
    assert budget_of(digits, 1, None, "refuse")[:3] == (digits, 10, "budget: 10 images a class")
    source, budget, text, _ = budget_of(rare, 1, None, "refuse")
    assert source is rare and budget == 3
    assert text == "budget: 3 images a class instead of 10, for class '5' has 3 training images"


def test_a_budget_that_is_asked_for_is_not_lowered_unasked(rare):
    with pytest.raises(InputError, match="class '5' has 3 training images, and 2 distilled images"):
        budget_of(rare, 4, 2, "refuse")
    assert budget_of(rare, 1, 5, "cap")[1] == 3
    assert budget_of(rare, 1, 2, "refuse")[1] == 2


def test_a_rare_class_is_filled_by_other_crops_of_its_images(rare, teachers, tmp_path):
    source, budget, text, _ = budget_of(rare, 1, 5, "fill")
    assert budget == 5 and text.endswith("other crops of the same images: 5")
    counts, before = (np.bincount(one.train.labels) for one in (source, rare))
    assert counts[5] == 5 and counts.sum() == before.sum() + 2
    assert source.fingerprint() != rare.fingerprint()
    distilled = distill(
        source,
        teachers["converged"],
        RecipeConfig("rded").build(source, None),
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


def test_a_total_is_shared_out_by_what_there_is():
    assert shares(np.array([10, 10, 10]), 30).tolist() == [10, 10, 10]
    assert shares(np.array([5, 5000]), 20).tolist() == [1, 19]
    assert shares(np.array([1, 1, 2]), 8).tolist() == [2, 2, 4]  # 1.25 each and 2.5, beside one
    found = shares(np.array([3, 143, 143, 140]), 41)
    assert found.sum() == 41 and found.min() == 1 and np.ptp(found[1:]) <= 1


@pytest.mark.parametrize(
    ("recipe", "policy", "total", "fives"),
    [("rded", "own", 48, 3), ("infoutil", "proportional", 50, 1)],
)
def test_classes_have_different_budgets(rare, teachers, tmp_path, recipe, policy, total, fives):
    """And what such a set says of itself is enough to make it again."""
    source, most, text, by_class = budget_of(rare, 1, 5, policy)
    assert (sum(by_class), by_class[5]) == (total, fives)
    assert most == max(by_class) and f"5 {by_class[5]}, " in text
    distilled = distill(
        source,
        teachers["converged"],
        RecipeConfig(recipe).build(source, None),
        images_per_class=most,
        workdir=tmp_path / "set",
        config=DistillConfig(pool=20, progress=False, by_class=by_class),
    )
    assert tuple(np.bincount(distilled.labels)) == by_class
    assert distilled.manifest["images_by_class"] == list(by_class)
    kept = [
        one for one, label in zip(distilled.records, distilled.labels, strict=True) if label == 5
    ]
    names = {one["tiles"][0]["source"] for one in kept}
    assert len(names) == by_class[5], "no image twice where there are others"
    assert [one["tiles"][0]["rank"] for one in kept] == list(range(by_class[5]))
    found = audit(tmp_path / "set", rare, teachers, config=DistillConfig(progress=False))
    assert found.passed, found


def test_the_first_in_rank_of_each_class_are_kept(digits, teachers, tmp_path):
    made = [
        distill(
            digits,
            teachers["converged"],
            RecipeConfig("rded").build(digits, None),
            images_per_class=4,
            workdir=tmp_path / name,
            config=DistillConfig(pool=10, progress=False, by_class=by_class),
        )
        for name, by_class in (("whole", None), ("part", (4, 1, 2, 3, 4, 4, 4, 4, 4, 4)))
    ]
    kept = np.concatenate([np.arange(n) + 4 * c for c, n in enumerate((4, 1, 2, 3, *[4] * 6))])
    np.testing.assert_array_equal(made[1].images, made[0].images[kept])
    np.testing.assert_array_equal(made[1].soft_labels, made[0].soft_labels[kept])
    for wrong in ((4,), (5,) * 10, (0,) * 10):
        with pytest.raises(InputError, match=r"a number from 1 to 4, .* each of 10 classes"):
            distill(
                digits,
                teachers["converged"],
                RecipeConfig("rded").build(digits, None),
                images_per_class=4,
                workdir=tmp_path / "wrong",
                config=DistillConfig(pool=10, progress=False, by_class=wrong),
            )
