"""Shared layers have PyTorch's initial weights and padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from infoutil_jax.models.layers import batch_norm, convolution, linear, max_pool


def test_initial_weights_are_torchvisions():
    conv = convolution(16, 64, 3, bias=True, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(np.std(conv.kernel[...]), np.sqrt(2 / (9 * 64)), rtol=0.05)
    assert not np.any(conv.bias[...])
    kernel = linear(100, 50, rngs=nnx.Rngs(0)).kernel[...]
    assert np.abs(kernel).max() <= 0.1 and np.std(kernel) == pytest.approx(0.1 / 3**0.5, rel=0.05)


@pytest.mark.parametrize(("kernel", "stride", "out"), [(3, 1, 9), (3, 2, 5), (7, 2, 5), (1, 2, 5)])
def test_padding_is_half_the_kernel(kernel, stride, out):
    conv = convolution(1, 2, kernel, stride=stride, rngs=nnx.Rngs(0))
    assert conv(np.zeros((1, 9, 9, 1), np.float32)).shape == (1, out, out, 2)


def test_groups_see_their_own_channels():
    conv = convolution(4, 4, 3, groups=4, rngs=nnx.Rngs(0))
    images = jax.random.normal(jax.random.key(0), (1, 5, 5, 4))
    changed = images.at[..., 2].set(0)
    moved = np.abs(conv(images) - conv(changed)).max((0, 1, 2)) > 0
    np.testing.assert_array_equal(moved, [False, False, True, False])


def test_a_max_pool_pads_with_nothing():
    images = -np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3, 1)
    pooled = max_pool(jnp.asarray(images), 3, 2, padding=1)
    np.testing.assert_array_equal(pooled[0, ..., 0], [[-1, -2], [-4, -5]])


def test_batch_norms_running_averages_are_flaxs_and_have_a_gradient():
    images = 3 * jax.random.normal(jax.random.key(0), (5, 4, 3, 2)) + 1
    ours, flaxs = batch_norm(2, rngs=nnx.Rngs(0)), nnx.BatchNorm(2, momentum=0.9, rngs=nnx.Rngs(0))
    for layer in (ours, flaxs):
        layer.train()
    np.testing.assert_array_equal(ours(images), flaxs(images))
    np.testing.assert_array_equal(ours.mean[...], flaxs.mean[...])
    np.testing.assert_array_equal(ours.var[...], flaxs.var[...])
    by_images = [
        jax.grad(lambda images, layer=layer: (nnx.clone(layer)(images) ** 3).sum())(images)
        for layer in (ours, flaxs)
    ]
    np.testing.assert_array_equal(*by_images)
    ours.eval()
    before = np.asarray(ours.mean[...])
    ours(images + 1)
    np.testing.assert_array_equal(ours.mean[...], before)

    def averages(images):
        layer = batch_norm(2, rngs=nnx.Rngs(0))
        layer.train()
        layer(images)
        return (layer.mean[...].sum(), layer.var[...].sum())

    # d mean / dx = 0.1 / n and d var / dx = 0.2 (x - mean) / n, of n values a channel.
    of_mean, of_var = jax.jacrev(averages)(images)
    np.testing.assert_allclose(of_mean, 0.1 / 60, rtol=1e-5)
    np.testing.assert_allclose(of_var, 0.2 * (images - images.mean((0, 1, 2))) / 60, atol=1e-6)


def test_running_averages_keep_their_type():
    """Else a network that learns under x64 is of another type after a step than before it."""
    layer = batch_norm(2, rngs=nnx.Rngs(0))
    layer.train()
    with jax.enable_x64(True):
        layer(jnp.asarray(np.random.default_rng(0).normal(size=(5, 4, 3, 2))))
        assert layer.mean[...].dtype == layer.var[...].dtype == jnp.float32
