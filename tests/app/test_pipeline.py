"""Defaults by the source, and the steps from raw images to accuracies."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from infoutil_jax.app.accounts import (
    account_of,
    labels_in_words,
    own_class_share,
    protocol_in_words,
)
from infoutil_jax.app.config import RecipeConfig, RunConfig, Stages
from infoutil_jax.app.pipeline import choose_teacher, run
from infoutil_jax.app.students import summarise, train_students, train_students_on_everything
from infoutil_jax.data.sources import open_source
from infoutil_jax.distillation import DistillConfig, distill
from infoutil_jax.errors import InputError
from infoutil_jax.training.config import StudentConfig


@pytest.fixture(scope="module")
def distilled(digits, teachers, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("pipeline") / "set"
    recipe = RecipeConfig("random").build(digits, None)
    config = DistillConfig(progress=False)
    return distill(
        digits, teachers["converged"], recipe, images_per_class=2, workdir=workdir, config=config
    )


def test_the_label_teacher_is_early_up_to_ten_images_a_class(teachers):
    stages = {budget: choose_teacher(teachers, "auto", budget).stage for budget in (1, 10, 11, 50)}
    assert stages == {1: "early", 10: "early", 11: "converged", 50: "converged"}
    assert choose_teacher(teachers, "early", 50).stage == "early"


@pytest.mark.parametrize(
    ("early", "converged", "stage"),
    [(51.0, 99.0, "converged"), (54.0, 99.0, "converged"), (55.0, 99.0, "early")],
)
def test_an_early_teacher_labels_if_it_knows_half_as_much(teachers, early, converged, stage):
    """Of ten classes chance is 10%: the early one needs 10 + (99 - 10) / 2."""
    known = {"early": early, "converged": converged}
    asked = {name: replace(teachers[name], known=known[name]) for name in known}
    assert choose_teacher(asked, "auto", 10).stage == stage
    assert choose_teacher(asked, "early", 10).stage == "early"


def test_what_teachers_know_is_measured_on_training_images(teachers):
    assert 10 < teachers["early"].known <= teachers["converged"].known <= 100


def test_a_teacher_near_chance_is_told(teachers, digits):
    majority = 100 * np.bincount(digits.test.labels).max() / len(digits.test)
    good = account_of(teachers, teachers["converged"], digits)
    assert f"largest class is {majority:.1f}%" in good[0] and "near chance" not in good[0]
    assert good[1]["majority"] == pytest.approx(majority)
    lost = replace(teachers["early"], accuracy=majority + 5)
    text, _ = account_of({**teachers, "early": lost}, lost, digits)
    assert "the early one labels" in text and "near chance" in text


def test_crops_of_which_the_label_is_their_class_are_counted(distilled):
    right = (distilled.soft_labels.argmax(-1)[:, 0] == distilled.labels).mean()
    assert own_class_share(distilled) == pytest.approx(100 * right)


def test_classes_that_the_teacher_never_names_are_told(distilled):
    """Of logits that are one at a class and zero elsewhere: negated, it is never the largest."""
    count = len(distilled.class_names)
    right = np.eye(count, dtype=np.float32)[distilled.labels][:, None]
    assert labels_in_words(replace(distilled, soft_labels=right)).endswith("100.0% of 20 crops")
    wrong = right.copy()
    wrong[distilled.labels == 3] *= -1
    said = labels_in_words(replace(distilled, soft_labels=wrong))
    assert f"every crop of {distilled.class_names[3]} for another class" in said
    assert "90.0% of 20 crops" in said
    said = labels_in_words(replace(distilled, soft_labels=-right))
    assert "0.0% of 20 crops" in said and "4 and 5 more for another class" in said


def test_labels_that_were_learnt_are_not_called_the_teachers(distilled):
    recipe = {**distilled.manifest["recipe"], "refine": {"labels": "learnt"}}
    learnt = replace(distilled, manifest={**distilled.manifest, "recipe": recipe})
    learnt = replace(learnt, soft_labels=-np.abs(distilled.soft_labels))
    said = labels_in_words(learnt)
    assert said.startswith("the labels were learnt with the pixels") and "teacher" not in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, ""),
        ({"labels": "online", "cutmix": True}, ""),
        ({"labels": "hard"}, "students learn classes alone"),
        ({"cutmix": False}, "students see no mixed images"),
        (
            {"labels": "stored", "cutmix": False},
            "students learn stored labels and see no mixed images",
        ),
    ],
)
def test_it_is_said_how_students_learn_where_it_is_another_way(given, said):
    assert protocol_in_words(StudentConfig(**given)) == said


def test_without_an_early_teacher_the_converged_one_labels(teachers):
    alone = {"converged": teachers["converged"]}
    assert choose_teacher(alone, "auto", 1).stage == "converged"
    with pytest.raises(InputError, match="there is no early teacher, only converged"):
        choose_teacher(alone, "early", 1)


@pytest.mark.parametrize("labels", ["online", "stored", "hard"])
def test_a_student_learns_from_a_distilled_set(distilled, digits, teachers, labels):
    options = StudentConfig(width=16, epochs=60, seeds=(0, 1), labels=labels)
    result = summarise(
        train_students(distilled, digits, teachers["converged"], options, progress=False)
    )
    assert len(result["top1"]) == len(result["ece"]) == 2
    assert result["top1_mean"] == pytest.approx(np.mean(result["top1"]))
    assert result["top1_mean"] > 25  # chance is 10


def test_views_come_to_a_teacher_as_it_is_used_to_them(distilled, digits, teachers):
    """Of another mean and deviation than the one that labelled the set."""
    other = replace(teachers["converged"], mean=(0.3,), std=(0.5,))
    options = StudentConfig(labels="online", width=8, epochs=3, seeds=(0,))
    result = train_students(distilled, digits, other, options, progress=False)
    images, labels = digits.test.arrays()
    variables = jax.tree.map(lambda leaf: leaf[0], result.variables)
    logits = result.predict(variables, (images / np.float32(255) - np.float32(0.3)) / 0.5)
    right = (np.asarray(logits).argmax(-1) == labels).mean()
    assert result.top1[0] == pytest.approx(100 * right, abs=0.5)


def test_tiles_that_do_not_fit_are_told_before_any_work(digits, tmp_path):
    odd = replace(digits, image_size=(75, 75))
    with pytest.raises(InputError, match="75×75 pixels cannot be cut into 4 equal tiles"):
        run(odd, tmp_path / "run", RunConfig(recipe=RecipeConfig("random", tiles=4)))
    assert not (tmp_path / "run").exists()


def test_a_run_with_a_scoring_stage_finds_its_set_again(digits, teachers, tmp_path, monkeypatch):
    def stopped(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("infoutil_jax.app.pipeline.train_teachers", lambda *a, **options: teachers)
    monkeypatch.setattr("infoutil_jax.app.pipeline.train_students", stopped)
    few = open_source("digits", max_per_class=5)
    recipe = RecipeConfig("infoutil_kernel", num_crops=1)
    config = RunConfig(2, recipe=recipe, baseline=False, stages=Stages("converged"))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(few, tmp_path / "run", config, progress=False)


def test_a_student_of_some_classes_is_tested_on_these(distilled, digits):
    options = StudentConfig(width=16, epochs=60, seeds=(0,), labels="hard")
    result = train_students(distilled, digits, None, options, classes=(3, 7), progress=False)
    images, labels = digits.test.arrays()
    tested = np.isin(labels, (3, 7))
    variables = jax.tree.map(lambda leaf: leaf[0], result.variables)
    mean, std = (distilled.manifest["label_teacher"][key] for key in ("mean", "std"))
    logits = result.predict(variables, (images[tested] / 255 - mean) / np.array(std))
    right = (np.asarray(logits).argmax(-1) == labels[tested]).mean()
    assert result.top1[0] == pytest.approx(100 * right, abs=1e-3) and right > 0.7  # chance: 0.5
    assert (np.asarray(logits).argmax(-1)[:, None] == (3, 7)).any(1).all()
    with pytest.raises(InputError, match="class 10 is not there: digits has 10 classes"):
        train_students(distilled, digits, None, options, classes=(3, 10))


def test_training_on_everything_is_the_ceiling(digits):
    options = StudentConfig(width=16, epochs=5, seeds=(0,), labels="online")
    result = summarise(train_students_on_everything(digits, options, progress=False))
    assert result["top1_mean"] > 50  # five epochs; chance is 10
    assert result["top1_std"] is None


def test_set_and_source_must_have_the_same_classes(distilled, digits):
    other = replace(digits, class_names=tuple("abcdefghij"))
    with pytest.raises(InputError, match="classes 0, 1"):
        train_students(distilled, other, None)


def test_fewer_images_a_class_can_be_opened():
    few = open_source("digits", max_per_class=7)
    assert np.bincount(few.train.labels).tolist() == [7] * 10
