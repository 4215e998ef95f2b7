"""A teacher is a function and its variables: ours or anyone's."""

from dataclasses import dataclass, replace

import jax
import numpy as np
import pytest
from flax import nnx

from infoutil_jax import models
from infoutil_jax.errors import InputError
from infoutil_jax.training.evaluation import model_logits
from infoutil_jax.training.teacher import Teacher

IMAGES = np.random.default_rng(0).integers(0, 256, (70, 8, 8, 1), dtype=np.uint8)


def linear(variables, images):
    return images.reshape(len(images), -1) @ variables["w"]


def test_any_function_can_be_a_teacher():
    weights = np.asarray(jax.random.normal(jax.random.key(0), (64, 10)))
    teacher = Teacher(linear, {"w": weights}, mean=(0.5,), std=(0.25,), image_size=(8, 8))
    expected = ((IMAGES.reshape(70, -1) / 255 - 0.5) / 0.25) @ weights
    logits = model_logits(teacher, IMAGES)
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(logits[9:12], model_logits(teacher, IMAGES[9:12]))
    for value in (np.nan, np.inf):
        broken = weights.copy()
        broken[3, 4] = value
        with pytest.raises(InputError, match=r"weight in \['w'\] that is NaN or infinite"):
            replace(teacher, variables={"w": broken})
    with pytest.raises(InputError, match="2 means and 1 standard"):
        replace(teacher, mean=(0.5, 0.5))
    arrays = replace(teacher, mean=tuple(np.full(3, 0.5)), std=tuple(np.full(3, 0.25)))
    assert {type(value) for value in arrays.mean + arrays.std} == {float}


def test_a_teacher_normalises_pixels_by_its_own_statistics():
    images = IMAGES.repeat(3, -1)
    teacher = Teacher(linear, {}, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    normalised = teacher.normalise(images)
    np.testing.assert_allclose(normalised, (images / 255 - teacher.mean) / teacher.std, atol=1e-6)
    assert normalised.dtype == np.float32


def test_digest_sees_names_shapes_and_values():
    teacher = Teacher(linear, {"w": np.ones((4, 6), np.float32)}, mean=(0.5,), std=(0.25,))
    others = [
        {"v": np.ones((4, 6), np.float32)},
        {"w": np.ones((6, 4), np.float32)},
        {"w": np.ones((4, 6), np.float32) * (1 + 1e-6)},
    ]
    digests = {replace(teacher, variables=variables).digest() for variables in others}
    assert len(digests | {teacher.digest()}) == 4
    same = replace(teacher, variables={"w": jax.numpy.ones((4, 6))})
    assert same.digest() == teacher.digest()


def rgb(variables, images):
    return images.mean((1, 2)) @ variables


RGB = np.random.default_rng(1).integers(0, 256, (9, 6, 6, 3), dtype=np.uint8)
EYE = np.eye(3, dtype=np.float32)


@pytest.mark.parametrize(
    ("scale", "wanted"),
    [
        ({"mean": 0.5, "std": 0.25}, ((0.5,), (0.25,))),
        ({"mean": np.float32(0.5), "std": np.array(0.25)}, ((0.5,), (0.25,))),
        ({"mean": (0.4, 0.5, 0.6), "std": 0.25}, ((0.4, 0.5, 0.6), (0.25,) * 3)),
        ({"mean": 0.5, "std": [0.2, 0.25, 0.5]}, ((0.5,) * 3, (0.2, 0.25, 0.5))),
        ({"mean": 0, "std": 1}, ((0.0,), (1.0,))),
    ],
)
def test_one_number_is_every_channels(scale, wanted):
    teacher = Teacher(rgb, EYE, **scale)
    assert (teacher.mean, teacher.std) == wanted
    expected = (RGB / 255 - np.array(wanted[0])) / np.array(wanted[1])
    np.testing.assert_allclose(teacher.normalise(RGB), expected, atol=1e-5)
    spelled = teacher.of_channels(3)
    assert len(spelled.mean) == len(spelled.std) == spelled.channels == 3
    np.testing.assert_array_equal(spelled.normalise(RGB), teacher.normalise(RGB))
    assert spelled.of_channels(3) is spelled


@pytest.mark.parametrize(
    ("scale", "sentence"),
    [
        ({"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}, "by 255"),
        ({"mean": (0.5,) * 3, "std": (64.0,) * 3}, "std .* must be of pixels from 0 to 1: divide"),
        ({"mean": 127.5, "std": 0.5}, r"mean \(127.5,\) .* divide those .* by 255"),
        ({"mean": (-0.5,) * 3}, r"mean \(-0.5, .*: each must be a number from 0 to 1"),
        ({"mean": (np.nan,) * 3}, "each must be a number from 0 to 1"),
        ({"std": (0.1, np.nan, 0.1)}, "std .*: each must be positive"),
        ({"std": 0}, "each must be positive"),
        ({"mean": (0.5, 0.5)}, "2 means and 3 standard deviations"),
        ({"mean": ()}, "0 means and 3 standard deviations"),
    ],
)
def test_a_scale_of_other_pixels_is_told(scale, sentence):
    with pytest.raises(InputError, match=sentence) as raised:
        Teacher(rgb, EYE, **{"mean": (0.5,) * 3, "std": (0.25,) * 3, **scale})
    assert "\n" not in str(raised.value)


def test_a_teacher_gives_logits_whatever_its_predict_returns():
    def habit(variables, images):
        return {"logits": rgb(variables, images), "loss": images.mean()}

    teacher = Teacher(habit, EYE, mean=0.5, std=0.25)
    wanted = model_logits(Teacher(rgb, EYE, mean=0.5, std=0.25), RGB)
    np.testing.assert_array_equal(model_logits(teacher, RGB), wanted)
    assert teacher.classes_of((6, 6, 3)) == 3
    # Equal functions are compiled once, and told apart where they differ.
    again = Teacher(habit, EYE * 2, mean=0.5, std=0.25)
    assert again.predict == teacher.predict == replace(teacher).predict
    assert hash(again.predict) == hash(teacher.predict)
    assert again.predict != Teacher(rgb, EYE, mean=0.5, std=0.25).predict
    # A network of ours stays the one that its architecture makes.
    architecture = models.Architecture.of("convnet3", num_classes=3, image_size=8, width=4)
    predict, variables = models.as_predict(models.build(architecture, nnx.Rngs(0)))
    ours = Teacher(predict, variables, mean=0.5, std=0.25, architecture=architecture)
    assert ours.predict is predict and ours.is_backbone()


def test_a_module_may_return_an_object():
    class Module(nnx.Module):
        def __call__(self, images):
            return {"logits": images.mean((1, 2))}

    teacher = Teacher(*models.as_predict(Module()), mean=0.5, std=0.5)
    np.testing.assert_allclose(model_logits(teacher, RGB), RGB.mean((1, 2)) / 127.5 - 1, atol=1e-5)


def test_of_no_images_there_are_no_logits():
    teacher = Teacher(rgb, EYE, mean=0.5, std=0.25)
    assert model_logits(teacher, RGB[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    ("predict", "sentence"),
    [
        (lambda w, x: x @ np.eye(4), r"not take an image of shape \(6, 6, 3\) \(TypeError: "),
        (lambda w, x: x.mean((1, 2, 3)), r"logits of shape \(1,\) for one image"),
        (lambda w, x: {"out": x}, "gives no logits: predict returned a dict of 'out'"),
    ],
)
def test_a_function_that_does_not_fit_is_told(predict, sentence):
    teacher = Teacher(predict, EYE, mean=0.5, std=0.25)
    with pytest.raises(InputError, match=sentence) as raised:
        teacher.classes_of((6, 6, 3))
    assert "\n" not in str(raised.value)


def test_a_function_that_cannot_be_hashed_is_told():
    @dataclass
    class Mutable:
        __hash__ = None

        def __call__(self, variables, images):
            return rgb(variables, images)

    with pytest.raises(InputError, match="predict of teacher 'user' cannot be hashed"):
        Teacher(Mutable(), EYE, mean=0.5, std=0.25)


def test_probabilities_are_warned_of_and_logarithms_are_not():
    def teacher(last):
        return Teacher(lambda w, x: last(rgb(w, x)), EYE, mean=0.5, std=0.25)

    for last in (jax.nn.softmax, lambda x: jax.nn.one_hot(x.argmax(1), 3)):
        with pytest.warns(UserWarning, match=r"'user' returns probabilities .* leave out the soft"):
            teacher(last).warn_of_probabilities(RGB)
    for last in (jax.nn.log_softmax, jax.nn.sigmoid, lambda x: x, lambda x: x * 0):
        teacher(last).warn_of_probabilities(RGB)  # a warning would be an error
