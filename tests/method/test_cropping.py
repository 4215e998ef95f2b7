"""Boxes from maps: the right window, in the image, of each image's own chance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoutil_jax.errors import InputError
from infoutil_jax.image.grid import both, edges
from infoutil_jax.method.cropping import (
    EveryWindow,
    MassBoxes,
    RandomResizedBoxes,
    ShapleyBoxes,
    Union,
    WholeImage,
    pool_maps,
)
from infoutil_jax.method.shapley_maps import ShapleyConfig


def shapley_boxes(keys, maps, image_size, **options):
    return ShapleyBoxes(**options)(keys, maps, image_size)


def random_resized_boxes(keys, maps, image_size, **options):
    return RandomResizedBoxes(**options)(keys, maps, image_size)


def mass_boxes(keys, maps, image_size, **options):
    return MassBoxes(**options)(keys, maps, image_size)


def keys_of(ids, seed=0):
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(jnp.asarray(ids))


def noise_maps(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def assert_inside(boxes, image_size):
    boxes = np.asarray(boxes)
    assert (boxes[..., :2] >= 0).all()
    assert (boxes[..., 2:] >= 1).all()
    assert (boxes[..., :2] + boxes[..., 2:] <= image_size).all()


@pytest.mark.parametrize("size", [(6, 6), (8, 8), (12, 40), (40, 12), (20, 50), (50, 20)])
def test_no_random_box_is_smaller_than_it_may_be(size):
    boxes = random_resized_boxes(keys_of(range(200)), None, size, least_side=8)
    assert_inside(boxes, size)
    assert int(boxes[..., 2:].min()) >= min(*size, 8)
    if 0.08 * size[0] * size[1] >= 8 * 8:  # such boxes are none of fewer than 8 pixels a side
        plain = random_resized_boxes(keys_of(range(200)), None, size)
        np.testing.assert_array_equal(boxes, plain)


def test_ten_sizes_are_drawn_before_the_central_square_is_taken():
    """Of boxes on an image of 20x60: a side of at most 20 pixels, rounded, fits."""
    boxes = random_resized_boxes(keys_of(range(1000)), None, (20, 60)).reshape(-1, 4)
    fits = (20.5**2 / 1200 - 0.08) / 0.92
    central = (boxes == jnp.array([0, 20, 20, 20])).all(-1).mean()
    assert float(central) == pytest.approx((1 - fits) ** 10, abs=0.01)


@pytest.mark.parametrize("window", [1, 2, (3, 1), (4, 5)])
def test_pooling_is_the_mean_over_every_window(window):
    maps = noise_maps((2, 4, 5))
    shape = window if isinstance(window, tuple) else (window, window)
    windows = np.lib.stride_tricks.sliding_window_view(maps, shape, axis=(1, 2))
    np.testing.assert_allclose(pool_maps(maps, window), windows.mean((-1, -2)), atol=1e-6)
    if window == 2:
        np.testing.assert_array_equal(pool_maps(maps), pool_maps(maps, window))


def test_the_last_crop_is_exactly_the_best_quarter_of_a_4x4_grid():
    maps = np.zeros((9, 4, 4), np.float32)
    places = [(row, column) for row in range(3) for column in range(3)]
    for image, (row, column) in enumerate(places):
        maps[image, row : row + 2, column : column + 2] = 1
    boxes = shapley_boxes(keys_of(range(9)), maps, (224, 128))
    assert boxes.shape == (9, 5, 4)
    np.testing.assert_array_equal(boxes[:, -1], [(56 * r, 32 * c, 112, 64) for r, c in places])


def test_ties_go_to_the_first_window():
    boxes = shapley_boxes(keys_of([0]), np.ones((1, 4, 4), np.float32), (32, 32))
    np.testing.assert_array_equal(boxes, np.tile([0, 0, 16, 16], (1, 5, 1)))


def test_a_box_depends_on_its_image_alone():
    maps = noise_maps((6, 4, 4))
    whole = shapley_boxes(keys_of(range(6)), maps, (32, 32))
    part = shapley_boxes(keys_of([4, 2]), maps[[4, 2]], (32, 32))
    np.testing.assert_array_equal(part, whole[jnp.array([4, 2])])
    random = random_resized_boxes(keys_of(range(6)), maps, (32, 32))
    np.testing.assert_array_equal(
        random_resized_boxes(keys_of([4, 2]), None, (32, 32)), random[jnp.array([4, 2])]
    )


def test_more_crops_do_not_change_the_earlier_draws():
    maps, keys = noise_maps((20, 4, 4)), keys_of(range(20))
    three, five = (shapley_boxes(keys, maps, (32, 32), num_crops=n) for n in (3, 5))
    np.testing.assert_array_equal(three[:, :2], five[:, :2])
    np.testing.assert_array_equal(three[:, -1], five[:, -1])
    three, five = (random_resized_boxes(keys, None, (32, 32), num_crops=n) for n in (3, 5))
    np.testing.assert_array_equal(three, five[:, :3])


def test_the_noise_has_alpha_times_the_standard_deviation_of_the_pooled_map():
    # Two windows, pooled values 0 and d: std = d/2, so the noise turns them round where a normal
    # of standard deviation sqrt(2) * alpha * d/2 exceeds d, whatever d is.
    maps = np.tile(np.array([0.0, 0.003], np.float32), (4000, 1, 1))
    boxes = shapley_boxes(keys_of(range(4000)), maps, (1, 2), num_crops=2, window=1, alpha=2.0)
    turned = float((boxes[:, 0, 1] == 0).mean())
    assert turned == pytest.approx(0.23975, abs=0.025)  # 1 - Phi(1 / sqrt 2)
    assert (boxes[:, 1, 1] == 1).all()


def test_no_noise_makes_all_crops_alike():
    boxes = shapley_boxes(keys_of(range(8)), noise_maps((8, 4, 4)), (32, 32), alpha=0.0)
    np.testing.assert_array_equal(boxes, np.tile(boxes[:, -1:], (1, 5, 1)))


def test_a_wider_side_keeps_the_centre_and_is_moved_into_the_image():
    maps = np.zeros((3, 4, 4), np.float32)
    maps[0, 1:3, 1:3] = 1
    maps[1, 2:, 2:] = 1
    maps[2, :2, :2] = 1
    boxes = shapley_boxes(keys_of(range(3)), maps, (32, 32), num_crops=1, side=0.75)
    np.testing.assert_array_equal(boxes[:, 0], [(4, 4, 24, 24), (8, 8, 24, 24), (0, 0, 24, 24)])
    whole = shapley_boxes(keys_of(range(3)), maps, (32, 40), num_crops=1, side=1.0)
    np.testing.assert_array_equal(whole[:, 0], [(0, 0, 32, 40)] * 3)
    least = shapley_boxes(keys_of(range(3)), maps, (32, 32), num_crops=1, side=0.01)
    np.testing.assert_array_equal(least[:, 0], [(15, 15, 1, 1), (23, 23, 1, 1), (7, 7, 1, 1)])


@given(st.data())
@settings(max_examples=8, deadline=None)
def test_any_grid_on_any_image_gives_boxes_of_one_size_over_the_window(data):
    size = data.draw(st.tuples(st.integers(5, 40), st.integers(5, 40)))
    grid = data.draw(st.tuples(st.integers(2, 5), st.integers(1, 5)))
    maps = noise_maps((3, *grid), data.draw(st.integers(0, 9)))
    boxes = np.asarray(shapley_boxes(keys_of(range(3)), maps, size, num_crops=2))
    assert_inside(boxes, size)
    window = [max(1, n // 2) for n in grid]
    share = [size[i] * window[i] / grid[i] for i in (0, 1)]
    assert (np.abs(boxes[..., 2:] - share) <= 0.5).all()
    pooled = np.asarray(pool_maps(maps, tuple(window)))
    for image in range(3):
        best = np.unravel_index(pooled[image].argmax(), pooled.shape[1:])
        for axis in (0, 1):
            border = edges(size[axis], grid[axis])
            middle = (border[best[axis]] + border[best[axis] + window[axis]]) / 2
            start, extent = boxes[image, -1, axis], boxes[image, -1, axis + 2]
            assert abs(start + extent / 2 - middle) <= 1


def test_random_boxes_have_uniform_area_and_place():
    boxes = np.asarray(random_resized_boxes(keys_of(range(4000)), None, (100, 100), num_crops=1))
    boxes = boxes[:, 0]
    assert_inside(boxes, (100, 100))
    np.testing.assert_array_equal(boxes[:, 2], boxes[:, 3])
    area = boxes[:, 2] ** 2 / 1e4
    np.testing.assert_allclose(
        np.quantile(area, [0, 0.25, 0.5, 0.75, 1]), [0.08, 0.31, 0.54, 0.77, 1.0], atol=0.03
    )
    small = boxes[boxes[:, 2] < 60]
    place = small[:, :2] / (100 - small[:, 2:])
    assert place.min() == 0
    assert place.max() == 1
    np.testing.assert_allclose(place.mean(0), 0.5, atol=0.04)


def test_random_boxes_on_long_images_fit_or_fall_back_to_the_central_square():
    boxes = random_resized_boxes(keys_of(range(200)), None, (20, 60))
    assert_inside(boxes, (20, 60))
    assert len(np.unique(boxes[..., 2])) > 5
    # Every square of at least 80% of the area is taller than the image.
    boxes = random_resized_boxes(keys_of([0]), None, (20, 60), num_crops=2, scale=(0.8, 1.0))
    np.testing.assert_array_equal(boxes, np.tile([0, 20, 20, 20], (1, 2, 1)))


def test_the_whole_image_comes_last():
    keys, maps = keys_of([0, 1]), np.zeros((2, 1, 1), np.float32)
    boxes = Union(RandomResizedBoxes(), WholeImage())(keys, maps, (28, 30))
    np.testing.assert_array_equal(boxes[:, :-1], random_resized_boxes(keys, maps, (28, 30)))
    np.testing.assert_array_equal(boxes[:, -1], [[0, 0, 28, 30]] * 2)


def test_the_whole_image_is_one_box():
    boxes = WholeImage()(keys_of([0, 1]), None, (28, 30))
    np.testing.assert_array_equal(boxes, [[[0, 0, 28, 30]]] * 2)


@pytest.mark.parametrize("window", [(0, 2), (2, 0), (5, 2), (2, 4), 0, 5])
def test_a_window_fits_its_map_on_either_axis(window):
    """Of 4x3 patches; told alike, whoever finds it."""
    height, width = both(window)
    message = f"the window {height}x{width} does not fit a map of 4x3 patches"
    for told in (
        lambda: pool_maps(np.ones((1, 4, 3), np.float32), window),
        lambda: ShapleyBoxes(window=window).windows((4, 3), (8, 8)),
        lambda: ShapleyConfig(grid=(4, 3), window=window),
        lambda: ShapleyConfig(grid=(4, 3), window=window, strategy="kernel"),
    ):
        with pytest.raises(InputError, match=message):
            told()


@pytest.mark.parametrize("window", [1, (4, 1), (1, 3), (4, 3), (2, 1)])
def test_a_window_may_be_of_one_patch_and_of_all(window):
    height, width = both(window)
    assert pool_maps(noise_maps((1, 4, 3)), window).shape == (1, 5 - height, 4 - width)
    assert ShapleyBoxes(window=window).windows((4, 3), (8, 6)).shape == (5 - height, 4 - width, 4)
    ShapleyConfig(grid=(4, 3), window=window)
    ShapleyConfig(grid=(4, 3), window=window, strategy="kernel")


def test_the_papers_settings_are_defaults():
    """Five crops, noise of two standard deviations, half the grid; RDED's crops."""
    assert ShapleyBoxes() == ShapleyBoxes(num_crops=5, window=None, side=None, alpha=2.0)
    assert RandomResizedBoxes() == RandomResizedBoxes(5, scale=(0.08, 1.0), least_side=1)
    assert MassBoxes() == MassBoxes(0.9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: shapley_boxes(keys_of([0]), np.ones((1, 4, 4)), (32, 32), side=1.5), "side is"),
        (lambda: shapley_boxes(keys_of([0]), np.ones((1, 4, 4)), (2, 32)), "2 pixels cannot"),
        (lambda: shapley_boxes(keys_of([0]), np.ones((1, 4, 4)), (8, 8), num_crops=0), "num_crops"),
        (lambda: random_resized_boxes(keys_of([0]), None, (8, 8), scale=(0.5, 0.1)), "scale is"),
        (lambda: ShapleyBoxes(alpha=-1.0), "alpha is -1.0"),
        (lambda: ShapleyBoxes(side=0.0), "side is 0.0"),
        (lambda: RandomResizedBoxes(least_side=0), "least_side is 0; it must be at least 1"),
        (lambda: WholeImage()(keys_of([0]), None, (0, 8)), "give a positive height and width"),
        (lambda: Union(), "a union of no croppers"),
    ],
)
def test_bad_input_is_told_in_a_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_every_window_of_a_grid_by_rows_whatever_the_maps():
    cut = EveryWindow(ShapleyBoxes(window=(1, 2)))
    boxes = cut(keys_of(range(5)), np.zeros((5, 2, 3), np.float32), (8, 30))
    expected = [[top, left, 4, 20] for top in (0, 4) for left in (0, 10)]
    np.testing.assert_array_equal(boxes, [expected] * 5)


def test_the_smallest_window_that_keeps_the_mass():
    maps = np.full((3, 4, 4), -1.0, np.float32)
    maps[0, 3, 0] = 5.0  # one patch holds it all
    maps[1, 1:3, 2:4] = 1.0  # a square of four
    maps[2, 0, 0] = maps[2, 3, 3] = 1.0  # opposite corners
    boxes = mass_boxes(keys_of(range(3)), maps, (32, 64), mass=1.0)
    expected = [[24, 0, 8, 16], [8, 32, 16, 32], [0, 0, 32, 64]]
    np.testing.assert_array_equal(boxes[:, 0], expected)
    half = mass_boxes(keys_of(range(3)), maps, (32, 64), mass=0.5)
    np.testing.assert_array_equal(half[2, 0], [0, 0, 8, 16])
    # Two of the square's four patches never lie in one patch: a window of four holds the half.
    np.testing.assert_array_equal(half[1, 0], [8, 32, 16, 32])


def test_on_a_long_grid_a_window_spans_the_same_share_of_both_axes():
    """Of 2x4 patches the windows are 1x1, 1x2, 2x3 and 2x4; each patch has 8x8 pixels."""
    maps = np.zeros((3, 2, 4), np.float32)
    maps[0, 0, 1:3] = 1.0  # two patches side by side
    maps[1, :, 0] = maps[1, 0, 2] = 1.0  # three that 2x3 patches hold
    maps[2, :, 1] = 1e-4  # two patches, one above the other, however little they say
    boxes = mass_boxes(keys_of(range(3)), maps, (16, 32), mass=1.0)
    expected = np.array([[0, 8, 8, 16], [0, 0, 16, 24], [0, 0, 16, 24]])
    np.testing.assert_array_equal(boxes[:, 0], expected)
    tall = mass_boxes(keys_of(range(3)), maps.swapaxes(1, 2), (32, 16), mass=1.0)
    np.testing.assert_array_equal(tall[:, 0], expected[:, [1, 0, 3, 2]])


def test_without_anything_positive_the_image_stays_whole():
    boxes = mass_boxes(keys_of([0, 1]), -np.ones((2, 3, 5), np.float32), (33, 50))
    np.testing.assert_array_equal(boxes, np.tile([0, 0, 33, 50], (2, 1, 1)))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.sampled_from([0.05, 0.3, 0.5, 0.9, 1.0]))
def test_mass_boxes_hold_the_mass_and_none_smaller_does(seed, mass):
    maps = np.maximum(noise_maps((8, 4, 4), seed), 0)
    boxes = np.asarray(mass_boxes(keys_of(range(8)), maps, (16, 16), mass=mass))[:, 0] // 4
    for image, (top, left, height, width) in zip(maps, boxes, strict=True):
        needed = mass * image.sum()
        assert image[top : top + height, left : left + width].sum() >= needed * (1 - 1e-5)
        if height > 1:
            smaller = np.lib.stride_tricks.sliding_window_view(image, (height - 1, width - 1))
            assert smaller.sum((-1, -2)).max() < needed * (1 + 1e-5)


@pytest.mark.parametrize("mass", [0.0, 1.5, -1.0])
def test_a_share_is_a_share(mass):
    with pytest.raises(InputError, match="mass is"):
        mass_boxes(keys_of([0]), np.ones((1, 4, 4), np.float32), (32, 32), mass=mass)


def test_equal_croppers_are_one_key():
    """So that a recipe made twice does not compile twice."""
    assert ShapleyBoxes(3, alpha=1.0) == ShapleyBoxes(num_crops=3, alpha=1.0)
    assert hash(Union(WholeImage(), MassBoxes())) == hash(Union(WholeImage(), MassBoxes()))
    assert Union(WholeImage(), MassBoxes()) != Union(MassBoxes(), WholeImage())
