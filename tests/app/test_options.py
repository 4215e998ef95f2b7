"""Recipes by their names, with tiles by the source."""

from dataclasses import replace

import pytest

from infoutil_jax.app.options import METHODS, RecipeOptions
from infoutil_jax.errors import InputError


@pytest.mark.parametrize(("size", "tiles"), [(32, 1), (64, 1), (75, 1), (128, 4), (224, 4)])
def test_tiles_follow_the_image_size(digits, size, tiles):
    source = replace(digits, image_size=(size, size))
    assert RecipeOptions("rded").build(source).tiles == tiles
    assert RecipeOptions("rded", tiles=9).build(source).tiles == 9


def test_unknown_recipes_and_foreign_options_are_named(digits):
    with pytest.raises(InputError, match="infoutil, infoutil_paper, infoutil_clear, infoutil_"):
        RecipeOptions("dream").build(digits)
    with pytest.raises(InputError, match=r"rded.*--alpha, --cap"):
        RecipeOptions("rded", alpha=1.0, cap=0.9).build(digits)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_chosen_by_its_name(digits, name):
    assert RecipeOptions(name).build(digits).name == name
