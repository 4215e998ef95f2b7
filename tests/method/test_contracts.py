"""What the parts of a recipe hand to one another."""

import numpy as np

from infoutil_jax.method.contracts import Pool


def test_a_mirror_image_shows_the_same_unless_a_pool_says_that_it_does_not():
    images, labels = np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2, np.int32)
    assert Pool(images, labels).flip
    assert not Pool(images, labels, flip=False).flip
