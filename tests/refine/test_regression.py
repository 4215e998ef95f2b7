"""Kernel regression against its closed form; FRePo's networks; KIP's kernel is the selector's."""

import itertools
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from infoutil_jax.data.siamese import PLAIN
from infoutil_jax.errors import InputError
from infoutil_jax.method.selection import kernel_student
from infoutil_jax.models import BACKBONES, Architecture
from infoutil_jax.models.layers import Backbone, batch_norm
from infoutil_jax.models.swin_v2 import StochasticDepth
from infoutil_jax.refine import (
    Batch,
    KernelRegression,
    Network,
    NeuralFeatureRegression,
    Refiner,
    Step,
    Synthetic,
)
from infoutil_jax.refine.regression import answers, arc_cosine


@dataclass(frozen=True)
class Pixels(Network):
    """A network that sees pixels as they are."""

    architecture: Any = None
    view: Any = PLAIN

    def init(self, key):
        return {"params": {"nothing": jnp.zeros(1)}}

    def features(self, variables, images, real, by="set"):
        return images.reshape(len(images), -1), real.reshape(len(real), -1)


@pytest.fixture
def network():
    options = (("norm", "batch"), ("width", 4))
    return Network(Architecture("convnet3", 3, (8, 8), 3, options), PLAIN)


@pytest.fixture
def step():
    return Step(jax.random.key(5), jnp.float32(0.5))


@pytest.fixture
def sets():
    keys = jax.random.split(jax.random.key(0), 2)
    synthetic = Synthetic(
        jax.random.normal(keys[0], (6, 8, 8, 3)), jnp.repeat(jnp.eye(3), 2, 0)[:, None]
    )
    batch = Batch(jax.random.normal(keys[1], (9, 8, 8, 3)), jnp.tile(jnp.eye(3), (3, 1)))
    return synthetic, batch


def regression(own, across, taught, ridge):
    """Ridge regression in double precision."""
    own, across, taught = (np.asarray(a, np.float64) for a in (own, across, taught))
    noise = ridge * np.trace(own) / len(own)
    return across @ np.linalg.solve(own + noise * np.eye(len(own)), taught)


def test_answers_are_those_of_ridge_regression(sets):
    synthetic, batch = sets
    a, b = (s.images.reshape(len(s.images), -1) for s in (synthetic, batch))
    taught = synthetic.taught() - 1 / 3
    found = answers(a @ a.T, b @ a.T, taught, 0.01)
    np.testing.assert_allclose(found, regression(a @ a.T, b @ a.T, taught, 0.01), atol=1e-4)
    # Without noise it repeats what it was taught.
    np.testing.assert_allclose(answers(a @ a.T, a @ a.T, taught, 1e-6), taught, atol=1e-3)


@pytest.mark.parametrize("error", ["squared", "scaled"])
def test_frepos_loss_is_half_the_squared_error(error, sets, step):
    synthetic, batch = sets
    objective = NeuralFeatureRegression(networks=2, ridge=0.01, error=error)
    state = objective.start(Pixels(), jax.random.key(0))
    found = objective.loss(Pixels(), ((), state), step, synthetic, batch)
    a, b = (np.asarray(s.images).reshape(len(s.images), -1) for s in (synthetic, batch))
    answered = regression(a @ a.T, b @ a.T, np.asarray(synthetic.taught()) - 1 / 3, 0.01)
    real = np.asarray(batch.classes) - 1 / 3
    if error == "scaled":  # by least squares
        answered *= np.linalg.lstsq(answered.reshape(-1, 1), real.ravel(), rcond=None)[0][0]
    wanted = 0.5 * ((answered - real) ** 2).sum(1).mean()
    assert float(found) == pytest.approx(wanted, rel=1e-3)


def test_a_set_is_regressed_on_with_its_mirror_images_where_there_may_be_some(sets, step):
    synthetic, batch = sets
    objective = NeuralFeatureRegression(networks=2)
    state = objective.start(Pixels(), jax.random.key(0))
    mirrored = Synthetic(
        *(
            jnp.concatenate(pair)
            for pair in (
                (synthetic.images, synthetic.images[:, :, ::-1]),
                (synthetic.probabilities,) * 2,
            )
        )
    )
    may, never = Pixels(view=replace(PLAIN, flip=True)), Pixels()
    wanted = objective.loss(never, ((), state), step, mirrored, batch)
    assert float(objective.loss(may, ((), state), step, synthetic, batch)) == pytest.approx(
        float(wanted), rel=1e-4
    )
    alone = objective.loss(never, ((), state), step, synthetic, batch)
    assert float(alone) != pytest.approx(float(wanted), rel=1e-3)


def test_contrast_alone_gains_nothing_under_the_scaled_error(sets, step):
    """Stronger pixels are answered more faintly: under the squared error that is a gain."""
    synthetic, batch = sets
    stronger = synthetic._replace(images=5 * synthetic.images)
    losses = {}
    for error in ("squared", "scaled"):
        objective = NeuralFeatureRegression(networks=2, ridge=0.01, error=error)
        state = objective.start(Pixels(), jax.random.key(0))
        losses[error] = [
            float(objective.loss(Pixels(), ((), state), step, one, batch))
            for one in (synthetic, stronger)
        ]
    assert losses["scaled"][1] == pytest.approx(losses["scaled"][0], rel=1e-4)
    assert losses["squared"][1] < losses["squared"][0] - 0.01


def test_one_network_learns_from_the_set_and_an_old_one_is_replaced(network, sets, step):
    objective = NeuralFeatureRegression(networks=3, greatest_age=4)
    advance = jax.jit(objective.advance, static_argnums=0)
    before = objective.start(network, jax.random.key(0))
    assert ((before.age >= 0) & (before.age < 4)).all()
    seen = set()
    for number in range(6):
        for age in (0, 3):
            state = before._replace(age=jnp.full(3, float(age)))
            now = Step(jax.random.fold_in(step.key, number), step.progress)
            after = advance(network, state, now, sets[0])
            kernels = [s.variables["params"]["block0"]["conv"]["kernel"] for s in (state, after)]
            changed = np.flatnonzero(
                [not np.array_equal(*pair) for pair in zip(*kernels, strict=True)]
            )
            assert len(changed) == 1
            seen.add(int(changed[0]))
            far = float(jnp.abs(kernels[1] - kernels[0])[changed[0]].mean())
            if age == 0:  # a step of 0.001
                assert far < 0.0011 and after.age[changed[0]] == 1
            else:
                assert far > 0.01 and after.age[changed[0]] == 0
    assert seen == {0, 1, 2}


def test_a_network_learns_from_at_most_a_batch_of_the_set(network, sets, step):
    """What it has learnt from four of six images is what it learns from some four alone."""
    whole = NeuralFeatureRegression(networks=1, greatest_age=99)
    part = NeuralFeatureRegression(networks=1, greatest_age=99, batch_size=4)
    state = whole.start(network, jax.random.key(0))
    advance = jax.jit(NeuralFeatureRegression.advance, static_argnums=(0, 1))

    def kernel(objective, images):
        after = advance(objective, network, state, step, images)
        return np.asarray(after.variables["params"]["block0"]["conv"]["kernel"][0])

    def some(rows):
        rows = np.array(rows)
        return Synthetic(sets[0].images[rows], sets[0].probabilities[rows])

    found = kernel(part, sets[0])
    alone = [kernel(whole, some(rows)) for rows in itertools.combinations(range(6), 4)]
    assert sum(np.abs(one - found).max() < 1e-6 for one in alone) == 1
    assert np.abs(kernel(whole, sets[0]) - found).max() > 1e-5


def test_a_network_grows_older_by_the_share_of_the_set_that_it_has_learnt_from(network, sets, step):
    """Three of six images are half a pass over the set: at an age of 2 three steps make it 3.5."""
    objective = NeuralFeatureRegression(networks=1, greatest_age=4, batch_size=3)
    advance = jax.jit(objective.advance, static_argnums=0)
    state = objective.start(network, jax.random.key(0))._replace(age=jnp.full(1, 2.0))
    ages = []
    for number in range(5):
        now = Step(jax.random.fold_in(step.key, number), step.progress)
        state = advance(network, state, now, sets[0])
        ages.append(float(state.age[0]))
    assert ages == [2.5, 3.0, 3.5, 0.0, 0.5]


@pytest.mark.parametrize(
    ("chosen", "count", "age"), [(None, 100, 20), (None, 101, 100), (7, 100, 7), (7, 101, 7)]
)
def test_networks_are_kept_longer_for_a_set_of_more_than_a_batch(chosen, count, age):
    refiner = Refiner(NeuralFeatureRegression(greatest_age=chosen))
    assert refiner.sized(count).objective == NeuralFeatureRegression(greatest_age=age)


def test_a_network_is_as_old_as_its_set_lets_it_become(network, sets, step):
    """Six images are more than a batch of five, and not more than one of six."""
    for batch_size, replaced in ((5, False), (6, True)):
        objective = NeuralFeatureRegression(networks=1, batch_size=batch_size)
        state = objective.start(network, jax.random.key(0))._replace(age=jnp.full(1, 19.5))
        after = jax.jit(objective.advance, static_argnums=0)(network, state, step, sets[0])
        assert (float(after.age[0]) == 0) == replaced


def test_a_set_of_more_than_a_batch_is_not_doubled_by_its_mirror_images(sets, step):
    synthetic, batch = sets
    may = Pixels(view=replace(PLAIN, flip=True))
    losses = {}
    for mirrored, batch_size in ((True, 6), (True, 5), (False, 6)):
        objective = NeuralFeatureRegression(
            networks=2, mirrored=mirrored, batch_size=batch_size, error="squared"
        )
        state = objective.start(may, jax.random.key(0))
        loss = objective.loss(may, ((), state), step, synthetic, batch)
        losses[mirrored, batch_size] = float(loss)
    assert losses[True, 5] == losses[False, 6] != losses[True, 6]


def test_the_kernel_is_that_of_the_selector_and_its_slope_is_finite():
    chance = np.random.default_rng(0)
    a, b = chance.normal(size=(5, 7)), chance.normal(size=(4, 7))
    a, b = a.astype(np.float32), b.astype(np.float32)
    found = arc_cosine(jnp.asarray(a), jnp.asarray(b))
    np.testing.assert_allclose(found, kernel_student.arc_cosine(a, b), atol=1e-5)
    same = jax.grad(lambda rows: arc_cosine(rows, rows).sum())(jnp.asarray(a))
    assert np.isfinite(same).all()
    step, direction = 1e-2, chance.normal(size=a.shape).astype(np.float32)

    def total(rows):
        return np.float64(arc_cosine(jnp.asarray(rows), jnp.asarray(b)).sum())

    difference = (total(a + step * direction) - total(a - step * direction)) / (2 * step)
    gradient = jax.grad(lambda rows: arc_cosine(rows, jnp.asarray(b)).sum())(jnp.asarray(a))
    assert float((gradient * direction).sum()) == pytest.approx(difference, rel=0.02)


@pytest.mark.parametrize("error", ["cross_entropy", "squared"])
def test_kips_loss_is_the_error_of_the_kernel_student(error, sets, step):
    synthetic, batch = sets
    objective = KernelRegression(networks=1, ridge=0.1, error=error)
    found = objective.loss(Pixels(), ((), ()), step, synthetic, batch)
    a, b = (np.asarray(s.images).reshape(len(s.images), -1) for s in (synthetic, batch))
    own, across = kernel_student.arc_cosine(a, a), kernel_student.arc_cosine(b, a)
    answered = regression(own, across, np.asarray(synthetic.taught()) - 1 / 3, 0.1)
    classes = np.asarray(batch.classes)
    if error == "squared":
        wanted = 0.5 * ((answered - (classes - 1 / 3)) ** 2).sum(1).mean()
    else:
        logits = answered / kernel_student.TEMPERATURE
        wanted = -(scipy.special.log_softmax(logits, 1) * classes).sum(1).mean()
    assert float(found) == pytest.approx(wanted, rel=1e-3)


def test_real_images_are_seen_as_by_a_student_that_knows_the_set_alone(network, sets):
    synthetic, batch = sets
    variables = network.init(jax.random.key(0))
    seen, real = network.features(variables, synthetic.images, batch.images)
    assert seen.shape == (6, 4) and real.shape == (9, 4)
    # The set itself, as if it were real, is seen as it is.
    same = network.features(variables, synthetic.images, synthetic.images)
    np.testing.assert_allclose(same[1], same[0], atol=1e-4)
    # What one real image looks like does not depend on the others.
    alone = network.features(variables, synthetic.images, batch.images[:1])[1]
    np.testing.assert_allclose(alone[0], real[0], atol=1e-4)


class LeftOutByChance(Backbone):
    """Batch norm, and stochastic depth before the last maps, as Swin V2 has it."""

    def __init__(self, architecture, *, rngs):
        self.norm = batch_norm(architecture.channels, rngs=rngs)
        self.stochastic_depth = StochasticDepth(0.5, rngs)

    def features(self, images):
        return images + self.stochastic_depth(self.norm(images))


def test_nothing_is_left_out_by_chance_of_a_set_that_is_compared(sets, monkeypatch):
    monkeypatch.setitem(BACKBONES, "left_out_by_chance", LeftOutByChance)
    network = Network(Architecture("left_out_by_chance", 3, (8, 8)), PLAIN)
    images = sets[0].images
    seen, real = network.features(network.init(jax.random.key(0)), images, images)
    np.testing.assert_allclose(seen, real, atol=1e-4)


def test_a_set_is_improved_for_how_real_images_are_normalised_by_it(network, sets):
    synthetic, batch = sets
    variables = network.init(jax.random.key(0))
    direction = jax.random.normal(jax.random.key(1), synthetic.images.shape)

    def seen_of_real(amount):
        images = synthetic.images + amount * direction
        return (network.features(variables, images, batch.images)[1] ** 2).sum()

    step = 1e-2
    difference = (seen_of_real(step) - seen_of_real(-step)) / (2 * step)
    assert abs(difference) > 1
    assert float(jax.grad(seen_of_real)(0.0)) == pytest.approx(float(difference), rel=0.02)


def test_by_running_averages_no_image_changes_what_is_seen_of_another(network, sets):
    synthetic, batch = sets
    variables = network.init(jax.random.key(0))
    variables = network.train(variables, batch.images)[1]
    seen, real = network.features(variables, synthetic.images, batch.images, "running")
    alone, same = network.features(variables, synthetic.images[:1], synthetic.images, "running")
    np.testing.assert_allclose(alone[0], seen[0], atol=1e-4)
    np.testing.assert_allclose(same, seen, atol=1e-4)
    by_set = network.features(variables, synthetic.images, batch.images)[1]
    assert float(jnp.abs(by_set - real).max()) > 0.1


@pytest.mark.usefixtures("unchecked")
def test_an_error_that_there_is_not_is_refused():
    with pytest.raises(InputError, match="error 'absolute' is unknown: choose scaled, squared"):
        NeuralFeatureRegression(error="absolute")
    with pytest.raises(InputError, match="normalised_by 'batch' is unknown: choose set, running"):
        NeuralFeatureRegression(normalised_by="batch")
    with pytest.raises(InputError, match="choose cross_entropy, squared"):
        KernelRegression(error="scaled")
    with pytest.raises(InputError, match="batch_size is 0; it must be"):
        NeuralFeatureRegression(batch_size=0)


def test_a_row_of_zeros_has_a_gradient():
    rows = jnp.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    gradient = jax.grad(lambda rows: arc_cosine(rows, rows).sum())(rows)
    assert np.isfinite(gradient).all()
