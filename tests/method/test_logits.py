"""Classifiers of every habit: what they return, labels that are no class, and no images at all."""

import copy
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoutil_jax.errors import InputError
from infoutil_jax.method import attribution, features, scores
from infoutil_jax.method.cropping import ShapleyBoxes
from infoutil_jax.method.logits import Logits, as_logits
from infoutil_jax.method.patch_game import patch_game
from infoutil_jax.method.shapley_maps import ShapleyConfig, ShapleyMaps
from infoutil_jax.shapley import coalition_design, staged_design, staged_shapley

rng = np.random.default_rng(0)
IMAGES = rng.normal(size=(5, 4, 4, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 3, 0])
KERNEL = rng.normal(size=(48, 4)).astype(np.float32)
DESIGN = coalition_design(4, 8, strategy="kernel")


def plain(variables, images):
    # A reshape that no images at all make fail.
    return images.reshape(-1, 48) @ variables


@dataclass(frozen=True)
class Output:
    """As Hugging Face's Flax models return."""

    logits: jax.Array


class Named(NamedTuple):
    loss: jax.Array
    logits: jax.Array


HABITS = {
    "object": lambda w, x: Output(plain(w, x)),
    "dict": lambda w, x: OrderedDict(loss=jnp.zeros(()), logits=plain(w, x)),
    "named tuple": lambda w, x: Named(jnp.zeros(()), plain(w, x)),
    "logits and state": lambda w, x: (plain(w, x), {"batch_stats": {"mean": jnp.zeros((2, 2))}}),
    "loss and logits": lambda w, x: (jnp.zeros(()), plain(w, x)),
    "logits and maps": lambda w, x: [plain(w, x), x],
}


class WithMaps:
    """Grad-CAM's two methods, the second of them with a habit."""

    def __init__(self, wrap):
        self.wrap = wrap

    def __call__(self, variables, images):
        return self.head(variables, self.features(variables, images))

    def features(self, variables, images):
        return jnp.asarray(images)

    def head(self, variables, features):
        return self.wrap(plain(variables, features))


def shapley(predict, variables, images, labels):
    return attribution.patch_shapley(predict, variables, images, labels, DESIGN, grid=2)


def staged(predict, variables, images, labels):
    game = patch_game(predict, variables, images, labels, grid=2)
    return staged_shapley(game, staged_design((2, 2), 14))[0]


def maps(**options):
    return ShapleyMaps(ShapleyConfig(grid=2, budget=14, **options))


def probabilities(predict, variables, images, labels):
    columns = features.StudentFeatures(4)(predict, variables, images, labels)
    return columns["probabilities"]


def grad_cam(predict, variables, images, labels):
    return attribution.grad_cam(WithMaps(lambda x: x), variables, images, labels, grid=2)


# What each gives for n images, behind the first axis.
FUNCTIONS = {
    "patch_shapley": (shapley, (2, 2)),
    "staged_shapley": (staged, (4,)),
    "ShapleyMaps": (maps(), (2, 2)),
    "ShapleyMaps kernel": (maps(strategy="kernel", dtype="float32"), (2, 2)),
    "grad_cam": (grad_cam, (2, 2)),
    "GradientNorm": (scores.GradientNorm(), ()),
    "el2n": (scores.el2n, ()),
    "cross_entropy": (scores.cross_entropy, ()),
}


@pytest.mark.parametrize("habit", HABITS)
@pytest.mark.parametrize("name", [*FUNCTIONS, "StudentFeatures"])
def test_logits_are_found_in_whatever_a_classifier_returns(name, habit):
    function = FUNCTIONS[name][0] if name in FUNCTIONS else probabilities
    wanted = function(plain, KERNEL, IMAGES, LABELS)
    assert np.isfinite(wanted).all() and np.ptp(wanted) > 0
    np.testing.assert_array_equal(function(HABITS[habit], KERNEL, IMAGES, LABELS), wanted)


def test_grad_cam_finds_them_in_what_a_head_returns():
    wanted = grad_cam(None, KERNEL, IMAGES, LABELS)
    habit = WithMaps(lambda logits: {"logits": logits})
    got = attribution.grad_cam(habit, KERNEL, IMAGES, LABELS, grid=2)
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (lambda x: {"scores": x, 3: x}, r"a dict of 'scores', 3: name the logits \"logits\""),
        (lambda x: {}, "a dict of nothing"),
        (lambda x: (x, x), "a tuple with 2 arrays of two dimensions: return the logits"),
        (lambda x: [x[0]], "a list with 0 arrays"),
        (lambda x: "logits", r"returned str: return logits, an array \[batch, classes\]"),
        (lambda x: x[:, 0], r"an array of shape \(1,\); it must be logits"),
    ],
)
def test_what_holds_no_logits_is_told(output, sentence):
    def predict(variables, images):
        return output(plain(variables, images))

    for function in (shapley, scores.GradientNorm(), scores.el2n):
        with pytest.raises(InputError, match=sentence) as raised:
            function(predict, KERNEL, IMAGES, LABELS)
        assert "\n" not in str(raised.value)


def test_one_classifier_is_one_function_however_often_it_is_wrapped():
    one = as_logits(plain)
    assert one == as_logits(plain) and hash(one) == hash(as_logits(plain))
    assert as_logits(one) is one and one != as_logits(shapley)
    maps = WithMaps(lambda x: x)
    np.testing.assert_array_equal(as_logits(maps).features(None, IMAGES), IMAGES)
    assert not hasattr(one, "features")
    assert isinstance(one, Logits)


def test_a_wrapped_classifier_can_be_copied_and_sent_to_another_process():
    one = as_logits(plain)
    assert copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (4, "label 4 at index 2 is out of range: the 4 logits have the labels 0 to 3"),
        (-1, "label -1 at index 2 is out of range"),
        (2**31 - 1, "label 2147483647 at index 2"),
    ],
)
def test_a_label_that_is_no_class_is_told(name, wrong, sentence, unchecked):
    function, _ = FUNCTIONS[name]
    labels = np.where(np.arange(5) == 2, wrong, LABELS)
    with pytest.raises(InputError, match=sentence):
        function(plain, KERNEL, IMAGES, labels)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_labels_of_another_kind_are_told(name, unchecked):
    function, _ = FUNCTIONS[name]
    for labels in (LABELS[:4], np.eye(4)[LABELS], LABELS.astype(np.float32)):
        with pytest.raises(InputError, match="each of the 5 images needs one integer"):
            function(plain, KERNEL, IMAGES, labels)


def test_labels_of_a_function_of_ones_own_are_ones_own():
    def margin(logits, pairs):
        return logits[:, 0] - logits[:, 1] + 0 * pairs

    game = patch_game(plain, KERNEL, IMAGES, LABELS + 100, grid=2, output=margin)
    whole = game(np.ones((1, 4), bool))[0]
    logits = plain(KERNEL, IMAGES)
    np.testing.assert_allclose(whole, logits[:, 0] - logits[:, 1], 1e-4, 1e-4)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_of_no_images_there_are_no_results(name):
    function, shape = FUNCTIONS[name]
    result = function(plain, KERNEL, IMAGES[:0], LABELS[:0])
    assert result.shape == (0, *shape) and result.dtype == np.float32
    for labels in (None, np.zeros(0, int)):
        game = patch_game(plain, KERNEL, IMAGES[:0], labels, grid=2)
        assert game(DESIGN.masks).shape == (8, 0)


def test_of_no_images_there_are_no_features_and_no_boxes():
    function = features.UntrainedFeatures(4, normalised=True)
    columns = function(plain, KERNEL, np.zeros((0, 8, 8, 3), np.float32), LABELS[:0])
    assert columns["untrained"].shape == (0, 4 * 4 * 4)
    columns = features.teacher_features(WithMaps(None), KERNEL, IMAGES[:0], LABELS[:0])
    assert columns["teacher"].shape == (0, 48)
    none = jax.random.split(jax.random.key(0), 0)
    assert ShapleyBoxes()(none, jnp.zeros((0, 4, 4)), (8, 8)).shape[0] == 0


def test_a_crop_that_is_surely_right_has_a_loss_in_half_precision_too():
    """Logits of 12 and nine of nought: the loss is log(1 + 9 exp(-12)), of which half has none."""

    def predict(variables, images):
        return jnp.zeros((len(images), 10), jnp.bfloat16).at[:, 0].set(12) + variables

    images, labels = jnp.zeros((2, 4, 4, 3)), np.zeros(2, int)
    arguments = jnp.zeros((), jnp.bfloat16), images, labels
    expected = np.log1p(9 * np.exp(-12))
    np.testing.assert_allclose(scores.cross_entropy(predict, *arguments), expected, rtol=1e-3)
    game = patch_game(predict, *arguments, grid=2, output="log_probability")
    np.testing.assert_allclose(game(np.ones((1, 4), bool)), -expected, rtol=0.02)
    probabilities = features.StudentFeatures(width=2)(predict, *arguments)["probabilities"]
    np.testing.assert_allclose(probabilities[:, 0], np.exp(-expected), rtol=1e-6)
