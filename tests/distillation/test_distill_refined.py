"""A recipe's fifth part: what is written, what the records say, and that a stop costs nothing."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from infoutil_jax import progress
from infoutil_jax.data.siamese import PLAIN
from infoutil_jax.distillation import (
    DistillConfig,
    distill,
    distill_pool,
    score_pool,
    started_from,
)
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import random
from infoutil_jax.refine import NeuralFeatureRegression, Refiner, infoutil_refined
from infoutil_jax.training.config import BackboneConfig

CONFIG = DistillConfig(pool=20, progress=False)
REFINER = Refiner(
    NeuralFeatureRegression(networks=2, greatest_age=5),
    steps=6,
    chunk=2,
    batch_size=16,
    labels="learnt",
    temperature=2.0,
    view=PLAIN,
    network=BackboneConfig(width=4),
)
RECIPE = replace(random(), name="refined", refine=REFINER)


@pytest.fixture(scope="module")
def teacher(teachers):
    return teachers["converged"]


@pytest.fixture(scope="module")
def plain(digits, teacher, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("plain") / "set"
    return distill(digits, teacher, random(), images_per_class=2, workdir=workdir, config=CONFIG)


@pytest.fixture(scope="module")
def made(digits, teacher, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("made") / "set"
    return distill(digits, teacher, RECIPE, images_per_class=2, workdir=workdir, config=CONFIG)


def test_a_refined_set_is_a_set(made, plain):
    made.verify()
    assert made.images.shape == plain.images.shape and (made.images != plain.images).any()
    assert (made.soft_labels != plain.soft_labels).any()
    assert not list(made.path.parent.glob("*.refining"))


def test_the_manifest_says_how_it_was_refined(made):
    described = made.manifest["recipe"]["refine"]
    assert described["function"] == "Refiner" and described["steps"] == 6
    assert described["objective"] == {
        "kind": "NeuralFeatureRegression",
        "networks": 2,
        "greatest_age": 5,
        "ridge": 0.01,
        "learning_rate": 0.001,
        "mirrored": True,
        "error": "scaled",
        "batch_size": 100,
        "normalised_by": "set",
    }
    assert made.manifest["training"]["temperature"] == 2.0
    card = (made.path / "README.md").read_text()
    assert "softmax(logits / 2)" in card
    assert "logits that were learnt with the pixels" in card and "logits of the teacher" not in card
    assert "nobody's opinion" in card


def test_every_record_says_how_far_it_went_from_which_crops(made, plain, digits):
    change = made.images.astype(float) - plain.images
    for record, start, moved in zip(made.records, plain.records, change, strict=True):
        assert record["tiles"] == start["tiles"]
        assert record["refined"]["rms"] == pytest.approx(np.sqrt((moved**2).mean()), abs=1e-3)
        assert record["refined"]["most"] == np.abs(moved).max()
    np.testing.assert_array_equal(started_from(made, digits), plain.images)


class Stop(Exception):
    """In the place of a kill."""


def test_a_stopped_run_goes_on_to_the_same_set(made, digits, teacher, tmp_path, monkeypatch):
    update = progress.Bar.update

    def stopping(bar, count=1, **figures):
        update(bar, count, **figures)
        if bar.stage == "refining" and bar.done >= 4:
            raise Stop

    arguments = {"images_per_class": 2, "workdir": tmp_path / "set", "config": CONFIG}
    with monkeypatch.context() as patched:
        patched.setattr(progress.Bar, "update", stopping)
        with pytest.raises(Stop):
            distill(digits, teacher, RECIPE, **arguments)
    assert (tmp_path / "set.refining").is_dir() and not (tmp_path / "set").exists()
    again = distill(digits, teacher, RECIPE, **arguments)
    assert again.manifest["sha256"] == made.manifest["sha256"]
    assert not (tmp_path / "set.refining").exists()


@dataclass(frozen=True)
class Mine:
    """A user's own: the negative, or something wrong."""

    wrong: str = ""

    def __call__(self, key, teacher, images, soft_labels, pool):
        assert len(pool.labels) > 1000 and pool.images.shape[1:] == (8, 8, 1)
        assert not pool.flip  # digits
        if self.wrong == "images":
            return images / 255, soft_labels
        if self.wrong == "logits":
            return images, np.full_like(soft_labels, np.nan)
        return 255 - images, soft_labels


def test_a_function_of_ones_own_refines(plain, digits, teacher, tmp_path):
    mine = replace(random(), refine=Mine())
    found = distill(
        digits, teacher, mine, images_per_class=2, workdir=tmp_path / "set", config=CONFIG
    )
    np.testing.assert_array_equal(found.images, 255 - plain.images)
    np.testing.assert_array_equal(found.soft_labels, plain.soft_labels)
    assert found.manifest["training"]["temperature"] == 20


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("images", r"returned images float64 \[20, 8, 8, 1\]; they must be uint8 \[20, 8, 8, 1\]"),
        ("logits", "returned logits that are NaN or infinite"),
    ],
)
def test_refuses_what_is_no_set(wrong, said, digits, teacher, tmp_path):
    mine = replace(random(), refine=Mine(wrong))
    with pytest.raises(InputError, match=said):
        distill(digits, teacher, mine, images_per_class=2, workdir=tmp_path / "set", config=CONFIG)
    assert not (tmp_path / "set").exists()


def test_infoutil_refined_is_infoutils_choice_refined():
    recipe = infoutil_refined(tiles=4)
    assert recipe.name == "infoutil_refined" and recipe.tiles == 4
    assert recipe.refine is not None and recipe.select.shortlist > 0


def test_classes_of_unequal_numbers_are_refused_before_anything_is_scored(
    digits, teacher, tmp_path
):
    """A refiner takes the images for as many of each class."""
    by_class = (2, 2, *[1] * 6, 2, 2)
    with pytest.raises(InputError, match="'refined' refines as many images of each class"):
        distill(
            digits,
            teacher,
            RECIPE,
            images_per_class=2,
            workdir=tmp_path / "set",
            config=replace(CONFIG, by_class=by_class),
        )
    assert not list(tmp_path.iterdir())


def test_a_set_of_a_shared_pool_leaves_no_state_behind(digits, teacher, made, tmp_path):
    scored = score_pool(digits, teacher, RECIPE, config=CONFIG)
    found = distill_pool(scored, images_per_class=2, workdir=tmp_path / "set")
    assert found.digest == made.digest
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["set"]
