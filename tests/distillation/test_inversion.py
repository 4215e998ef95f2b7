"""SRe2L: its objective and steps against NumPy, its sets, its refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from infoutil_jax.data import augment
from infoutil_jax.data.sources import open_source
from infoutil_jax.distillation import sre2l
from infoutil_jax.errors import InputError
from infoutil_jax.models import as_predict, create
from infoutil_jax.models.statistics import Statistics, batch_norm_inputs
from infoutil_jax.training import recover
from infoutil_jax.training.recover import Inversion, bn_distance, invert, objective
from infoutil_jax.training.teacher import Teacher

SETTINGS = Inversion(iterations=60, bn_weight=1.0)
FAST = {"images_per_class": 2, "settings": SETTINGS}
# What `sre2l` makes of it for digits, so that one compilation serves many tests.
MOVING = Inversion(
    iterations=60,
    learning_rate=0.25,
    bn_weight=1.0,
    first_bn_multiplier=10.0,
    crop_scale=(1.0, 1.0),
    flip=False,
    jitter=1,
    batch_size=10,
)
STILL = Inversion(
    iterations=2,
    learning_rate=0.1,
    bn_weight=0.5,
    first_bn_multiplier=3.0,
    crop_scale=(1.0, 1.0),
    flip=False,
    jitter=0,
)


@pytest.fixture(scope="module")
def teacher(teachers):
    return teachers["converged"]


@pytest.fixture(scope="module")
def made(digits, teacher, tmp_path_factory):
    return sre2l(digits, teacher, workdir=tmp_path_factory.mktemp("made") / "set", **FAST)


def files(path):
    return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}


class Linear(nnx.Module):
    """Batch normalisation of the pixels, then a linear layer, then another normalisation."""

    def __init__(self, rngs):
        self.pixels = nnx.BatchNorm(2, rngs=rngs)
        self.linear = nnx.Linear(8, 3, rngs=rngs)
        self.outputs = nnx.BatchNorm(3, rngs=rngs)

    def __call__(self, images):
        hidden = self.pixels(images).reshape(len(images), -1)
        return self.outputs(self.linear(hidden))


@pytest.fixture(scope="module")
def linear():
    predict, variables = as_predict(Linear(nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    draw = lambda leaf: jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32)  # noqa: E731
    variables = jax.tree.map(draw, variables)
    return Teacher(predict, variables, mean=(0.4, 0.6), std=(0.2, 0.3))


def by_hand(variables, images, labels):
    """The objective of `Linear` and its gradient, in NumPy and float64, without autodiff."""
    get = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables)
    params, stats = get["params"], get["batch_stats"]
    x = np.asarray(images, np.float64)
    batch = len(x)

    def norm(name, x):
        inverse = 1 / np.sqrt(stats[name]["var"] + 1e-5)
        factor = params[name]["scale"] * inverse
        return (x - stats[name]["mean"]) * factor + params[name]["bias"], factor

    def distance(name, x):
        axes = tuple(range(x.ndim - 1))
        count = x.size / x.shape[-1]
        mean, var = x.mean(axes) - stats[name]["mean"], x.var(axes) - stats[name]["var"]
        lengths = np.linalg.norm(mean), np.linalg.norm(var)
        slope = mean / lengths[0] / count
        slope = slope + var / lengths[1] * 2 * (x - x.mean(axes)) / count
        return sum(lengths), slope

    hidden, first_factor = norm("pixels", x)
    outputs = hidden.reshape(batch, -1) @ params["linear"]["kernel"] + params["linear"]["bias"]
    logits, last_factor = norm("outputs", outputs)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    target = np.eye(3)[labels]
    first, first_slope = distance("pixels", x)
    last, last_slope = distance("outputs", outputs)
    value = -np.log((p * target).sum(1)).mean() + 0.5 * (3 * first + last)
    slope = (p - target) / batch * last_factor + 0.5 * last_slope
    slope = (slope @ params["linear"]["kernel"].T).reshape(x.shape) * first_factor
    return value, slope + 0.5 * 3 * first_slope


def test_objective_and_gradient_as_derived_by_hand(linear):
    images = np.random.default_rng(1).normal(size=(4, 2, 2, 2)).astype(np.float32)
    labels = np.array([0, 2, 1, 1])
    value, slope = jax.jit(jax.value_and_grad(objective, 3), static_argnums=(0, 1))(
        linear.predict, STILL, linear.variables, jnp.asarray(images), jnp.asarray(labels)
    )
    expected, expected_slope = by_hand(linear.variables, images, labels)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(slope, expected_slope, atol=1e-5)
    assert np.abs(expected_slope).min() > 1e-4


def test_two_steps_of_adam_from_noise_as_done_by_hand(linear):
    labels, ids = np.array([0, 2, 1]), np.array([5, 6, 7])
    pixels, losses = invert(linear, STILL, (2, 2), labels, ids, seed=4)
    key = jax.random.fold_in(jax.random.key(4), 0)
    x = np.stack([jax.random.normal(jax.random.fold_in(key, i), (2, 2, 2)) for i in ids])
    mean, std = np.array(linear.mean), np.array(linear.std)
    first, second = np.zeros(x.shape), np.zeros(x.shape)
    for step, rate in enumerate([0.1, 0.05], start=1):  # half a cosine over two steps
        value, slope = by_hand(linear.variables, x, labels)
        np.testing.assert_allclose(losses[step - 1], value, rtol=1e-4)
        first, second = 0.5 * first + 0.5 * slope, 0.9 * second + 0.1 * slope**2
        move = first / (1 - 0.5**step) / (np.sqrt(second / (1 - 0.9**step)) + 1e-8)
        x = np.clip(x - rate * move, -mean / std, (1 - mean) / std)
    assert np.abs(pixels - 255 * (x * std + mean)).max() < 0.51
    assert pixels.min() > 0 or pixels.max() < 255


def test_equal_statistics_are_no_distance_and_give_no_gradient():
    def distance(mean, var):
        running = jnp.array([0.5, 2.0]), jnp.array([1.0, 3.0])
        return bn_distance([Statistics(mean, var, *running)] * 2, 10.0)

    at, slope = jax.value_and_grad(distance, (0, 1))(jnp.array([0.5, 2.0]), jnp.array([1.0, 3.0]))
    assert at == 0
    np.testing.assert_array_equal(slope, np.zeros((2, 2)))
    # 3-4-5 triangle in the mean and 1 in the variance, eleven times.
    np.testing.assert_allclose(distance(jnp.array([3.5, 6.0]), jnp.array([1.0, 2.0])), 11 * 6)


def test_views_are_crops_mirrored_and_shifted_each_by_its_own_key():
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(64, 6, 4, 1)), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 64)
    random_view = jax.jit(recover.random_view, static_argnums=0)
    still = random_view(STILL, keys, images)
    np.testing.assert_allclose(still, images, atol=1e-6)

    moving = dataclasses.replace(STILL, flip=True, jitter=2)
    seen = set()
    views = np.asarray(random_view(moving, keys, images))
    for image, one in zip(np.asarray(images), views, strict=True):
        matches = [
            (flip, down, right)
            for flip in (False, True)
            for down in range(3)
            for right in range(3)
            if np.allclose(np.roll(image[:, ::-1] if flip else image, (down, right), (0, 1)), one)
        ]
        assert len(matches) == 1
        seen.update(matches)
    assert len(seen) == 18

    cropped = dataclasses.replace(STILL, crop_scale=(0.2, 0.5))
    views = np.asarray(random_view(cropped, keys, images))
    assert views.shape == images.shape
    for i in (0, 1):
        box_key = jax.random.split(keys[i], 3)[0]
        box = augment.random_boxes(box_key, 1, (6, 4), (0.2, 0.5))
        expected = augment.resized_crop(images[i : i + 1], box, (6, 4))[0]
        np.testing.assert_allclose(views[i], expected, atol=1e-6)
    np.testing.assert_allclose(random_view(cropped, keys[5:6], images[5:6])[0], views[5], atol=1e-6)


def test_the_objective_falls_on_a_real_teacher(teacher):
    pixels, losses = invert(teacher, MOVING, (8, 8), np.arange(10), np.arange(10))
    assert pixels.shape == (10, 8, 8, 1)
    assert losses.shape == (60,)
    assert losses[-10:].mean() < losses[:10].mean() / 2


def test_the_bn_term_brings_statistics_closer(teacher):
    @jax.jit
    def distance(pixels):
        images = teacher.normalise(pixels)
        return bn_distance(batch_norm_inputs(teacher.predict, teacher.variables, images)[1])

    without = dataclasses.replace(MOVING, bn_weight=0.0)
    near, far = (
        distance(invert(teacher, settings, (8, 8), np.arange(10), np.arange(10))[0])
        for settings in (MOVING, without)
    )
    assert near < far / 2


def test_the_teacher_sees_each_image_as_its_class(made, digits, teacher):
    assert made.images.shape == (20, 8, 8, 1)
    np.testing.assert_array_equal(made.labels, np.repeat(np.arange(10), 2))
    made.verify()
    pixels = (made.images / 255 - np.array(teacher.mean)) / np.array(teacher.std)
    logits = teacher.predict(teacher.variables, pixels.astype(np.float32))
    np.testing.assert_allclose(made.soft_labels[:, 0], logits, atol=1e-3)
    assert (np.argmax(logits, 1) == made.labels).mean() >= 0.95
    assert len(np.unique(made.images, axis=0)) == 20


def test_records_and_manifest_say_what_was_done(made, digits, teacher):
    logits = made.soft_labels[:, 0].astype(np.float64)
    cross_entropy = np.log(np.exp(logits).sum(1)) - logits[np.arange(20), made.labels]
    for i, record in enumerate(made.records):
        (tile,) = record["tiles"]
        assert tile["source"] is tile["example"] is tile["box"] is tile["map"] is None
        assert tile["rank"] == i % 2
        np.testing.assert_allclose(tile["score"], cross_entropy[i], atol=1e-4)
    manifest = made.manifest
    assert manifest["recipe"] == {
        "name": "sre2l",
        "settings": {
            "kind": "Inversion",
            "iterations": 60,
            "learning_rate": 0.25,
            "bn_weight": 1.0,
            "first_bn_multiplier": 10.0,
            "crop_scale": [1.0, 1.0],
            "flip": False,
            "jitter": 1,
            "batch_size": 10,
        },
    }
    assert manifest["source"]["fingerprint"] == digits.fingerprint()
    assert manifest["teacher"]["digest"] == manifest["label_teacher"]["digest"] == teacher.digest()
    assert {"jax", "numpy", "python"} <= set(manifest["versions"])


def test_same_seed_same_bytes_and_another_seed_others(made, digits, teacher, tmp_path):
    sre2l(digits, teacher, workdir=tmp_path / "again", **FAST)
    assert files(tmp_path / "again") == files(made.path)
    other = sre2l(digits, teacher, workdir=tmp_path / "other", seed=1, **FAST)
    assert (other.images != made.images).any((1, 2, 3)).all()


def test_a_larger_budget_begins_with_the_same_images(made, digits, teacher, tmp_path):
    one = sre2l(digits, teacher, workdir=tmp_path / "set", **{**FAST, "images_per_class": 1})
    np.testing.assert_array_equal(one.images, made.images[::2])


def test_batches_of_any_size_fill_the_set(digits, teachers, tmp_path):
    made = sre2l(
        digits,
        teachers["converged"],
        label_teacher=teachers["early"],
        images_per_class=2,
        workdir=tmp_path / "set",
        settings=dataclasses.replace(SETTINGS, batch_size=7),
    )
    teacher = teachers["converged"]
    images = teacher.normalise(made.images)
    logits = teacher.predict(teacher.variables, images)
    assert (np.argmax(logits, 1) == made.labels).mean() >= 0.9
    assert not np.allclose(made.soft_labels[:, 0], logits, atol=0.1)
    assert made.manifest["teacher"]["stage"] == "converged"
    assert made.manifest["label_teacher"]["stage"] == "early"


def teacher_of(module):
    return Teacher(*as_predict(module), mean=(0.3,), std=(0.4,), name="mine")


def network(**changes):
    options = {"num_classes": 10, "image_size": 8, "channels": 1, "width": 2} | changes
    return teacher_of(create("convnet3", rngs=nnx.Rngs(0), **options))


def test_large_images_are_optimised_by_random_crops_as_the_authors_do(tmp_path):
    large = open_source("digits", image_size=64, max_per_class=1)
    untrained = network(image_size=64)
    settings = Inversion(iterations=1)
    made = sre2l(large, untrained, images_per_class=1, workdir=tmp_path / "set", settings=settings)
    told = made.manifest["recipe"]["settings"]
    assert (told["crop_scale"], told["flip"], told["jitter"]) == ([0.08, 1.0], True, 8)
    assert made.images.shape == (10, 64, 64, 1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"images_per_class": 0}, "images_per_class is 0"),
        ({"iterations": 0}, "iterations is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"learning_rate": -0.1}, "learning_rate is -0.1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"bn_weight": -1.0}, "bn_weight is -1.0"),
        ({"crop_scale": (0.5, 0.2)}, "crop_scale is"),
        ({"jitter": 8}, "jitter is 8 pixels"),
        ({"bn_weight": 1e38, "first_bn_multiplier": 1e38}, "objective is nan after 60"),
        ({"teacher": network(norm="instance")}, "'mine' cannot be inverted: .* has no batch"),
        ({"teacher": network(num_classes=7)}, "10 classes"),
        (
            {"teacher": Teacher(lambda w, x: x[:, 0, 0] @ w, np.ones((1, 10)), (0.5,), (0.5,))},
            "NNX",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(digits, teacher, tmp_path, change, sentence):
    arguments = {"teacher": teacher, "workdir": tmp_path / "set", **FAST}
    known = {field.name for field in dataclasses.fields(Inversion)}
    changed = {name: value for name, value in change.items() if name in known}
    arguments |= {name: value for name, value in change.items() if name not in known}
    arguments["settings"] = dataclasses.replace(SETTINGS, **changed)
    with pytest.raises(InputError, match=sentence) as raised:
        sre2l(digits, **arguments)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(digits, teacher, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="something else"):
        sre2l(digits, teacher, workdir=tmp_path, **FAST)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
