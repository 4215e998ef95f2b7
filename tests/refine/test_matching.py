"""Distances between class means by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from infoutil_jax.refine import Batch, DistributionMatching, Step, Synthetic
from tests.refine.test_regression import Pixels

STEP = Step(jax.random.key(0), jnp.float32(0))


def flat(*values):
    """Images of one pixel each and one channel."""
    return jnp.array(values, jnp.float32).reshape(-1, 1, 1, 1)


def test_the_loss_is_the_sum_of_squared_distances_between_means():
    synthetic = Synthetic(flat(1, 3, 10), jnp.eye(3)[jnp.array([0, 0, 1])][:, None])
    batch = Batch(flat(0, 2, 4, 7), jnp.eye(3)[jnp.array([0, 0, 0, 1])])
    loss = DistributionMatching().loss(Pixels(), ((), ()), STEP, synthetic, batch)
    assert float(loss) == 0 + 9
    gradient = jax.grad(
        lambda images: DistributionMatching().loss(
            Pixels(), ((), ()), STEP, synthetic._replace(images=images), batch
        )
    )(flat(2, 3, 10))
    np.testing.assert_allclose(gradient.ravel(), [0.5, 0.5, 6])


def test_a_class_that_the_batch_lacks_does_not_count():
    synthetic = Synthetic(flat(1, 5), jnp.eye(2)[:, None])
    batch = Batch(flat(1), jnp.eye(2)[:1])
    assert float(DistributionMatching().loss(Pixels(), ((), ()), STEP, synthetic, batch)) == 0


def test_soft_labels_weigh_an_image_in_each_class():
    synthetic = Synthetic(flat(0, 4), jnp.array([[[0.75, 0.25]], [[0.25, 0.75]]]))
    batch = Batch(flat(1, 3), jnp.eye(2))
    assert float(DistributionMatching().loss(Pixels(), ((), ()), STEP, synthetic, batch)) == 0
