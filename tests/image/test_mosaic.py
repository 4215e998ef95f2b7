import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoutil_jax.errors import InputError
from infoutil_jax.image.mosaic import arrange, assemble, cells, split, tile_size

squares = st.sampled_from([1, 4, 9, 16])


@st.composite
def image_batches(draw):
    k = draw(squares)
    side = st.integers(int(k**0.5), 20)
    shape = (draw(st.integers(0, 3)), draw(side), draw(side), draw(st.integers(1, 4)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return rng.integers(0, 256, shape, dtype=np.uint8), k


@given(image_batches())
@settings(deadline=None)
def test_splitting_and_assembling_gives_the_image_back_for_every_size(batch):
    images, k = batch
    size = images.shape[1:3]
    tiles = split(images, k)
    assert tiles.shape == (len(images), k, *tile_size(size, k), images.shape[3])
    np.testing.assert_array_equal(assemble(tiles, size), images)


@given(squares, st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
@settings(deadline=None)
def test_assembling_and_splitting_gives_even_tiles_back(k, height, width, seed):
    tiles = np.random.default_rng(seed).normal(size=(2, k, height, width, 3)).astype(np.float32)
    grid = int(k**0.5)
    images = assemble(tiles, (grid * height, grid * width))
    np.testing.assert_array_equal(split(images, k), tiles)


@given(image_batches())
@settings(deadline=None)
def test_a_tile_shows_its_own_cell_and_nothing_else(batch):
    images, k = batch
    tiles = split(images, k)
    for tile, (top, left, height, width) in enumerate(cells(images.shape[1:3], k)):
        cell = images[:, top : top + height, left : left + width]
        missing = [(0, n - m) for n, m in zip(tiles.shape[2:4], (height, width), strict=True)]
        assert max(extra for _, extra in missing) <= 1
        np.testing.assert_array_equal(
            tiles[:, tile], np.pad(cell, [(0, 0), *missing, (0, 0)], mode="edge")
        )


@given(squares, st.integers(4, 30), st.integers(4, 30))
def test_cells_partition_the_image(k, height, width):
    cover = np.zeros((height, width), int)
    for top, left, h, w in cells((height, width), k):
        cover[top : top + h, left : left + w] += 1
    assert (cover == 1).all()


def test_tiles_are_laid_out_row_by_row():
    tiles = np.arange(4)[None, :, None, None, None]
    np.testing.assert_array_equal(assemble(tiles, (2, 2))[0, :, :, 0], [[0, 1], [2, 3]])


def test_jax_arrays_stay_on_the_device_under_jit():
    images = np.random.default_rng(0).integers(0, 256, (2, 7, 5, 3), dtype=np.uint8)
    tiles = jax.jit(split, static_argnums=1)(jnp.asarray(images), 4)
    back = jax.jit(assemble, static_argnums=1)(tiles, (7, 5))
    assert isinstance(back, jax.Array)
    np.testing.assert_array_equal(tiles, split(images, 4))
    np.testing.assert_array_equal(back, images)


def test_arrange():
    assert arrange(3, 4).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert arrange(3, 4, "strided").tolist() == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]
    assert arrange(2, 1).tolist() == arrange(2, 1, "strided").tolist() == [[0], [1]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: split(np.zeros((1, 8, 8, 3)), 3), "3 tiles do not form a square grid"),
        (lambda: cells((8, 8), 0), "0 tiles do not form a square grid"),
        (lambda: tile_size((2, 8), 9), "2 pixels cannot be cut into 3 cells"),
        (lambda: assemble(np.zeros((1, 4, 3, 4, 3)), (8, 8)), "tiles are 3x4 pixels"),
        (lambda: arrange(0, 4), "at least 1"),
        (lambda: arrange(1, 4, "random"), 'tile_order is "random"'),
    ],
)
def test_bad_input_is_told_in_a_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()
