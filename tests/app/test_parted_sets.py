"""A refined set whose tiles are images of their own: what students are told of it."""

from dataclasses import replace

import numpy as np
import pytest

from infoutil_jax.app.report import report
from infoutil_jax.app.sets import found_or_distilled
from infoutil_jax.app.students import train_students
from infoutil_jax.data.siamese import PLAIN
from infoutil_jax.distillation import DistillConfig, distill
from infoutil_jax.distillation.refining import asked_of_students
from infoutil_jax.method.recipes import infoutil, random
from infoutil_jax.refine import NeuralFeatureRegression, Refiner
from infoutil_jax.training.config import BackboneConfig, StudentConfig

PARTED = Refiner(
    NeuralFeatureRegression(networks=2, greatest_age=5),
    steps=4,
    batch_size=16,
    labels="learnt",
    view=PLAIN,
    network=BackboneConfig(width=4),
    partition=True,
)


def test_what_is_asked_of_students():
    recipe = replace(random(tiles=4), refine=PARTED)
    asked = asked_of_students(recipe, per_class=4, classes=3)
    learnt = {"temperature": 1.0, "cutmix": False, "labels": "stored"}
    assert asked == learnt | {"partition": True, "batch_size": 50}
    whole = replace(recipe, refine=replace(PARTED, partition=False))
    assert asked_of_students(whole, 4, 3) == learnt
    hard = replace(recipe, refine=replace(PARTED, partition=False, labels="hard"))
    assert asked_of_students(hard, 4, 3) == {"temperature": 1.0, "cutmix": False}
    own = replace(recipe, refine=lambda key, teacher, images, soft, pool: (images, soft))
    assert asked_of_students(own, 4, 3) == {}
    chosen = infoutil(tiles=4, partition=True)
    assert asked_of_students(chosen, 4, 3) == {"partition": True, "batch_size": 50}
    assert asked_of_students(infoutil(), 1, 3) == {}


@pytest.fixture(scope="module")
def made(digits, teachers, tmp_path_factory):
    recipe = replace(random(tiles=4), name="parted", refine=PARTED)
    return distill(
        digits,
        teachers["converged"],
        recipe,
        images_per_class=1,
        workdir=tmp_path_factory.mktemp("parted") / "set",
        config=DistillConfig(pool=40, progress=False),
    )


def test_the_set_says_it(made):
    training = made.manifest["training"]
    assert training["partition"] and training["temperature"] == 1 and training["batch_size"] == 50
    assert "students see each by itself" in (made.path / "README.md").read_text()


@pytest.mark.parametrize(
    "recipe",
    [replace(random(tiles=4), refine=PARTED), infoutil(tiles=4, partition=True, shortlist=2)],
    ids=["refined", "chosen"],
)
def test_a_set_that_asks_for_something_is_found_again(recipe, digits, teachers, tmp_path):
    made, there = (
        found_or_distilled(
            digits,
            (teachers["converged"],) * 2,
            recipe,
            images_per_class=1,
            workdir=tmp_path / "set",
            seed=0,
            config=DistillConfig(pool=10, progress=False),
        )
        for _ in range(2)
    )
    assert there.digest == made.digest and made.manifest["training"]["partition"]


def test_students_do_what_the_set_asks_for_where_nothing_was_chosen(made, digits):
    student = StudentConfig(width=4, epochs=2, seeds=(0,))
    asked = {"labels": "stored", "cutmix": False, "partition": True, "temperature": 1.0}
    others = {"labels": "hard", "cutmix": True, "partition": False, "temperature": 2.0}

    def loss(**given):
        return train_students(made, digits, None, replace(student, **given), progress=False).loss

    told = loss()
    np.testing.assert_array_equal(told, loss(**asked))
    for name, other in others.items():
        assert (told != loss(**asked | {name: other})).any(), name


def test_the_page_does_not_call_its_labels_the_teachers(made, tmp_path):
    text = report([made.path], tmp_path / "page.html").read_text()
    assert "learnt with the pixels" in text and "the largest that was learnt for" in text
    assert "the teacher&#39;s choice" not in text and "the teacher's choice" not in text
