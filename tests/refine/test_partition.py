"""Tiles as images of their own: what the objective sees, and where steps go."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoutil_jax.data.siamese import PLAIN
from infoutil_jax.errors import InputError
from infoutil_jax.image import mosaic
from infoutil_jax.image.resampling import resized
from infoutil_jax.method.contracts import Pool
from infoutil_jax.refine import Objective, Refiner, spectrum
from tests.refine.test_spectrum import SCALE

KEY = jax.random.key(0)


@dataclass(frozen=True)
class Seen(Objective):
    """Its loss is finite only where it sees each tile, enlarged, with its own probabilities."""

    def loss(self, network, known, step, synthetic, batch):
        assert synthetic.images.shape == (12, 8, 8, 3)
        assert synthetic.probabilities.shape == (12, 1, 3)
        # Made of even tiles: enlarged, each is of one colour still.
        uneven = jnp.abs(synthetic.images - synthetic.images[:, :1, :1]).max()
        wrong = (synthetic.taught().argmax(1) != jnp.arange(12) // 4).any()
        loss = (synthetic.images[1] ** 2).mean()
        return jnp.where((uneven > 1e-3) | wrong, jnp.nan, loss)


PARTED = Refiner(Seen(), steps=3, batch_size=4, view=PLAIN, partition=True, spectral=False)


@pytest.fixture
def tiled():
    """Three images of four tiles of one colour each, and soft labels that say their class."""
    colours = np.random.default_rng(0).integers(0, 256, (3, 4, 1, 1, 3), np.uint8)
    images = mosaic.assemble(np.broadcast_to(colours, (3, 4, 4, 4, 3)), (8, 8))
    soft = np.repeat(5 * np.eye(3, dtype=np.float32)[:, None], 4, 1)
    return images, soft


def pool_of(images):
    return Pool(images, np.arange(len(images)) % 3, True)


def test_the_objective_sees_each_tile_enlarged_and_moves_that_tile_alone(tiled, teacher):
    pool = pool_of(np.random.default_rng(1).integers(0, 256, (30, 8, 8, 3), np.uint8))
    images, _ = replace(PARTED, learning_rate=0.1)(KEY, teacher, *tiled, pool)
    change = mosaic.split(images, 4).astype(int) - mosaic.split(tiled[0], 4)
    assert (change[0, 1] != 0).any()
    change[0, 1] = 0
    assert not change.any()


def test_without_partition_the_objective_sees_whole_images(tiled, teacher):
    pool = pool_of(tiled[0])
    with pytest.raises(AssertionError):
        replace(PARTED, partition=False)(KEY, teacher, *tiled, pool)


def test_a_partition_needs_equal_tiles(teacher):
    images = np.zeros((3, 9, 9, 3), np.uint8)
    with pytest.raises(InputError, match=r"9×9 pixels have no grid of 4 equal tiles"):
        PARTED(KEY, teacher, images, np.zeros((3, 4, 3), np.float32), pool_of(images))


def test_each_tile_steps_in_the_spectrum_of_images_of_its_size(tiled):
    pool = pool_of(np.random.default_rng(1).integers(0, 256, (60, 8, 8, 3), np.uint8))
    found = spectrum.measured(pool, SCALE, 4)
    small = np.asarray(resized(jnp.asarray(pool.images, jnp.float32), (4, 4))).round()
    alone = spectrum.measured(Pool(small.astype(np.uint8), pool.labels, True), SCALE)
    np.testing.assert_allclose(found.scale, alone.scale, rtol=0.02)
    change, slope = jax.random.normal(KEY, (2, 3, 8, 8, 3))
    tiles = mosaic.split(change, 4)
    wanted = found.pixels(tiles.reshape(-1, 4, 4, 3)).reshape(tiles.shape)
    np.testing.assert_allclose(mosaic.split(found.pixels(change), 4), wanted, atol=1e-5)
    wanted = jax.grad(lambda c: (found.pixels(c) * slope).sum())(change)
    np.testing.assert_allclose(found.gradient(slope), wanted, rtol=1e-4, atol=1e-4)
