"""TESLA's gradient is the distance's own for one step, and its memory is that of one for many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoutil_jax.errors import InputError
from infoutil_jax.models import Architecture
from infoutil_jax.refine import Batch, Network, Siamese, Step, Synthetic, TrajectoryMatching
from infoutil_jax.refine.trajectories import distance_after

RATE = jnp.float32(0.1)


def descend(params, shown, number):
    """Least squares of a line through the points that are shown."""
    points, values = shown

    def loss(params):
        return ((points @ params["slope"] + params["offset"] - values * (1 + number)) ** 2).mean()

    return jax.grad(loss)(params)


@pytest.fixture
def line():
    keys = jax.random.split(jax.random.key(0), 3)
    shown = jax.random.normal(keys[0], (5, 2)), jax.random.normal(keys[1], (5,))
    begin = {"slope": jax.random.normal(keys[2], (2,)), "offset": jnp.float32(0.3)}
    target = {"slope": jnp.array([1.0, -1.0]), "offset": jnp.float32(0)}
    return shown, begin, target


def unrolled(steps, shown, rate, begin, target, *, through):
    """The distance with every step written out; `through` differentiates the places, too."""
    params, gone = begin, jax.tree.map(jnp.zeros_like, begin)
    for number in range(steps):
        place = params if through else jax.lax.stop_gradient(params)
        step = jax.tree.map(lambda g: rate * g, descend(place, shown, number))
        gone = jax.tree.map(jnp.add, gone, step)
        params = jax.tree.map(lambda p, s: p - s, place, step)
    ended = jax.tree.map(jnp.subtract, begin, gone)
    parts = [jnp.sum((ended[k] - target[k]) ** 2) for k in begin]
    return sum(parts) / sum(jnp.sum((begin[k] - target[k]) ** 2) for k in begin)


@pytest.mark.parametrize("steps", [1, 7])
def test_the_distance_is_that_after_so_many_steps(steps, line):
    shown, begin, target = line
    found = distance_after(descend, steps, shown, RATE, begin, target)
    wanted = unrolled(steps, shown, RATE, begin, target, through=True)
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize("steps", [1, 7])
def test_each_step_is_differentiated_where_it_stands(steps, line):
    shown, begin, target = line
    found = jax.grad(distance_after, (2, 3))(descend, steps, shown, RATE, begin, target)
    wanted = jax.grad(unrolled, (1, 2))(steps, shown, RATE, begin, target, through=False)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), found, wanted)
    exact = jax.grad(unrolled, (1, 2))(steps, shown, RATE, begin, target, through=True)
    same = jax.tree.map(lambda a, b: np.allclose(a, b, rtol=1e-3), found, exact)
    assert all(jax.tree.leaves(same)) == (steps == 1)


def test_memory_does_not_grow_with_the_steps():
    def gradient(steps):
        big = jnp.zeros((64, 64))
        begin, target = {"w": big}, {"w": big + 1}

        def through(params, shown, number):
            return jax.grad(lambda p: (jnp.tanh(shown @ p["w"]) ** 2).mean())(params)

        whole = jax.jit(
            jax.grad(lambda shown: distance_after(through, steps, shown, RATE, begin, target))
        )
        return whole.lower(jnp.ones((8, 64))).compile().memory_analysis().temp_size_in_bytes

    assert gradient(64) == gradient(2)


@pytest.fixture
def network():
    options = (("norm", "instance"), ("width", 4))
    return Network(Architecture("convnet3", 3, (8, 8), 3, options), Siamese())


def test_experts_learn_and_are_kept_after_every_epoch(network, pool, teacher):
    objective = TrajectoryMatching(
        experts=2, expert_epochs=3, latest=1, latest_at_first=0, expert_batch_size=16
    )
    scale = teacher.normalisation
    paths = objective.prepare(network, jax.random.key(0), pool, scale)
    kernel = paths["block0"]["conv"]["kernel"]
    assert kernel.shape[:2] == (2, 4)
    assert not np.allclose(kernel[0, 0], kernel[1, 0])
    rest = objective.start(network, jax.random.key(1))

    def loss(epoch):
        params = jax.tree.map(lambda leaf: leaf[0, epoch], paths)
        logits, _ = network.train({**rest, "params": params}, scale(pool.images))
        return -jax.nn.log_softmax(logits)[np.arange(len(pool.labels)), pool.labels].mean()

    assert loss(3) < loss(0)


def test_a_set_on_which_nothing_is_learnt_is_as_far_as_the_expert_went(network, pool, teacher):
    objective = TrajectoryMatching(
        experts=1, expert_epochs=2, ahead=2, latest=0, latest_at_first=0, student_steps=2
    )
    paths = objective.prepare(network, jax.random.key(0), pool, teacher.normalisation)
    rest = objective.start(network, jax.random.key(1))
    images = jax.random.normal(jax.random.key(2), (3, 8, 8, 3))
    step, batch = Step(jax.random.key(3), jnp.float32(0)), Batch(images, jnp.eye(3))

    def far(log_rate):
        synthetic = Synthetic(images, jnp.eye(3)[:, None], {"log_rate": jnp.float32(log_rate)})
        return objective.loss(network, (paths, rest), step, synthetic, batch)

    assert float(far(-50.0)) == pytest.approx(1, abs=1e-4)
    assert float(far(np.log(0.01))) != pytest.approx(1, abs=1e-4)


def test_refuses_starts_from_which_no_expert_goes_on():
    with pytest.raises(InputError, match=r"latest are \(0, 5, 19\): .* from 0 to 18, for experts"):
        TrajectoryMatching(latest=19)
    with pytest.raises(InputError, match="student_steps is 0; it must be at least 1"):
        TrajectoryMatching(student_steps=0)
