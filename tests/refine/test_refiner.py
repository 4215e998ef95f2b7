"""The loop: what it optimises, what it writes, that it goes on after a stop."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoutil_jax import progress
from infoutil_jax.data.augment import Normalisation, channel_statistics
from infoutil_jax.data.siamese import PLAIN
from infoutil_jax.errors import InputError
from infoutil_jax.method.contracts import Pool, Refine, Resumable
from infoutil_jax.refine import REFINERS, NeuralFeatureRegression, Objective, Refiner
from infoutil_jax.refine.batches import drawn, gathered
from infoutil_jax.refine.steps import total_variation
from infoutil_jax.training.config import BackboneConfig, StudentConfig
from infoutil_jax.training.student import train_student
from infoutil_jax.training.supervision import Supervision


@dataclass(frozen=True)
class Colours(Objective):
    """An objective in closed form: every image is to have the mean colour of its real class."""

    weight: float = 1.0

    def prepare(self, network, key, pool, scale):
        images = scale(pool.images)
        return jnp.stack([images[pool.labels == c].mean((0, 1, 2)) for c in range(3)])

    def loss(self, network, known, step, synthetic, batch):
        wanted = synthetic.taught() @ known[0]
        return self.weight * ((synthetic.images - wanted[:, None, None]) ** 2).mean()


COLOURS = Refiner(
    Colours(), steps=150, learning_rate=0.05, batch_size=8, view=PLAIN, chunk=40, spectral=False
)
FREPO = Refiner(
    NeuralFeatureRegression(networks=2, greatest_age=5),
    steps=6,
    chunk=2,
    batch_size=16,
    labels="learnt",
    network=BackboneConfig(width=4),
)
KEY = jax.random.key(0)


def changed(refiner, **fields):
    return replace(refiner, **fields)


@pytest.mark.parametrize("spectral", [True, False])
def test_images_go_where_the_objective_is_least(spectral, teacher, made, pool):
    # The mean colour of noise hardly varies over the pool: in its units, the way is long.
    rate = 0.5 if spectral else 0.05
    refiner = changed(COLOURS, spectral=spectral, learning_rate=rate)
    images, logits = refiner(KEY, teacher, *made, pool)
    for label in range(3):
        real = pool.images[pool.labels == label].mean((0, 1, 2))
        refined = images[2 * label : 2 * label + 2].mean((1, 2))
        np.testing.assert_allclose(refined, np.tile(real, (2, 1)), atol=2)
    np.testing.assert_array_equal(logits, made[1])
    assert images.dtype == np.uint8


def test_the_same_key_gives_the_same_bytes_and_another_gives_others(teacher, made, pool):
    first, second = (FREPO(KEY, teacher, *made, pool) for _ in range(2))
    other = FREPO(jax.random.key(1), teacher, *made, pool)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first[0] != other[0]).any()


class Stop(Exception):
    """In the place of a kill."""


@pytest.mark.parametrize("at", [2, 4])
def test_a_stopped_run_goes_on_to_the_same_bytes(at, teacher, made, pool, tmp_path, monkeypatch):
    whole = FREPO(KEY, teacher, *made, pool)
    update = progress.Bar.update

    def stopping(bar, count, **figures):
        update(bar, count, **figures)
        if figures and bar.done >= at:
            raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(progress.Bar, "update", stopping)
        with pytest.raises(Stop):
            FREPO.resuming(tmp_path, False)(KEY, teacher, *made, pool)
    steps = []
    with monkeypatch.context() as patched:
        patched.setattr(
            progress.Bar, "update", lambda bar, count, **figures: steps.append((bar.done, count))
        )
        again = FREPO.resuming(tmp_path, False)(KEY, teacher, *made, pool)
    assert steps[0][0] == at and sum(count for _, count in steps) == 6 - at
    for a, b in zip(whole, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_was_kept_of_other_arguments_is_not_gone_on_with(teacher, made, pool, tmp_path):
    FREPO.resuming(tmp_path, False)(KEY, teacher, *made, pool)
    other = changed(FREPO, learning_rate=0.02)
    kept = other.resuming(tmp_path, False)(KEY, teacher, *made, pool)
    np.testing.assert_array_equal(kept[0], other(KEY, teacher, *made, pool)[0])
    assert len(list(tmp_path.iterdir())) == 2


def test_of_an_objective_of_ones_own_nothing_is_kept(teacher, made, pool, tmp_path):
    """It may be another one under the same name."""
    few = changed(COLOURS, steps=2)
    few.resuming(tmp_path, False)(KEY, teacher, *made, pool)
    assert not list(tmp_path.iterdir())


@dataclass(frozen=True)
class LeftOfRight(Objective):
    """An objective that a mirror image turns round: the left half is to be bright."""

    def loss(self, network, known, step, synthetic, batch):
        seen = network.view(step.key, synthetic.images)
        return -seen[:, :, : seen.shape[2] // 2].mean()


@pytest.mark.parametrize("flip", [True, False])
def test_what_must_not_be_mirrored_is_not(flip, teacher, made, pool):
    """A pool's images may be, unless it says that they may not."""
    view = replace(PLAIN, flip=True)
    refiner = Refiner(
        LeftOfRight(), steps=30, learning_rate=0.05, batch_size=8, view=view, spectral=False
    )
    judging = pool if flip else pool._replace(flip=False)
    images, _ = refiner(KEY, teacher, *made, judging)
    brighter = (images.astype(int) - made[0]).mean((0, 1, 3))
    assert (brighter[:4] > 10).all() and ((brighter[4:] > 10).all() == flip)


def test_learnt_labels_start_nine_tenths_hard_and_are_read_at_the_temperature(teacher, made, pool):
    slow = changed(FREPO, steps=1, label_learning_rate=1e-9, temperature=4.0)
    logits = slow(KEY, teacher, *made, pool)[1]
    hard = np.repeat(np.eye(3), 2, 0)
    read = np.exp(logits[:, 0] / 4)
    read /= read.sum(1, keepdims=True)
    np.testing.assert_allclose(read, 0.9 * hard + 0.1 / 3, atol=1e-5)
    fast = changed(FREPO, label_learning_rate=0.5)
    assert np.abs(fast(KEY, teacher, *made, pool)[1] - logits).max() > 0.1


@pytest.mark.parametrize("quantise", [True, False])
def test_the_objective_sees_pixels_as_they_are_written(quantise, teacher, made, pool):
    @dataclass(frozen=True)
    class Levels(Colours):
        def loss(self, network, known, step, synthetic, batch):
            scale = teacher.normalisation
            pixels = (synthetic.images * scale.std + scale.mean) * 255
            off = jnp.abs(pixels - jnp.round(pixels)).max()
            # Not finite as soon as a pixel lies between two levels.
            between = jnp.where(off > 0.01, jnp.nan, 0.0)
            return super().loss(network, known, step, synthetic, batch) + between

    refiner = changed(COLOURS, objective=Levels(), steps=5, quantise=quantise)
    if quantise:
        assert (refiner(KEY, teacher, *made, pool)[0] != made[0]).any()
    else:
        with pytest.raises(InputError, match="not finite"):
            refiner(KEY, teacher, *made, pool)


def test_pixels_stay_within_their_range(teacher, made, pool):
    white = Pool(np.full_like(pool.images, 255), pool.labels)
    images, _ = changed(COLOURS, learning_rate=0.5)(KEY, teacher, *made, white)
    assert images.min() >= 250


def test_regularisers_keep_an_image_smooth_and_near_its_start(teacher, made, pool):
    free, _ = COLOURS(KEY, teacher, *made, pool)
    near, _ = changed(COLOURS, distance=3.0)(KEY, teacher, *made, pool)
    start = made[0].astype(float)
    assert np.abs(near - start).mean() < 0.5 * np.abs(free - start).mean()
    nothing = changed(COLOURS, objective=Colours(weight=0.0))
    smooth, _ = changed(nothing, total_variation=1.0)(KEY, teacher, *made, pool)
    kept, _ = nothing(KEY, teacher, *made, pool)
    np.testing.assert_array_equal(kept, made[0])
    before, after = (total_variation(jnp.asarray(a, jnp.float32)) for a in (made[0], smooth))
    assert after < 0.5 * before


def test_total_variation_of_stripes():
    stripes = jnp.tile(jnp.array([0.0, 1.0]), 4)[None, :, None, None] * jnp.ones((1, 8, 8, 3))
    assert float(total_variation(stripes)) == 1.0


def test_every_batch_has_its_share_of_each_class_and_no_row_twice():
    labels = np.repeat(np.arange(3, dtype=np.int32), (20, 30, 40))
    rows = drawn(KEY, labels, 9, 0, 20, 20)
    for epoch in (rows[:10], rows[10:]):
        assert len(np.unique(epoch)) == 90
    counts = np.stack([np.bincount(labels[batch], minlength=3) for batch in rows])
    assert (np.abs(counts - [2, 3, 4]) <= 2).all()
    assert (rows[:10] != rows[10:]).any()


@pytest.mark.parametrize("first", [3, 9, 14])
def test_batches_do_not_depend_on_where_a_chunk_begins(first):
    labels = np.repeat(np.arange(3, dtype=np.int32), (20, 30, 40))
    whole = drawn(KEY, labels, 9, 0, 20, 20)
    np.testing.assert_array_equal(drawn(KEY, labels, 9, first, 20, 20)[: 20 - first], whole[first:])


def test_half_of_the_real_images_are_mirrored_wherever_a_chunk_begins(pool):
    rows = drawn(KEY, pool.labels, 45, 0, 8, 8)
    plain, labels = gathered(pool, rows, None, 0)
    np.testing.assert_array_equal(plain, pool.images[rows])
    np.testing.assert_array_equal(labels, pool.labels[rows])
    seen, same = gathered(pool, rows, KEY, 0)
    np.testing.assert_array_equal(same, labels)
    turned = (seen == plain[:, :, :, ::-1]).all((2, 3, 4))
    np.testing.assert_array_equal((seen == plain).all((2, 3, 4)), ~turned)
    assert 0.4 < turned.mean() < 0.6 and (turned[0] != turned[1]).any()
    np.testing.assert_array_equal(gathered(pool, rows[3:], KEY, 3)[0], seen[3:])


@dataclass(frozen=True)
class Copies(Objective):
    """The set becomes the mean of the batch, which is one image here."""

    def loss(self, network, known, step, synthetic, batch):
        return ((synthetic.images - batch.images.mean(0)) ** 2).mean()


@pytest.mark.parametrize(
    ("mirrored", "flip", "may"),
    [(True, True, True), (False, True, False), (True, False, False)],
)
def test_real_images_are_mirrored_only_where_they_may_be(mirrored, flip, may, teacher, made, pool):
    """Left is dark and right is bright; what is mirrored half of the time has no side."""
    side = np.zeros_like(pool.images[:1])
    side[:, :, side.shape[2] // 2 :] = 240
    one = Pool(np.repeat(side, 3, 0), np.arange(3, dtype=np.int32), flip=flip)
    refiner = Refiner(
        Copies(),
        steps=200,
        learning_rate=0.05,
        batch_size=3,
        mirrored=mirrored,
        view=replace(PLAIN, flip=True),
        spectral=False,
    )
    images, _ = refiner(KEY, teacher, *made, one)
    left, right = (images[:, :, half].mean() for half in (slice(0, 4), slice(4, 8)))
    assert (abs(right - left) < 60) if may else (right - left > 200)


def test_it_is_what_a_recipe_asks_for():
    assert isinstance(FREPO, Refine) and isinstance(FREPO, Resumable)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; it must be a number"),
        ({"temperature": 0.0}, "temperature is 0.0; it must be above 0"),
        ({"distance": -1.0}, "distance is -1.0; it must be at least 0"),
    ],
)
def test_refuses_what_is_out_of_range(fields, said):
    with pytest.raises(InputError, match=said):
        changed(FREPO, **fields)


def test_refuses_sets_that_are_not_as_many_of_each_class(teacher, made, pool):
    with pytest.raises(InputError, match="5 images and 5 rows of labels of 3 classes"):
        FREPO(KEY, teacher, made[0][:5], made[1][:5], pool)


def test_a_loss_that_is_not_finite_is_told(teacher, made, pool):
    broken = changed(COLOURS, objective=Colours(weight=float("nan")), chunk=5)
    with pytest.raises(InputError, match=r"not finite by step 5: lower its learning_rate, 0\.05"):
        broken(KEY, teacher, *made, pool)


@pytest.mark.usefixtures("unchecked")
def test_refuses_labels_of_no_kind():
    with pytest.raises(InputError, match="labels 'none' is unknown: choose hard, soft, learnt"):
        changed(FREPO, labels="none")


@pytest.mark.parametrize(("partition", "steps"), [(False, 12), (True, 20)])
def test_a_small_set_takes_fewer_steps(partition, steps, teacher, made, pool):
    """Six images of four tiles: two steps for each image that the objective sees, at most 20."""
    images, soft = made[0], np.repeat(made[1], 4, 1)
    few = replace(COLOURS, steps=20, partition=partition)
    found = replace(few, steps_per_image=2)(KEY, teacher, images, soft, pool)
    same = replace(few, steps=steps)(KEY, teacher, images, soft, pool)
    np.testing.assert_array_equal(found[0], same[0])


def test_students_learn_more_from_a_refined_set_than_from_what_it_began_as(digits):
    """Of ten images, where a set can learn its networks by heart: none is kept for long."""
    pool = Pool(*digits.train.labelled(), flip=False)
    mean, std = channel_statistics(pool.images)
    first = np.array([np.flatnonzero(pool.labels == label)[0] for label in range(10)])
    images, labels = pool.images[first], np.arange(10)
    refiner = replace(REFINERS["frepo"], steps_per_image=25, network=BackboneConfig(width=16))
    teacher = SimpleNamespace(mean=mean, std=std, normalisation=Normalisation.of(mean, std))
    refined, logits = refiner(KEY, teacher, images, np.zeros((10, 1, 10), np.float32), pool)
    config = StudentConfig(width=16, cutmix=False, flip=False, labels="hard", seeds=(0, 1))
    started, improved = (
        train_student((x, labels), digits.test.arrays(), kind, supervision=taught).top1.mean()
        for x, kind, taught in (
            (images, config, Supervision(10, mean=mean, std=std)),
            (
                refined,
                replace(config, labels="stored", temperature=1.0),
                Supervision(10, soft_labels=logits, mean=mean, std=std),
            ),
        )
    )
    assert improved > started + 5
