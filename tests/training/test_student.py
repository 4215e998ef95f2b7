import copy
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

from infoutil_jax import parallel
from infoutil_jax.data.augment import Normalisation
from infoutil_jax.errors import InputError
from infoutil_jax.training import protocol as protocols
from infoutil_jax.training.config import StudentConfig
from infoutil_jax.training.evaluation import model_logits
from infoutil_jax.training.protocol import Protocol, tile_areas
from infoutil_jax.training.student import default_batch_size, train_student
from infoutil_jax.training.supervision import Supervision
from infoutil_jax.training.teacher import Teacher


def digits(per_class=10):
    data = load_digits()
    images = np.round(data.images * 15.9).astype(np.uint8)[..., None]
    labels = data.target.astype(np.int32)
    rows = np.concatenate([np.flatnonzero(labels[:1200] == c)[:per_class] for c in range(10)])
    return (images[rows], labels[rows]), (images[1200:], labels[1200:])


def linear(variables, images):
    return images.reshape(len(images), -1) @ variables["w"]


def teacher(**options):
    """Least squares on the digits: a real, if modest, classifier."""
    images, labels = digits(50)[0]
    pixels = (images.reshape(len(images), -1) / 255 - 0.3) / 0.4
    weights = np.linalg.lstsq(pixels, 8 * np.eye(10)[labels] - 4, rcond=None)[0]
    variables = {"w": jnp.asarray(weights, jnp.float32)}
    return Teacher(linear, variables, mean=(0.3,), std=(0.4,), **options)


KEY = jax.random.key(0)
CONFIG = StudentConfig(width=8, epochs=12, flip=False, seeds=(0, 1))
TAUGHT = Supervision(num_classes=10, mean=(0.3,), std=(0.4,))


def trained(config=CONFIG, supervision=TAUGHT):
    return train_student(*digits(), config, supervision=supervision)


@pytest.fixture(scope="module")
def hard():
    return trained(replace(CONFIG, labels="hard", epochs=40, evaluate_every=20))


def test_students_learn_well_above_chance(hard):
    assert hard.top1.shape == (2,) and hard.top1.min() > 40
    assert (hard.top5 > hard.top1).all() and (hard.top1_best >= hard.top1).all()
    assert hard.loss.shape == (40,) and hard.loss[-5:].mean() < hard.loss[:5].mean()
    assert ((hard.ece > 0) & (hard.ece < 1)).all()
    images, labels = digits()[1]
    first = jax.tree.map(lambda leaf: leaf[0], hard.variables)
    logits = hard.predict(first, jnp.asarray((images / 255 - 0.3) / 0.4, jnp.float32))
    assert 100 * np.mean(logits.argmax(1) == labels) == pytest.approx(hard.top1[0])


@pytest.mark.parametrize(("seeds", "at_once"), [((1,), 1), ((1, 0), 2)])
def test_seeds_do_not_know_of_each_other(seeds, at_once):
    # Without batch normalisation, behind which a bias has no gradient but rounding noise.
    config = replace(CONFIG, labels="hard", norm="none", epochs=3)
    pair, alone = trained(config), trained(replace(config, seeds=seeds, seeds_at_once=at_once))
    first = jax.tree.map(lambda leaf: leaf[0], alone.variables["params"])
    same = jax.tree.map(lambda leaf: leaf[1], pair.variables["params"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), first, same)
    assert alone.top1[0] == pytest.approx(pair.top1[1], abs=0.4)


@pytest.mark.parametrize("cores", [1, 3])
def test_cores_change_nothing(monkeypatch, cores):
    config = replace(CONFIG, labels="hard", epochs=4, seeds=(0, 1, 2), evaluate_every=2)
    expected = trained(config)
    monkeypatch.setattr(parallel, "programs_at_once", lambda: cores)
    found = trained(config)
    jax.tree.map(np.testing.assert_array_equal, found.variables, expected.variables)
    np.testing.assert_array_equal(found.top1_best, expected.top1_best)
    np.testing.assert_array_equal(found.loss, expected.loss)


def test_stored_labels_are_the_online_ones_where_nothing_is_augmented():
    plain = replace(CONFIG, cutmix=False, seeds=(0,))
    online = trained(plain, replace(TAUGHT, teacher=teacher()))
    soft = model_logits(teacher(), digits()[0][0])[:, None]
    stored = trained(replace(plain, labels="stored"), replace(TAUGHT, soft_labels=soft))
    np.testing.assert_allclose(online.loss, stored.loss, rtol=1e-3)
    assert online.loss[-1] < online.loss[0]
    swapped = replace(TAUGHT, soft_labels=soft[::-1].copy())
    other = trained(replace(plain, labels="stored"), swapped)
    assert np.abs(other.loss / online.loss - 1).max() > 0.01


STORED = StudentConfig(
    labels="stored",
    epochs=10,
    learning_rate=0.1,
    weight_decay=0.5,
    temperature=1.0,
    flip=True,
    crop_scale=(0.3, 1.0),
)


def protocol(config=STORED, num_classes=12):
    return Protocol(
        apply=print, teach=None, config=config, num_classes=num_classes, batch_size=3, tiles=4
    )


def coloured(size=32):
    """Three images of four tiles, each tile a colour (a channel) of its own."""
    images = np.zeros((3, size, size, 12), np.uint8)
    half = size // 2
    for image in range(3):
        for tile in range(4):
            row, column = divmod(tile, 2)
            cell = np.s_[row * half : (row + 1) * half, column * half : (column + 1) * half]
            images[image][(*cell, 4 * image + tile)] = 255
    return jnp.asarray(images)


@pytest.mark.parametrize(
    "changes", [{}, {"flip": False}, {"cutmix": False}, {"shuffle": False}, {"turn": True}]
)
def test_stored_targets_are_the_colours_that_the_view_shows(changes):
    chosen = protocol(replace(STORED, **changes))
    labels = jnp.arange(3)
    soft = 50 * jax.nn.one_hot(jnp.arange(12).reshape(3, 4), 12)  # tile k is of class k
    context = {"normalise": Normalisation.of((0.0,) * 12, (1.0,) * 12)}
    view = jax.jit(lambda key: protocols.view(chosen, context, key, batch))
    batch = (coloured(), labels, soft)
    for seed in range(25):
        images, targets = view(jax.random.key(seed))
        np.testing.assert_allclose(targets.sum(1), 1, atol=1e-5)
        np.testing.assert_allclose(targets, images.mean((1, 2)), atol=0.03)


def test_without_augmentation_a_view_is_the_image():
    plain = replace(STORED, augment=False, autoaugment="imagenet").effective()
    context = {"normalise": Normalisation.of((0.0,) * 12, (1.0,) * 12)}
    batch = (coloured(), jnp.arange(3), jnp.zeros((3, 4, 12)))
    images, _ = protocols.view(protocol(plain), context, jax.random.key(0), batch)
    np.testing.assert_allclose(images, batch[0] / 255, atol=1e-5)
    for change in ({"shuffle": True}, {"autoaugment": "imagenet"}):
        images, _ = protocols.view(protocol(replace(plain, **change)), context, KEY, batch)
        assert np.abs(images - batch[0] / 255).max() > 0.9


def test_dsa_gives_each_image_colours_and_a_hole_of_its_own_and_leaves_its_label():
    """The hole has the mean colour; where a tile lies, and so what is stored of it, stays."""
    plain = replace(STORED, augment=False).effective()
    context = {"normalise": Normalisation.of((0.5,) * 3, (0.25,) * 3)}
    pixels = jax.random.randint(KEY, (1, 16, 16, 3), 0, 256).astype(jnp.uint8)
    batch = (jnp.repeat(pixels, 6, 0), jnp.zeros(6, int), jnp.zeros((6, 4, 12)))
    images, targets = protocols.view(protocol(plain), context, KEY, batch)
    views, same = protocols.view(protocol(replace(plain, dsa=True)), context, KEY, batch)
    np.testing.assert_array_equal(same, targets)
    assert len({np.asarray(one).tobytes() for one in views}) == 6
    holes = (views == 0).all(3)
    assert (holes.mean((1, 2)) <= 0.25).all() and holes.any((1, 2)).all()
    for image, view, hole in zip(images, views, holes, strict=True):
        seen = np.asarray(image[~hole]).T, np.asarray(view[~hole]).T
        greys = [one.mean(0) for one in seen]
        assert np.corrcoef(*greys)[0, 1] > 0.9999  # brightness and contrast of the same pixels


def test_hard_targets_are_the_images_that_the_view_shows():
    context = {"normalise": Normalisation.of((0.0,) * 12, (1.0,) * 12)}
    chosen = protocol(replace(STORED, labels="hard"), num_classes=3)
    batch = (coloured(), jnp.arange(3), jnp.zeros((3, 1, 1)))
    view = jax.jit(lambda key: protocols.view(chosen, context, key, batch))
    for seed in range(10):
        images, targets = view(jax.random.key(seed))
        shown = images.reshape(3, -1, 3, 4).sum(-1).mean(1)
        np.testing.assert_allclose(targets, shown, atol=1e-4)


def test_tile_areas_by_hand():
    box = jnp.array([[0, 4, 8, 12]])  # a 16×16 image: its upper half, without the left quarter
    whole = jnp.array([0, 0, 16, 16])
    left = jnp.array([0, 0, 16, 4])
    for mirrored, expected in [(False, [1 / 4, 0, 0, 0]), (True, [0, 1 / 4, 0, 0])]:
        flip = jnp.array([mirrored])
        np.testing.assert_allclose(
            tile_areas(box, flip, (16, 16), 4, whole)[0], [1 / 3, 2 / 3, 0, 0], atol=1e-6
        )
        np.testing.assert_allclose(tile_areas(box, flip, (16, 16), 4, left)[0], expected, atol=1e-6)


def test_loss_is_the_divergence_at_the_temperature():
    logits = jnp.array([[1.0, 2.0, 3.0], [0.0, 0.0, 5.0]])
    soft = jax.nn.softmax(logits / 4)
    cool = protocol(replace(STORED, temperature=4.0))
    assert protocols.loss(cool, logits, soft) == pytest.approx(0, abs=1e-6)
    target = jnp.full((2, 3), 1 / 3)
    expected = -np.log(3) - np.log(soft).mean()
    assert protocols.loss(cool, logits, target) == pytest.approx(expected, rel=1e-5)
    expected = -np.log(np.asarray(jax.nn.softmax(logits))).mean()
    hard_loss = protocols.loss(protocol(replace(STORED, labels="hard")), logits, target)
    assert hard_loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "tiles", "seen"),
    [
        ({}, 1, "whole"),
        ({}, 4, "centre"),
        ({"augment": False}, 4, "whole"),
        ({"crop_scale": (0.5, 1.0)}, 1, "centre"),
        ({"test_view": "centre"}, 1, "centre"),
        ({"test_view": "whole"}, 4, "whole"),
    ],
)
def test_students_that_see_crops_are_tested_on_the_centre(changes, tiles, seen):
    config = replace(CONFIG, labels="hard", epochs=1, seeds=(0,), **changes)
    assert trained(config, replace(TAUGHT, tiles=tiles)).test_view == seen


def test_rate_and_decay():
    optimiser = protocols.optimiser(protocol(), 2)
    params = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
    state = optimiser.init(params)
    zeros = jax.tree.map(jnp.zeros_like, params)
    for step in range(20):
        before = params["w"]
        updates, state = optimiser.update(zeros, state, params)
        params = optax.apply_updates(params, updates)
        rate = 0.1 * 0.5 * (1 + np.cos(np.pi * (step // 2) / 20))
        np.testing.assert_allclose(params["w"], before * (1 - 0.5 * rate), rtol=1e-5)
    np.testing.assert_array_equal(params["b"], 1)


def test_batch_sizes_are_the_protocols():
    table = {1: 10, 10: 50, 50: 100}
    for images_per_class, size in table.items():
        assert default_batch_size(images_per_class, 10) == size
        assert default_batch_size(images_per_class, 100) == 2 * size


def unchecked(config, **changes):
    """A changed copy past the type checker of the tests, which users do not have."""
    changed = copy.copy(config)
    for name, value in changes.items():
        object.__setattr__(changed, name, value)
    return changed


def seven(variables, images):
    return images.reshape(len(images), -1)[:, :7]


STACK = np.zeros((100, 4, 10), np.float32)


@pytest.mark.parametrize(
    ("config", "supervision", "told"),
    [
        ({"labels": "soft"}, {}, "'soft' is unknown: choose online, stored, hard"),
        ({"labels": "hard", "epochs": 0}, {}, "epochs is 0; it must be at least 1"),
        ({"labels": "hard", "seeds_at_once": 0}, {}, "seeds_at_once is 0"),
        ({"labels": "hard", "seeds": ()}, {}, "no seed"),
        ({"labels": "hard", "autoaugment": "svhn"}, {}, "policy 'svhn' is unknown"),
        ({"labels": "hard"}, {"num_classes": 9}, "training label 9 at index 90"),
        ({"labels": "hard"}, {"tiles": 9}, "no square grid of 9 equal tiles"),
        ({"labels": "hard"}, {"mean": (0.0, 0.0)}, "has 2 means and 1 standard deviations"),
        ({"labels": "hard"}, {"mean": (127.5,)}, "divide those of pixels from 0 to 255 by 255"),
        ({"labels": "hard"}, {"mean": None}, "without a teacher mean and std must be given"),
        ({}, {}, "'online' needs a teacher"),
        ({}, {"teacher": teacher(num_classes=9)}, "has 9 classes but the set 10"),
        ({}, {"teacher": replace(teacher(), predict=seven)}, "gives 7 logits but the set has 10"),
        ({}, {"teacher": teacher(image_size=(9, 8))}, "takes 9×8 pixels but the images have 8×8"),
        (
            {},
            {"teacher": replace(teacher(), mean=(0.0,) * 3, std=(1.0,) * 3)},
            "takes 3 channels but",
        ),
        ({"labels": "stored"}, {}, "'stored' needs soft_labels"),
        ({"labels": "stored"}, {"soft_labels": STACK}, "100 images of 1 tiles"),
        (
            {"labels": "stored"},
            {"soft_labels": STACK[:, :1] * np.nan},
            "soft_labels of image 0 hold a NaN",
        ),
    ],
)
def test_bad_arguments_are_told(config, supervision, told):
    with pytest.raises(InputError, match=told):
        trained(unchecked(CONFIG, **config), replace(TAUGHT, **supervision))


def test_the_teachers_normalisation_is_the_default():
    assert Supervision(10, teacher()).scale() == ((0.3,), (0.4,))
    assert Supervision(10, teacher(), mean=(0.5,)).scale() == ((0.5,), (0.4,))


@pytest.mark.parametrize(("labels", "at_once"), [("hard", 1), ("stored", 2)])
def test_each_seed_may_have_its_own_set(labels, at_once):
    (images, classes), test = digits()
    other = images[::-1].reshape(10, 10, *images.shape[1:])[::-1].reshape(images.shape)
    config = replace(CONFIG, labels=labels, epochs=3)
    sets = np.stack([images, other])
    soft = np.stack([model_logits(teacher(), one)[:, None] for one in sets])
    side_by_side = replace(config, seeds_at_once=at_once)
    taught = replace(TAUGHT, soft_labels=soft)
    both = train_student((sets, classes), test, side_by_side, supervision=taught)
    for seed, own in enumerate(sets):
        only, taught = replace(config, seeds=(seed,)), replace(TAUGHT, soft_labels=soft[seed])
        alone = train_student((own, classes), test, only, supervision=taught)
        np.testing.assert_allclose(both.top1[seed], alone.top1[0], atol=0.2)
    three = replace(config, labels="hard", seeds=(0, 1, 2))
    with pytest.raises(InputError, match="2 sets for 3 seeds"):
        train_student((sets, classes), test, three, supervision=TAUGHT)
    one = replace(TAUGHT, soft_labels=soft[0])
    with pytest.raises(InputError, match=r"need \(2, 100, 1, 10\)"):
        train_student((sets, classes), test, replace(config, labels="stored"), supervision=one)
