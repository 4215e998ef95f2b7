"""Gradient norms of our backbones go by layers, and are those of `vmap(grad)`."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from infoutil_jax.gradients import gradient_norms
from infoutil_jax.method.scores import GradientNorm
from infoutil_jax.models import as_predict, create

rng = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("convnet3", {"width": 8}),
        ("convnet3", {"width": 40, "norm": "instance"}),
        pytest.param("resnet18", {"width": 8, "stem": "cifar"}, marks=pytest.mark.slow),
        pytest.param("resnet50", {"width": 8, "remat": True}, marks=pytest.mark.slow),
        pytest.param("mobilenet_v2", {}, marks=pytest.mark.slow),
        pytest.param("vgg11_bn", {}, marks=pytest.mark.slow),
        pytest.param("swin_v2_t", {}, marks=pytest.mark.slow),
    ],
)
def test_every_backbone(name, options):
    module = create(name, num_classes=5, image_size=32, rngs=nnx.Rngs(0), **options)
    predict, variables = as_predict(module)
    crops, labels = jnp.asarray(rng.normal(size=(3, 32, 32, 3)), jnp.float32), np.array([0, 4, 2])

    def loss(params, example):
        logits = predict({**variables, "params": params}, example[0][None])[0]
        return -jax.nn.log_softmax(logits)[example[1]]

    expected = gradient_norms(loss, variables["params"], (crops, labels), method="vmap")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing large is formed
        norms = GradientNorm()(predict, variables, crops, labels)
    np.testing.assert_allclose(norms, expected, rtol=1e-5)
