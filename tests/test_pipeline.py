"""Defaults by the source, and the steps from raw images to accuracies."""

from dataclasses import replace

import numpy as np
import pytest

from infoutil_jax.data.sources import open_source
from infoutil_jax.distill import distill
from infoutil_jax.errors import InputError
from infoutil_jax.pipeline import (
    BackboneOptions,
    RecipeOptions,
    StudentOptions,
    TeacherOptions,
    pick,
    scores,
    study,
    study_everything,
)


@pytest.fixture(scope="module")
def distilled(digits, teachers, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("pipeline") / "set"
    recipe = RecipeOptions("random").build(digits)
    return distill(
        digits, teachers["converged"], recipe, images_per_class=2, workdir=workdir, progress=False
    )


@pytest.mark.parametrize(
    ("size", "backbone"), [(32, "convnet3"), (64, "convnet4"), (128, "convnet5"), (224, "convnet6")]
)
def test_the_backbone_follows_the_image_size(digits, size, backbone):
    """RDED's table: ConvNet-3 at 32 pixels, -4 at 64, -5 at 128; -6 above."""
    source = replace(digits, image_size=(size, size))
    assert BackboneOptions().resolve(source).backbone == backbone
    assert BackboneOptions(backbone="convnet3").resolve(source).backbone == "convnet3"


@pytest.mark.parametrize(
    ("spec", "flip"), [("digits", False), ("tfds:mnist", False), ("folder:cats", True)]
)
def test_digits_are_never_mirrored(digits, spec, flip):
    source = replace(digits, spec=spec)
    assert BackboneOptions().resolve(source).flip is flip
    assert BackboneOptions(flip=True).resolve(source).flip is True


@pytest.mark.parametrize(("size", "rate"), [(32, 0.001), (64, 0.01)])
def test_the_early_teachers_rate_is_the_papers(digits, size, rate):
    resolved = TeacherOptions().resolve(replace(digits, image_size=(size, size)))
    assert resolved.early_learning_rate == rate
    assert resolved.early_epochs == 10
    assert 10 <= resolved.epochs <= 100


@pytest.mark.parametrize(("size", "tiles"), [(32, 1), (64, 1), (128, 4), (224, 4)])
def test_tiles_follow_the_image_size(digits, size, tiles):
    source = replace(digits, image_size=(size, size))
    assert RecipeOptions("rded").build(source).tiles == tiles
    assert RecipeOptions("rded", tiles=9).build(source).tiles == 9


def test_the_label_teacher_is_early_up_to_ten_images_a_class(teachers):
    stages = {budget: pick(teachers, "auto", budget).stage for budget in (1, 10, 11, 50)}
    assert stages == {1: "early", 10: "early", 11: "converged", 50: "converged"}
    assert pick(teachers, "early", 50).stage == "early"


@pytest.mark.parametrize("labels", ["online", "stored", "hard"])
def test_a_student_learns_from_a_distilled_set(distilled, digits, teachers, labels):
    options = StudentOptions(width=16, epochs=60, seeds=(0, 1), labels=labels)
    result = scores(study(distilled, digits, teachers["converged"], options, progress=False))
    assert len(result["top1"]) == len(result["ece"]) == 2
    assert result["top1_mean"] == pytest.approx(np.mean(result["top1"]))
    assert result["top1_mean"] > 25  # chance is 10


def test_training_on_everything_is_the_ceiling(digits):
    options = StudentOptions(width=16, epochs=5, seeds=(0,), labels="online")
    result = scores(study_everything(digits, options, progress=False))
    assert result["top1_mean"] > 50  # five epochs; chance is 10
    assert result["top1_std"] is None


def test_set_and_source_must_have_the_same_classes(distilled, digits):
    other = replace(digits, class_names=tuple("abcdefghij"))
    with pytest.raises(InputError, match="classes 0, 1"):
        study(distilled, other, None)


def test_unknown_recipes_and_foreign_options_are_named(digits):
    with pytest.raises(InputError, match="infoutil, infoutil_paper, rded, random"):
        RecipeOptions("dream").build(digits)
    with pytest.raises(InputError, match=r"rded.*--alpha, --cap"):
        RecipeOptions("rded", alpha=1.0, cap=0.9).build(digits)


def test_fewer_images_a_class_can_be_opened():
    few = open_source("digits", max_per_class=7)
    assert np.bincount(few.train.labels).tolist() == [7] * 10
