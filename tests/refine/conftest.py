"""What tests of refinement share: a small set, a pool, and whose normalisation networks get."""

from types import SimpleNamespace

import numpy as np
import pytest

from infoutil_jax.data.augment import Normalisation
from infoutil_jax.method.contracts import Pool

CLASSES, SIDE = 3, 8


@pytest.fixture(scope="session")
def teacher():
    """All that refinement asks of a teacher."""
    mean, std = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
    return SimpleNamespace(mean=mean, std=std, normalisation=Normalisation.of(mean, std))


@pytest.fixture(scope="session")
def pool():
    """Noise about a colour of each class's own."""
    chance = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), (20, 30, 40))
    colours = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200]])[labels]
    noise = chance.normal(0, 25, (len(labels), SIDE, SIDE, 3))
    pixels = (colours[:, None, None] + noise).clip(0, 255).astype(np.uint8)
    return Pool(pixels, labels)


@pytest.fixture(scope="session")
def made():
    """Two grey images a class, and logits that are sure of it."""
    images = np.full((2 * CLASSES, SIDE, SIDE, 3), 120, np.uint8)
    images += np.random.default_rng(1).integers(0, 20, images.shape, np.uint8)
    logits = 4 * np.repeat(np.eye(CLASSES, dtype=np.float32), 2, 0)[:, None]
    return images, logits
