"""ResNets beyond torchvision's case (which test_torch_weights.py has): stems, sizes, types."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from infoutil_jax import models
from infoutil_jax.errors import InputError


def small(**options):
    module = models.create(
        "resnet18", num_classes=3, image_size=16, width=4, rngs=nnx.Rngs(0), **options
    )
    return models.as_predict(module)


def images(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


@pytest.mark.parametrize(
    ("name", "size", "options", "maps"),
    [
        ("resnet18", (32, 32), {}, (4, 4, 512)),
        ("resnet18", (64, 64), {}, (8, 8, 512)),
        ("resnet18", (128, 128), {}, (4, 4, 512)),
        ("resnet50", (64, 64), {"stem": "imagenet"}, (2, 2, 2048)),
        ("resnet50", (40, 72), {"stem": "cifar", "width": 16}, (5, 9, 512)),
    ],
)
def test_small_images_keep_their_resolution_in_the_stem(name, size, options, maps):
    predict, variables = models.outline(
        models.Architecture.of(name, num_classes=7, image_size=size, channels=2, **options)
    )
    batch = jax.ShapeDtypeStruct((3, *size, 2), jnp.float32)
    assert jax.eval_shape(predict.features, variables, batch).shape == (3, *maps)
    assert jax.eval_shape(predict, variables, batch).shape == (3, 7)


def test_computing_in_half_precision_keeps_parameters_and_logits_whole():
    predict, variables = small()
    half, same = small(dtype=jnp.bfloat16)
    for a, b in zip(jax.tree.leaves(variables), jax.tree.leaves(same), strict=True):
        np.testing.assert_array_equal(a, b)
    logits = half(variables, images(2, 16, 16, 3))
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, predict(variables, images(2, 16, 16, 3)), atol=0.1)


def test_rematerialised_gradients_are_the_same():
    def gradient(options):
        predict, variables = small(**options)
        params = variables["params"]

        def loss(params):
            return (predict({**variables, "params": params}, images(2, 16, 16, 3)) ** 2).sum()

        return jax.jit(jax.grad(loss))(params)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        gradient({}),
        gradient({"remat": True}),
    )


def test_bad_options_are_told():
    with pytest.raises(InputError, match="stem 'small' is unknown: choose one of imagenet, cifar"):
        small(stem="small")
    with pytest.raises(InputError, match="resnet18 has no option 'norm'"):
        small(norm="batch")
