"""What batch normalisation layers see: against arithmetic by hand, for any NNX module."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from infoutil_jax.errors import InputError
from infoutil_jax.models import as_predict, create
from infoutil_jax.models.statistics import batch_norm_inputs


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def randomised(variables):
    """Running statistics, scales and shifts that no initialisation gives."""
    keys = iter(jax.random.split(jax.random.key(1), 100))
    return jax.tree.map(lambda leaf: jax.random.uniform(next(keys), leaf.shape) + 0.5, variables)


@pytest.fixture(scope="module")
def convnet():
    module = create("convnet3", num_classes=4, image_size=8, width=6, rngs=nnx.Rngs(0))
    predict, variables = as_predict(module)
    return predict, {**variables, "batch_stats": randomised(variables["batch_stats"])}


def test_each_layer_of_a_convnet_as_computed_by_hand(convnet):
    predict, variables = convnet
    images = noise(5, 8, 8, 3)
    logits, layers = jax.jit(batch_norm_inputs, static_argnums=0)(predict, variables, images)
    assert len(layers) == 3
    maps = images
    for i, layer in enumerate(layers):
        weights = variables["params"][f"block{i}"]
        stored = variables["batch_stats"][f"block{i}"]["norm"]
        padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
        maps = np.einsum("bhwcij,ijco->bhwo", windows, weights["conv"]["kernel"])
        maps = maps + np.asarray(weights["conv"]["bias"])
        flat = maps.reshape(-1, 6).astype(np.float64)
        np.testing.assert_allclose(layer.batch_mean, flat.mean(0), atol=1e-5)
        np.testing.assert_allclose(layer.batch_var, flat.var(0), rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(layer.running_mean, stored["mean"])
        np.testing.assert_array_equal(layer.running_var, stored["var"])
        maps = (maps - np.asarray(stored["mean"])) / np.sqrt(np.asarray(stored["var"]) + 1e-5)
        maps = np.maximum(maps * weights["norm"]["scale"] + weights["norm"]["bias"], 0)
        batch, height, width, channels = maps.shape
        maps = maps.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))
    np.testing.assert_allclose(logits, predict(variables, images), atol=1e-5)


def test_under_jit_the_gradient_is_that_of_finite_differences(convnet):
    predict, variables = convnet

    def total(images):
        _, layers = batch_norm_inputs(predict, variables, images)
        return sum(layer.batch_mean.sum() + layer.batch_var.sum() for layer in layers)

    images, direction = noise(4, 8, 8, 3), noise(4, 8, 8, 3, seed=1)
    slope = jnp.vdot(jax.jit(jax.grad(total))(images), direction)
    step = 1e-2
    ahead, behind = (jax.jit(total)(images + sign * step * direction) for sign in (1, -1))
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-2)
    assert abs(float(slope)) > 0.01


class Reused(nnx.Module):
    """Called in another order than named; one layer twice; channels first."""

    def __init__(self, rngs):
        self.a = nnx.BatchNorm(2, axis=1, rngs=rngs)
        self.z = nnx.BatchNorm(3, rngs=rngs)

    def __call__(self, images):
        return (self.z(self.a(self.z(images)))).sum(1)


def test_layers_come_in_the_order_of_their_calls():
    predict, variables = as_predict(Reused(nnx.Rngs(0)))
    variables = {**variables, "batch_stats": randomised(variables["batch_stats"])}
    images = noise(5, 2, 3)
    _, (first, second, third) = batch_norm_inputs(predict, variables, images)
    stats = variables["batch_stats"]
    np.testing.assert_allclose(first.batch_mean, images.mean((0, 1)), atol=1e-6)
    inner = (images - stats["z"]["mean"]) / jnp.sqrt(stats["z"]["var"] + 1e-5)
    np.testing.assert_allclose(second.batch_mean, inner.mean((0, 2)), atol=1e-5)
    np.testing.assert_allclose(second.batch_var, inner.var((0, 2)), rtol=1e-4)
    np.testing.assert_array_equal(second.running_mean, stats["a"]["mean"])
    np.testing.assert_array_equal(third.running_var, stats["z"]["var"])
    assert not np.allclose(third.batch_mean, first.batch_mean)


@pytest.mark.parametrize("norm", ["instance", "none"])
def test_a_network_without_batch_normalisation_is_named(norm):
    module = create("convnet3", num_classes=4, image_size=8, width=2, norm=norm, rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match=r"ConvNet\) has no batch normalisation"):
        batch_norm_inputs(*as_predict(module), noise(2, 8, 8, 3))


def test_a_function_that_is_no_module_is_refused():
    with pytest.raises(InputError, match="NNX module only"):
        batch_norm_inputs(lambda variables, images: images, {}, noise(2, 8, 8, 3))


class Rematerialised(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(3, rngs=rngs)

    def __call__(self, images):
        return nnx.remat(lambda norm, x: norm(x))(self.norm, images).sum((1, 2))


def test_a_layer_inside_a_transformation_is_refused_at_once():
    predict, variables = as_predict(Rematerialised(nnx.Rngs(0)))
    with pytest.raises(InputError, match=r"nnx.remat"):
        jax.jit(lambda images: batch_norm_inputs(predict, variables, images))(noise(2, 8, 8, 3))
    with pytest.raises(InputError, match=r"nnx.remat"):
        batch_norm_inputs(predict, variables, noise(2, 8, 8, 3))
