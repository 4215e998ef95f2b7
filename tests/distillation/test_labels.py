"""Soft labels that are stored: the teacher's preference for some classes is no knowledge."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoutil_jax.data.distilled import DistilledDataset, write_distilled
from infoutil_jax.distillation import DistillConfig, StreamConfig, distill
from infoutil_jax.distillation.labels import centred
from infoutil_jax.distillation.stream import Stream
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import infoutil, random, rded
from infoutil_jax.training.teacher import Teacher

BIAS = np.linspace(-6, 12, 10, dtype=np.float32)
QUIET = DistillConfig(pool=20, progress=False)


def drawn(seed, counts, tiles, classes):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    return rng.normal(0, 5, (len(labels), tiles, classes)).astype(np.float32), labels


def test_two_classes_by_hand():
    """A teacher that is surer of class 1: its mean is 3 there and -3 at class 0."""
    logits = np.array([[[3, -3]], [[-9, 9]]], np.float32)
    found, offsets = centred(logits, np.array([0, 1]))
    np.testing.assert_array_equal(found, [[[6, -6]], [[-6, 6]]])
    np.testing.assert_array_equal(offsets, [-3, 3])


@given(
    seed=st.integers(0, 10**6),
    counts=st.lists(st.integers(1, 4), min_size=2, max_size=5),
    tiles=st.sampled_from([1, 4]),
)
def test_every_class_has_as_much_on_the_mean_and_nothing_else_is_lost(seed, counts, tiles):
    """However many images each class has, it weighs as much as the others."""
    logits, labels = drawn(seed, counts, tiles, len(counts))
    found, offsets = centred(logits, labels)
    means = [found[labels == label].mean((0, 1)) for label in range(len(counts))]
    np.testing.assert_allclose(np.mean(means, axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(found + offsets, logits, atol=1e-5)


@given(seed=st.integers(0, 10**6), bias=st.lists(st.floats(-20, 20), min_size=3, max_size=3))
def test_a_preference_of_the_teacher_changes_nothing(seed, bias):
    logits, labels = drawn(seed, [2, 1, 3], 4, 3)
    found, offsets = centred(logits, labels)
    again, others = centred(logits + np.float32(bias), labels)
    np.testing.assert_allclose(again, found, atol=1e-4)
    np.testing.assert_allclose(others - offsets, bias, atol=1e-4)


def biased(teacher):
    """The teacher, who likes later digits better."""

    def predict(variables, images):
        return teacher.predict(variables, images) + BIAS

    return replace(teacher, predict=predict, version="biased 1", architecture=None)


@pytest.fixture(scope="module")
def made(digits, teachers, tmp_path_factory):
    """Sets of the same crops: of a teacher and of a biased one, centred and not."""
    folder, teacher = tmp_path_factory.mktemp("centred"), teachers["converged"]
    options = {"images_per_class": 2, "config": QUIET}
    return {
        (which, recipe.centred): distill(
            digits,
            labeller,
            recipe,
            workdir=folder / f"{which} {recipe.centred}",
            **options,
        )
        for which, labeller in (("fair", teacher), ("biased", biased(teacher)))
        for recipe in (random(), replace(random(), centred=True))
    }


def test_a_set_of_a_biased_teacher_has_the_labels_of_a_fair_one(made):
    fair, wrong = made["fair", True], made["biased", True]
    np.testing.assert_array_equal(fair.images, wrong.images)
    np.testing.assert_allclose(fair.soft_labels, wrong.soft_labels, atol=1e-4)
    plain = [made[which, False].soft_labels for which in ("fair", "biased")]
    np.testing.assert_allclose(
        plain[1] - plain[0], np.broadcast_to(BIAS, plain[0].shape), atol=1e-4
    )


def test_the_set_says_what_was_taken_and_the_teachers_words_can_be_had_back(made):
    for which in ("fair", "biased"):
        plain, own = made[which, False], made[which, True]
        np.testing.assert_allclose(own.teacher_logits, plain.soft_labels, atol=1e-4)
        np.testing.assert_array_equal(plain.teacher_logits, plain.soft_labels)
        np.testing.assert_allclose(own.soft_labels.mean((0, 1)), 0, atol=1e-5)
        assert "label_offsets" not in plain.manifest
        assert len(own.manifest["label_offsets"]) == 10 and own.manifest["recipe"]["centred"]
        said = [(one.path / "README.md").read_text() for one in (plain, own)]
        assert ["less the mean of each class" in text for text in said] == [False, True]
        again = DistilledDataset.load(own.path)
        np.testing.assert_array_equal(again.teacher_logits, own.teacher_logits)


@pytest.mark.parametrize("learnt", [False, True])
def test_a_refiner_is_given_what_the_teacher_said_and_what_it_learns_stays(
    digits, teachers, made, tmp_path, learnt
):
    given = []

    def refine(key, teacher, images, soft_labels, pool):
        given.append(soft_labels.copy())
        soft_labels += np.float32(learnt)  # in place
        return images, soft_labels

    recipe = replace(random(), centred=True, refine=refine)
    options = {"images_per_class": 2, "config": QUIET, "workdir": tmp_path / "set"}
    found = distill(digits, teachers["converged"], recipe, **options)
    plain = made["fair", False].soft_labels
    np.testing.assert_array_equal(given[0], plain)
    assert ("label_offsets" in found.manifest) == (not learnt)
    wanted = plain + 1 if learnt else made["fair", True].soft_labels
    np.testing.assert_array_equal(found.soft_labels, wanted)


def test_a_logit_that_is_not_finite_is_told():
    logits, labels = drawn(0, [2, 2], 4, 2)
    logits[2, 1, 0] = np.inf
    with pytest.raises(InputError, match="class 0 at tile 1 of image 2 of the set is inf"):
        centred(logits, labels)


def test_the_recommended_recipe_centres_and_published_ones_do_not():
    assert infoutil().centred and not infoutil(centred=False).centred
    assert not random().centred and not rded().centred


def linear(weights, images):
    return images.reshape(len(images), -1) @ weights


def test_a_stream_centres_and_asks_of_students_what_its_recipe_asks(digits, tmp_path):
    weights = np.random.default_rng(0).normal(0, 1, (64, 10)).astype(np.float32)
    names = tuple("0123456789")
    teacher = Teacher(linear, weights, mean=0.3, std=0.35, class_names=names)
    recipe = replace(random(tiles=4), partition=True, centred=True)
    options = {"images_per_class": 1, "config": StreamConfig(batch_size=16)}
    stream = Stream.open(tmp_path / "stream", teacher, recipe, **options)
    images, labels = digits.train.arrays()
    found = stream.update(images[:120], labels[:120], digits.train.ids[:120]).distilled
    assert found.manifest["training"]["partition"]
    np.testing.assert_allclose(found.soft_labels.mean((0, 1)), 0, atol=1e-5)
    assert np.abs(found.manifest["label_offsets"]).max() > 0.01


def test_offsets_of_other_classes_are_told(made, tmp_path):
    one = made["fair", True]
    offsets = one.manifest["label_offsets"]
    kept = {name: one.manifest[name] for name in ("normalisation", "training")}
    for wrong, message in (
        (offsets[:9], "has 9 label_offsets for 10 class_names"),
        ("none", "has label_offsets 'none'; it should be a list of numbers"),
        ([*offsets[:9], 1e39], "it should be a list of numbers below 1e"),
        ([*offsets[:9], 10**400], "it should be a list of numbers below 1e"),
    ):
        with pytest.raises(InputError, match=message):
            write_distilled(
                tmp_path / "set",
                images=one.images,
                labels=one.labels,
                soft_labels=one.soft_labels,
                class_names=one.class_names,
                records=one.records,
                manifest=kept | {"label_offsets": wrong},
            )
        assert not (tmp_path / "set").exists()
