"""Recipes by their names, with tiles by the source."""

from dataclasses import replace

import numpy as np
import pytest

from infoutil_jax.app.config import RecipeConfig
from infoutil_jax.errors import InputError
from infoutil_jax.method import recipes
from infoutil_jax.method.attribution import blurred
from infoutil_jax.method.selection import TopK
from infoutil_jax.method.shapley_maps import ShapleyConfig
from infoutil_jax.refine.recipes import RECIPES


@pytest.mark.parametrize(("size", "tiles"), [(32, 1), (64, 1), (75, 1), (128, 4), (224, 4)])
def test_tiles_follow_the_image_size(digits, size, tiles):
    source = replace(digits, image_size=(size, size))
    assert RecipeConfig("rded").build(source, None).tiles == tiles
    assert RecipeConfig("rded", tiles=9).build(source, None).tiles == 9


@pytest.mark.parametrize(("size", "tiles"), [(8, 1), (16, 4), (32, 4), (75, 1), (128, 4)])
def test_refined_images_have_tiles_wherever_these_show_something(digits, size, tiles):
    source = replace(digits, image_size=(size, size))
    assert RecipeConfig("infoutil_refined").build(source, None).tiles == tiles


@pytest.mark.parametrize(("size", "tiles"), [(8, 1), (16, 4), (32, 16), (34, 4), (64, 16), (75, 1)])
def test_the_only_image_of_a_class_is_refined_in_many_tiles(digits, size, tiles):
    source = replace(digits, image_size=(size, size))
    assert RecipeConfig("infoutil_refined").build(source, 1).tiles == tiles
    assert RecipeConfig("infoutil_refined", tiles=4).build(source, 1).tiles == 4
    assert RecipeConfig("infoutil_refined").build(source, 2).tiles == min(tiles, 4)


@pytest.mark.parametrize(("images", "tiles"), [(15, 4), (16, 16)])
def test_a_class_that_does_not_fill_sixteen_tiles_is_refined_in_four(digits, images, tiles):
    rare = np.flatnonzero(digits.train.labels == 3)[images:]
    few = digits.train.take(np.setdiff1d(np.arange(len(digits.train)), rare))
    source = replace(digits, train=few, image_size=(32, 32))
    assert RecipeConfig("infoutil_refined").build(source, 1).tiles == tiles


@pytest.mark.parametrize(
    ("size", "budget", "tiles", "parted"),
    [
        *((8, 1, 1, False), (16, 1, 4, True), (75, 1, 1, False), (128, 1, 4, True)),
        *((64, 1, 4, True), (64, 2, 1, False), (64, None, 1, False), (128, 10, 4, False)),
    ],
)
def test_at_one_image_a_class_tiles_are_images(digits, size, budget, tiles, parted):
    source = replace(digits, image_size=(size, size))
    recipe = RecipeConfig("infoutil").build(source, budget)
    assert (recipe.tiles, recipe.parted) == (tiles, parted)
    assert not RecipeConfig("rded").build(source, budget).parted


def test_what_is_chosen_of_tiles_is_done(digits):
    source = replace(digits, image_size=(36, 36))
    assert RecipeConfig("infoutil", tiles=9).build(source, 1).parted
    assert not RecipeConfig("infoutil", tiles=1).build(source, 1).parted
    assert not RecipeConfig("infoutil", tiles=4, partition=False).build(source, 1).parted
    assert RecipeConfig("infoutil", tiles=4, partition=True).build(source, 10).parted


def test_labels_are_centred_unless_that_is_declined(digits):
    assert RecipeConfig().build(digits, 10).centred
    assert not RecipeConfig(centred=False).build(digits, 10).centred
    with pytest.raises(InputError, match="recipe 'rded' has no option --centred"):
        RecipeConfig("rded", centred=True).build(digits, 10)


def test_a_class_that_does_not_fill_four_tiles_has_one(digits):
    rare = np.flatnonzero(digits.train.labels == 3)[3:]
    few = digits.train.take(np.setdiff1d(np.arange(len(digits.train)), rare))
    source = replace(digits, train=few, image_size=(32, 32))
    assert RecipeConfig("infoutil").build(source, 1).tiles == 1


def test_unknown_recipes_and_foreign_options_are_named(digits):
    with pytest.raises(InputError, match="infoutil, infoutil_paper, infoutil_clear, infoutil_"):
        RecipeConfig("dream").build(digits, None)
    with pytest.raises(InputError, match=r"rded.*--alpha, --max-quantile"):
        RecipeConfig("rded", alpha=1.0, max_quantile=0.9).build(digits, None)


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_method_can_be_chosen_by_its_name(digits, name):
    assert RecipeConfig(name).build(digits, None).name == name


def test_options_reach_the_parts_they_are_of(digits):
    config = RecipeConfig(
        "infoutil_paper",
        budget=64,
        strategy="gaussian",
        map_dtype="bfloat16",
        missing="blur",
        keep="lowest",
    )
    shapley = ShapleyConfig(budget=64, strategy="gaussian", dtype="bfloat16", baseline=blurred)
    expected = recipes.infoutil_paper(shapley=shapley, select=TopK("lowest"))
    assert config.build(digits, None) == expected
    assert RecipeConfig("infoutil_paper").build(digits, None) == recipes.infoutil_paper()
    assert RecipeConfig("infoutil", shortlist=9).build(digits, None) == recipes.infoutil(
        shortlist=9
    )


def test_a_bug_of_ours_keeps_its_traceback(digits, monkeypatch):
    """It is not told as an option that the recipe lacks."""

    def broken(*, tiles=1, num_crops=5):
        raise TypeError("a bug inside")

    monkeypatch.setitem(RECIPES, "rded", broken)
    with pytest.raises(TypeError, match="a bug inside"):
        RecipeConfig("rded", num_crops=3).build(digits, None)
