"""Recipes are compositions: each has its paper's defaults, and every part can be replaced."""

import dataclasses

import jax
import numpy as np
import pytest

from infoutil_jax.errors import InputError
from infoutil_jax.image.resampling import centred
from infoutil_jax.method import attribution, scores, selection
from infoutil_jax.method.cropping import RandomResizedBoxes, ShapleyBoxes, Union, WholeImage
from infoutil_jax.method.recipes import (
    RECIPES,
    Recipe,
    ccs,
    el2n,
    forgetting,
    infoutil,
    infoutil_clear,
    infoutil_kernel,
    infoutil_paper,
    random,
    rded,
)
from infoutil_jax.method.shapley_maps import ShapleyConfig, ShapleyMaps
from infoutil_jax.shapley import coalition_design

KEYS = jax.random.split(jax.random.key(0), 3)
IMAGES = jax.random.normal(jax.random.key(1), (3, 8, 8, 1))
LABELS = np.asarray([0, 1, 2])
WEIGHTS = jax.random.normal(jax.random.key(2), (64, 3))


def predict(weights, images):
    return images.reshape(len(images), -1) @ weights


def test_the_recommended_recipe_is_the_kernel_students_and_asks_the_teacher_that_labels():
    """So that nobody who takes the default gets less than random images (README, results)."""
    ours, rule = infoutil(tiles=4), infoutil_kernel(tiles=4)
    assert ours.name == "infoutil" and ours.scorer == rule.scorer == "labeller"
    assert ours.centred and dataclasses.replace(ours, name=rule.name, centred=False) == rule
    assert infoutil_paper().scorer == "teacher"


def test_infoutil_paper_is_the_papers_composition():
    recipe = infoutil_paper(tiles=4)
    maps = recipe.attribute(predict, WEIGHTS, IMAGES, LABELS, KEYS)
    design = coalition_design(16, 256, strategy="kernel")
    np.testing.assert_allclose(
        maps, attribution.patch_shapley(predict, WEIGHTS, IMAGES, LABELS, design, grid=4), atol=1e-5
    )
    boxes = recipe.crop(KEYS, maps, (8, 8))
    np.testing.assert_array_equal(
        boxes,
        ShapleyBoxes(num_crops=5, window=2, side=0.5, alpha=2.0)(KEYS, maps, (8, 8)),
    )
    np.testing.assert_allclose(
        recipe.score(predict, WEIGHTS, IMAGES, LABELS),
        scores.GradientNorm()(predict, WEIGHTS, IMAGES, LABELS),
    )
    assert (recipe.tiles, recipe.fit, recipe.tile_order) == (4, "resize", "consecutive")


def test_rded_is_loss_on_padded_random_crops():
    recipe = rded(tiles=4)
    boxes = recipe.crop(KEYS, np.zeros((3, 1, 1)), (8, 8))
    assert boxes.shape == (3, 5, 4)
    np.testing.assert_array_equal(boxes[..., 2], boxes[..., 3])
    log_probability = jax.nn.log_softmax(predict(WEIGHTS, IMAGES))[np.arange(3), LABELS]
    np.testing.assert_allclose(
        recipe.score(predict, WEIGHTS, IMAGES, LABELS), -log_probability, rtol=1e-5
    )
    assert (recipe.fit, recipe.tile_order) == ("pad", "strided")


def table(values):
    n = len(values)
    return selection.Candidates(
        ids=np.arange(n, dtype=np.int64),
        crops=np.zeros(n, np.int32),
        labels=np.zeros(n, np.int32),
        scores=np.asarray(values, np.float32),
        features={},
    )


def select(recipe, candidates, per_class, seed=0):
    return recipe.selector.finalize(jax.random.key(seed), candidates, per_class)


@pytest.mark.parametrize(
    ("recipe", "first"),
    [(infoutil_paper(), 2), (infoutil_paper(select=selection.TopK("lowest")), 1), (rded(), 1)],
)
def test_direction_of_the_score(recipe, first):
    assert select(recipe, table([2.0, 1.0, 3.0]), 1).ids.tolist() == [first]


def test_random_knows_no_score_and_shows_whole_images():
    recipe = random()
    picks = {int(select(recipe, table([1.0, 2.0, 3.0]), 1, seed).ids[0]) for seed in range(20)}
    assert picks == {0, 1, 2}
    assert recipe.crop(KEYS, np.zeros((3, 1, 1)), (8, 6))[:, 0].tolist() == [[0, 0, 8, 6]] * 3


@pytest.mark.parametrize(("keep", "first"), [("highest", [1, 0]), ("lowest", [2, 0])])
def test_forgetting_goes_by_events_and_shows_whole_images(keep, first):
    recipe = forgetting([3, 6, 0], tiles=4, keep=keep)
    kept = select(recipe, table([2.0, 1.0, 3.0]), 2)
    assert kept.ids.tolist() == first
    assert kept.scores.tolist() == [[3, 6, 0][i] for i in first]
    assert recipe.crop(KEYS, np.zeros((3, 1, 1)), (8, 6))[:, 0].tolist() == [[0, 0, 8, 6]] * 3
    assert (recipe.name, recipe.tiles) == ("forgetting", 4)


def test_el2n_keeps_the_longest_errors():
    recipe = el2n(tiles=4)
    assert recipe.score is scores.el2n
    assert select(recipe, table([0.1, 0.9, 0.5]), 2).ids.tolist() == [1, 2]


def test_ccs_covers_what_is_easy_and_leaves_the_hardest_out():
    recipe = ccs(tiles=4, prune=0.5)
    assert recipe.score is scores.el2n
    kept = select(recipe, table([0.1, 0.9, 0.5, 0.2]), 2)
    assert kept.ids.tolist() == [0, 3]
    assert (recipe.name, recipe.tiles) == ("ccs", 4)


@pytest.mark.parametrize("events", [3, [[1, 2]], ["a"]])
def test_events_are_one_number_an_image(events):
    with pytest.raises(InputError, match="give one number for each training image"):
        forgetting(events)


def test_any_part_is_replaced_by_one_word():
    def brightness(predict, variables, crops, labels):
        return crops.mean((1, 2, 3))

    recipe = dataclasses.replace(infoutil(), score=brightness)
    np.testing.assert_allclose(
        recipe.score(predict, WEIGHTS, IMAGES, LABELS), IMAGES.mean((1, 2, 3))
    )
    assert recipe.crop is not None and recipe.name == "infoutil"


def test_arguments_reach_the_parts():
    recipe = infoutil_paper(
        shapley=ShapleyConfig(grid=2, budget=16, output="probability"),
        side=0.75,
        num_crops=2,
        wrt=lambda path: True,
        select=selection.TopK(crops_per_image="all"),
    )
    maps = recipe.attribute(predict, WEIGHTS, IMAGES, LABELS, KEYS)
    assert maps.shape == (3, 2, 2)
    boxes = recipe.crop(KEYS, maps, (8, 8))
    assert boxes.shape == (3, 2, 4)
    assert np.all(np.asarray(boxes[..., 2:]) == 6)


def test_rded_keeps_what_its_published_rule_keeps():
    """One class of 300 images, five fixed crops each.

    Crops are centred on the mean colour; an image has the least loss of its crops; the images of
    least loss are kept.
    """
    recipe, per_class = rded(tiles=4), 40
    crops = np.random.default_rng(0).standard_normal((300, 5, 4, 4, 1)).astype(np.float32)
    flat = crops.reshape(1500, 4, 4, 1)
    values = recipe.score(predict, WEIGHTS, centred(flat, (8, 8)), np.ones(1500, int))
    candidates = selection.Candidates(
        ids=np.repeat(np.arange(300), 5),
        crops=np.tile(np.arange(5, dtype=np.int32), 300),
        labels=np.ones(1500, np.int32),
        scores=np.asarray(values),
        features={},
    )
    kept = select(recipe, candidates, per_class)

    losses = np.zeros((300, 5))
    for image, crop in np.ndindex(300, 5):
        canvas = np.zeros((8, 8))
        canvas[2:6, 2:6] = crops[image, crop, ..., 0]
        logits = canvas.reshape(-1) @ np.asarray(WEIGHTS, np.float64)
        losses[image, crop] = np.log(np.exp(logits).sum()) - logits[1]
    order = np.argsort(losses.min(1))[:per_class]
    np.testing.assert_array_equal(kept.ids, order)
    np.testing.assert_array_equal(kept.crops, losses.argmin(1)[order])
    assert recipe.fit == "pad"


def test_clear_crops_are_of_low_norm_and_stand_for_the_others():
    """Two far groups; of the eight lowest norms, the middle of each."""
    count = 20
    features = np.concatenate([np.arange(10.0), 1000 + np.arange(10.0)])[:, None]
    candidates = selection.Candidates(
        ids=np.arange(count),
        crops=np.zeros(count, np.int32),
        labels=np.zeros(count, np.int32),
        scores=np.tile(np.arange(10, dtype=np.float32), 2),
        features={"untrained": features.astype(np.float32)},
    )
    kept = select(infoutil_clear(), candidates, 2)
    assert (kept.scores < 4).all()
    assert sorted(int(i) // 10 for i in kept.ids) == [0, 1]


def test_clear_crops_are_rdeds_or_hold_a_share_of_the_shapley_mass():
    maps = np.zeros((3, 4, 4), np.float32)
    maps[:, 1, 1] = 1
    np.testing.assert_array_equal(
        infoutil_clear().crop(KEYS, maps, (8, 8)), rded().crop(KEYS, maps, (8, 8))
    )
    recipe = infoutil_clear(mass=0.9)
    np.testing.assert_array_equal(recipe.crop(KEYS, maps, (8, 8)), [[[2, 2, 2, 2]]] * 3)
    found = recipe.attribute(predict, WEIGHTS, IMAGES, LABELS, KEYS)
    whole = ShapleyMaps(ShapleyConfig(confidence=1.0))
    np.testing.assert_array_equal(found, whole(predict, WEIGHTS, IMAGES, LABELS, KEYS))
    assert recipe.attribute == whole, "a share of the mass is known when the whole budget is spent"


def test_a_kernel_student_sees_crops_of_eight_pixels_and_whole_images():
    crops = RandomResizedBoxes(num_crops=5, scale=(0.08, 1.0), least_side=8)
    assert infoutil_kernel().crop == Union(crops, WholeImage())


def test_a_kernel_student_chooses_among_clear_crops_and_whole_images():
    recipe = infoutil_kernel(num_crops=2, shortlist=9)
    boxes = recipe.crop(KEYS, np.zeros((3, 1, 1)), (32, 32))
    np.testing.assert_array_equal(boxes[:, :2], RandomResizedBoxes(2)(KEYS, None, (32, 32)))
    np.testing.assert_array_equal(boxes[:, 2], [[0, 0, 32, 32]] * 3)
    count = 60
    labels = np.repeat(np.arange(3, dtype=np.int32), 20)
    features = recipe.embed(
        predict, WEIGHTS, jax.random.normal(jax.random.key(3), (count, 8, 8, 1)), labels
    )
    candidates = selection.Candidates(
        ids=np.arange(count),
        crops=np.zeros(count, np.int32),
        labels=labels,
        scores=np.tile(np.arange(20, dtype=np.float32), 3),
        features=jax.tree.map(np.asarray, features),
    )
    kept = select(recipe, candidates, 2)
    np.testing.assert_array_equal(kept.labels, [0, 0, 1, 1, 2, 2])
    assert (candidates.scores[kept.ids] < 9).all()


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("tiles", [1, 4, 9])
def test_every_recipe_takes_tiles(name, tiles):
    assert RECIPES[name](tiles=tiles).tiles == tiles
    assert RECIPES[name]().name == name and RECIPES[name]().tiles == 1


def test_a_crop_is_an_image_of_its_own_unless_it_shares_one():
    assert Recipe("mine", *[print] * 4).tiles == forgetting([1, 2]).tiles == 1


@pytest.mark.parametrize("tiles", [0, 2, 3, -4])
def test_tiles_make_a_square(tiles):
    with pytest.raises(InputError, match="square"):
        Recipe("mine", *[print] * 4, tiles=tiles)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fit": "crop"}, 'fit is "crop"; choose "resize" or "pad"'),
        ({"tile_order": "random"}, 'choose "consecutive" or "strided"'),
        ({"scorer": "student"}, 'choose "teacher" or "labeller"'),
    ],
)
def test_values_that_a_recipe_does_not_know_are_told(change, message, unchecked):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(rded(), **change)


def test_the_device_half_is_a_key_of_plain_parts():
    """Equal for recipes that are made twice, or that differ in their selector alone."""
    one, other = infoutil_paper().per_image, infoutil_paper().per_image
    assert one == other and hash(one) == hash(other)
    chosen = infoutil_paper(select=selection.TopK("lowest"), tiles=4)
    assert chosen.per_image == one
    assert infoutil_paper(alpha=1.0).per_image != one


def test_a_function_will_do_for_a_selector():
    recipe = dataclasses.replace(
        rded(), select=lambda key, rows, n: selection.take(rows, np.array([0, 2]))
    )
    assert recipe.selector.reduce is None
    assert select(recipe, table([1.0, 2.0, 3.0]), 2).ids.tolist() == [0, 2]
    assert rded().selector is rded().select or rded().selector == rded().select
