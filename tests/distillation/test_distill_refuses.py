"""What `distill` refuses, in one sentence, before it writes anything."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoutil_jax.data.sources import open_source
from infoutil_jax.distillation import DistillConfig, distill
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import infoutil_paper, random
from infoutil_jax.method.selection import take
from infoutil_jax.method.shapley_maps import ShapleyConfig

CONFIG = DistillConfig(pool=20, progress=False)


FAST = {"config": CONFIG}


@pytest.fixture(scope="module")
def teacher(teachers):
    return teachers["converged"]


@pytest.fixture(scope="module")
def recipe():
    return infoutil_paper(shapley=ShapleyConfig(budget=32))


def wrong_shape(predict, variables, crops, labels):
    return crops


def not_a_number(predict, variables, crops, labels):
    return jnp.full(len(crops), jnp.nan)


def no_columns(predict, variables, crops, labels):
    return crops


def short_column(predict, variables, crops, labels):
    return {"mine": crops[:1]}


def invented(key, candidates, per_class):
    kept = random().selector.finalize(key, candidates, per_class)
    return kept._replace(ids=np.full_like(kept.ids, 123456))


def no_map(predict, variables, images, labels, keys):
    return jnp.full((len(images), 4, 4), jnp.nan)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"images_per_class": 0}, "images_per_class is 0"),
        ({"images_per_class": 21}, "pool of 20"),
        (
            {"images_per_class": 1000, "config": DistillConfig(pool=None, progress=False)},
            "training images; 1000 distilled",
        ),
        ({"score": wrong_shape}, "recipe's score returned"),
        ({"score": not_a_number}, "NaN"),
        ({"attribute": no_map}, "map of example . is not all finite"),
        ({"embed": no_columns}, "embed returned .*; it must return columns by name"),
        ({"embed": short_column}, "a column 'mine' of shape"),
        ({"teacher": {"mean": (0.5,) * 3, "std": (0.5,) * 3}}, "3 channels"),
        ({"teacher": {"image_size": (32, 32)}}, "open it with image_size=32"),
        ({"predict": lambda w, x: x.reshape(len(x), -1)[:, :7]}, "7 logits .* 10 classes"),
        (
            {"predict": lambda w, x: x @ np.eye(3)},
            r"take an image of shape \(8, 8, 1\) .TypeErr",
        ),
        ({"predict": lambda w, x: [x]}, "gives no logits: predict returned a list with 0 arrays"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    digits, teacher, recipe, tmp_path, change, sentence
):
    own = {"score", "attribute", "embed"} & set(change)
    parts = {name: change.pop(name) for name in own}
    recipe = dataclasses.replace(recipe, **parts)
    teacher = dataclasses.replace(
        teacher, predict=change.pop("predict", teacher.predict), **change.pop("teacher", {})
    )
    arguments = {"images_per_class": 1, "workdir": tmp_path / "set", **FAST, **change}
    with pytest.raises(InputError, match=sentence) as raised:
        distill(digits, teacher, recipe, **arguments)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_selection_that_invents_rows_is_told(digits, teacher, recipe, tmp_path):
    recipe = dataclasses.replace(recipe, select=invented)
    with pytest.raises(InputError, match="returned crop 0 of example 123456, which is not among"):
        distill(digits, teacher, recipe, images_per_class=1, workdir=tmp_path / "set", **FAST)
    assert not (tmp_path / "set").exists()


def test_a_folder_that_holds_something_is_left_alone(digits, teacher, recipe, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="something else"):
        distill(digits, teacher, recipe, images_per_class=1, workdir=tmp_path, **FAST)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_the_current_folder_is_not_replaced(digits, teacher, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is the current folder"):
        distill(digits, teacher, random(), images_per_class=1, workdir=".", **FAST)


def test_a_selection_may_come_in_any_order_of_classes_but_of_every_class_as_many(
    digits, teacher, tmp_path
):
    def best_first(key, candidates, per_class):
        chosen = random().selector.finalize(key, candidates, per_class)
        return take(chosen, np.argsort(-chosen.scores, kind="stable"))

    arguments = {"images_per_class": 2, **FAST}
    mixed = dataclasses.replace(random(), select=best_first)
    made = distill(digits, teacher, mixed, workdir=tmp_path / "mixed", **arguments)
    for label, record in zip(made.labels, made.records, strict=True):
        assert digits.train.labels[record["tiles"][0]["example"]] == label
    scores = np.array([record["tiles"][0]["score"] for record in made.records]).reshape(10, 2)
    assert (scores[:, 0] >= scores[:, 1]).all()

    fewer = dataclasses.replace(
        random(), select=lambda k, c, n: random().selector.finalize(k, c, n - 1)
    )
    with pytest.raises(InputError, match=r"select returned 1 of class 0, .* must be 2 of each"):
        distill(digits, teacher, fewer, workdir=tmp_path / "few", **arguments)
    assert not (tmp_path / "few").exists()


def test_a_teacher_of_other_classes_is_refused(digits, teacher, tmp_path):
    other = dataclasses.replace(teacher, class_names=(*digits.class_names[:9], "ten"))
    with pytest.raises(InputError, match=r"class 9 of teacher .* is 'ten' but digits has '9'"):
        distill(digits, other, random(), images_per_class=1, workdir=tmp_path / "set", **FAST)


def test_probabilities_are_warned_of_before_any_work(digits, teacher, tmp_path):
    def softmax(variables, images):
        return jax.nn.softmax(teacher.predict(variables, images))

    other = dataclasses.replace(teacher, predict=softmax, name="mine")
    for arguments in ({"teacher": other}, {"teacher": teacher, "label_teacher": other}):
        with pytest.warns(UserWarning, match="'mine' returns probabilities") as told:
            distill(
                digits,
                recipe=random(),
                images_per_class=1,
                workdir=tmp_path / str(len(arguments)),
                **arguments,
                **FAST,
            )
        assert len(told) == 1


def test_a_teacher_of_another_habit_makes_the_same_set(digits, teacher, recipe, tmp_path):
    def habit(variables, images):
        return {"logits": teacher.predict(variables, images)}

    other = dataclasses.replace(teacher, predict=habit, mean=teacher.mean[0], std=teacher.std[0])
    one, same = (
        distill(digits, by, recipe, images_per_class=1, workdir=tmp_path / name, **FAST)
        for name, by in {"one": teacher, "same": other}.items()
    )
    np.testing.assert_array_equal(one.images, same.images)
    np.testing.assert_array_equal(one.soft_labels, same.soft_labels)
    assert one.manifest["teacher"]["mean"] == same.manifest["teacher"]["mean"]


def test_a_small_class_is_named(teacher, recipe, tmp_path):
    small = open_source("digits", max_per_class=4)
    with pytest.raises(InputError, match=r"class '0' .* has 4"):
        distill(small, teacher, recipe, images_per_class=5, workdir=tmp_path / "set", **FAST)
