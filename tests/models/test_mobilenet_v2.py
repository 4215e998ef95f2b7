"""MobileNet-V2 beyond torchvision's case: stems, dropout."""

import jax
import jax.numpy as jnp
import pytest

from infoutil_jax import models


@pytest.mark.parametrize(("size", "maps"), [(32, 2), (64, 4), (128, 4), (224, 7)])
def test_small_images_keep_their_resolution_in_the_stem(size, maps):
    predict, variables = models.outline(
        models.Architecture.of("mobilenet_v2", num_classes=10, image_size=size)
    )
    batch = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    assert jax.eval_shape(predict.features, variables, batch).shape == (2, maps, maps, 1280)
    assert jax.eval_shape(predict, variables, batch).shape == (2, 10)
