"""VGG-11 beyond torchvision's case: heads, sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoutil_jax import models
from infoutil_jax.errors import InputError
from infoutil_jax.models.vgg import adaptive_mean


@pytest.mark.parametrize(("size", "parameters"), [(32, 9_231_114), (64, 9_231_114)])
def test_small_images_have_a_small_head(size, parameters):
    predict, variables = models.outline(
        models.Architecture.of("vgg11_bn", num_classes=10, image_size=size)
    )
    leaves = jax.tree.leaves(variables["params"])
    assert sum(int(np.prod(leaf.shape)) for leaf in leaves) == parameters
    batch = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    assert jax.eval_shape(predict, variables, batch).shape == (2, 10)


def test_the_adaptive_mean_covers_maps_of_any_size():
    """PyTorch's definition: window i holds pixels floor(i L / n) to ceil((i + 1) L / n)."""
    maps = np.random.default_rng(0).standard_normal((2, 9, 3, 4), np.float32)
    got = adaptive_mean(jnp.asarray(maps), 7)
    for i, j in np.ndindex(7, 7):
        rows = slice(i * 9 // 7, -(-(i + 1) * 9 // 7))
        columns = slice(j * 3 // 7, -(-(j + 1) * 3 // 7))
        np.testing.assert_allclose(got[:, i, j], maps[:, rows, columns].mean((1, 2)), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"image_size": 31}, "31×31 pixels are too small for VGG-11"),
        ({"norm": "batch"}, "backbone vgg11 has no option 'norm'"),
        ({"head": "big"}, "head 'big' is unknown"),
    ],
)
def test_bad_options_are_told(change, sentence):
    with pytest.raises(InputError, match=sentence):
        models.outline(
            models.Architecture.of("vgg11", **{"num_classes": 10, "image_size": 32, **change})
        )
