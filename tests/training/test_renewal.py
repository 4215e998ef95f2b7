"""A student that chooses anew, as it learns, what it trains on."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from infoutil_jax.data.augment import Normalisation
from infoutil_jax.errors import InputError
from infoutil_jax.method import scores
from infoutil_jax.training import student as students
from infoutil_jax.training.config import StudentConfig
from infoutil_jax.training.renewal import Renewal
from infoutil_jax.training.student import train_student
from infoutil_jax.training.supervision import Supervision

CONFIG = StudentConfig(width=4, epochs=4, flip=False, seeds=(1,), labels="hard", norm="none")
TAUGHT = Supervision(num_classes=10, mean=(0.3,), std=(0.4,))
NORMALISE = Normalisation.of((0.3,), (0.4,))


def digits(per_class):
    data = load_digits()
    images = np.round(data.images * 15.9).astype(np.uint8)[..., None]
    labels = data.target.astype(np.int32)
    rows = np.concatenate([np.flatnonzero(labels[:1200] == c)[:per_class] for c in range(10)])
    return (images[rows], labels[rows]), (images[1200:1400], labels[1200:1400])


RESERVE, TEST = digits(4)


def linear(weights, images):
    return images.reshape(len(images), -1) @ weights


WEIGHTS = jax.random.normal(jax.random.key(0), (64, 10)) / 8


def trained(config=CONFIG, renewal=None, train=RESERVE, **options):
    return train_student(train, TEST, config, supervision=TAUGHT, renewal=renewal, **options)


def test_it_begins_with_the_first_of_each_class():
    """A choice that never comes is training on them alone."""
    found = trained(renewal=Renewal(keep=1, every=4))
    right = trained(train=digits(1)[0])
    np.testing.assert_array_equal(found.loss, right.loss)
    np.testing.assert_array_equal(found.top1, right.top1)


@pytest.mark.parametrize("measure", ["gradient_norm", "el2n", "cross_entropy"])
@pytest.mark.parametrize("order", ["highest", "lowest"])
def test_it_goes_on_with_the_highest_or_lowest_scores_at_the_student(measure, order):
    images, labels = RESERVE
    renewal = Renewal(keep=2, score=measure, order=order)
    rows = renewal.chosen((linear, WEIGHTS), NORMALISE, RESERVE, jax.random.key(0))
    score = scores.GradientNorm() if measure == "gradient_norm" else getattr(scores, measure)
    found = np.asarray(score(linear, WEIGHTS, NORMALISE(images), jnp.asarray(labels)))
    found = found.reshape(10, 4) * (-1 if order == "highest" else 1)
    right = np.argsort(found, axis=1)[:, :2] + 4 * np.arange(10)[:, None]
    np.testing.assert_array_equal(rows.reshape(10, 2), right)


def test_a_random_choice_is_each_epochs_own():
    renewal = Renewal(keep=2, score="random")
    draws = [
        renewal.chosen((linear, WEIGHTS), NORMALISE, RESERVE, jax.random.key(k)) for k in (0, 0, 1)
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert set(draws[0]) != set(draws[2])
    for rows in draws:
        np.testing.assert_array_equal(RESERVE[1][rows], np.repeat(np.arange(10), 2))


def test_each_student_chooses_by_itself():
    renewal = Renewal(keep=1, every=2)
    both, alone = trained(replace(CONFIG, seeds=(0, 1)), renewal), trained(renewal=renewal)
    pairs = zip(jax.tree.leaves(alone.variables), jax.tree.leaves(both.variables), strict=True)
    for mine, its in pairs:
        np.testing.assert_allclose(mine[0], its[1], atol=1e-5)
    fixed = trained(train=digits(1)[0])
    np.testing.assert_allclose(alone.loss[:2], fixed.loss[:2], rtol=1e-6)
    assert not np.allclose(alone.loss[2:], fixed.loss[2:], rtol=1e-5)


def test_stored_labels_go_with_their_images():
    """Where an image's label is its own class, it does not matter which images are chosen."""
    soft = 1000 * np.eye(10, dtype=np.float32)[RESERVE[1]][:, None]
    stored = replace(CONFIG, labels="stored", temperature=1.0, cutmix=False, epochs=3)
    taught = replace(TAUGHT, soft_labels=soft)
    renewal = Renewal(keep=2, every=1, order="lowest")
    found = train_student(RESERVE, TEST, stored, supervision=taught, renewal=renewal)
    hard = trained(replace(stored, labels="hard"), renewal)
    np.testing.assert_allclose(found.loss, hard.loss, rtol=1e-4)


def test_a_training_that_was_stopped_chooses_what_it_would_have(tmp_path, monkeypatch):
    renewal = Renewal(keep=1, every=1)
    right = trained(renewal=renewal)
    monkeypatch.setattr(students, "SAVING", 1.0)
    chosen, calls = Renewal.chosen, []

    def stopping(self, *arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return chosen(self, *arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Renewal, "chosen", stopping)
        trained(renewal=renewal, folder=tmp_path)
    found = trained(renewal=renewal, folder=tmp_path)
    np.testing.assert_array_equal(found.top1, right.top1)
    np.testing.assert_allclose(found.loss, right.loss, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": 0}, "keep is 0; it must be at least 1"),
        ({"keep": 1, "every": 0}, "every is 0; it must be at least 1"),
        ({"keep": 1, "score": "luck"}, "score 'luck' is unknown: choose gradient_norm"),
        ({"keep": 1, "order": "best"}, "order 'best' is unknown: choose highest"),
        ({"keep": 5}, "class 0 of the reserve has 4 images, but 5 are to be kept"),
    ],
)
def test_what_cannot_be_is_a_sentence(options, message, unchecked):
    with pytest.raises(InputError, match=message):
        trained(renewal=Renewal(**options))


def test_all_seeds_share_one_reserve_and_are_tested_in_the_end():
    with pytest.raises(InputError, match="all seeds share one reserve"):
        trained(replace(CONFIG, evaluate_every=2), Renewal(keep=1))
