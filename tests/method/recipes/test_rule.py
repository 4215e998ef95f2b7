"""The rule of each recipe, in one sentence that can be checked against its parts."""

import dataclasses

import pytest

from infoutil_jax import provenance
from infoutil_jax.method import recipes
from infoutil_jax.method.recipes.rule import rule_of
from infoutil_jax.method.selection import TopK

RULES = {
    recipes.infoutil(): "infoutil cuts five crops of each image at random and takes each image "
    "whole, and keeps of those with the lowest gradient norm at the teacher the ones that teach a "
    "kernel student most.",
    recipes.infoutil_paper(num_crops=1): "infoutil_paper cuts one crop of each image around the "
    "patches of the highest Shapley values, and keeps those of each class with the highest "
    "gradient norm at the teacher.",
    recipes.infoutil_paper(select=TopK("middle")): "infoutil_paper cuts five crops of each image "
    "around the patches of the highest Shapley values, and keeps those of each class whose "
    "gradient norm at the teacher is nearest to their class's median.",
    recipes.infoutil_clear(mass=0.5): "infoutil_clear cuts the smallest window of each image that "
    "holds a share of 0.5 of its Shapley values, and keeps 4 times as many as are needed, those "
    "of each class with the lowest gradient norm at the teacher, and of these those of each class "
    "that facility location chooses.",
    recipes.rded(num_crops=20): "rded cuts 20 crops of each image at random, and keeps those of "
    "each class with the lowest loss at the teacher.",
    recipes.random(): "random takes each image whole, and keeps some of each class that are drawn "
    "at random.",
    recipes.k_center(): "k_center takes each image whole, and keeps those of each class that "
    "k-center chooses.",
    recipes.ccs(): "ccs takes each image whole, and keeps some of each class, of every EL2N error "
    "at the teacher but the highest.",
}


@pytest.mark.parametrize(
    ("recipe", "rule"), RULES.items(), ids=lambda one: getattr(one, "name", "")
)
def test_the_rule_is_the_recipes(recipe, rule):
    assert rule_of(provenance.describe(recipe)) == rule


def test_parts_of_ones_own_are_called_by_their_names():
    def loudness(predict, variables, crops, labels):
        return crops.mean((1, 2, 3))

    rule = rule_of(provenance.describe(dataclasses.replace(recipes.rded(), score=loudness)))
    assert "loudness at the teacher" in rule


def test_a_cropper_and_a_selector_of_ones_own_are_called_by_their_names():
    def edges(keys, maps, image_size):
        return keys

    def loudest(key, candidates, per_class):
        return candidates

    own = dataclasses.replace(recipes.rded(), crop=edges, select=loudest)
    # `Choosing` makes a selector of a function, whose name the manifest has below it.
    said = provenance.describe(own) | {"select": provenance.describe(loudest)}
    rule = rule_of(said)
    assert rule.startswith("rded cuts each image by ") and "edges, and keeps" in rule
    assert rule.endswith("loudest chooses by the loss at the teacher.")


def test_few_crops_are_counted_in_words():
    counts = ("two", "three", "four", "five", "six", "7")
    for number, word in enumerate(counts, start=2):
        rule = rule_of(provenance.describe(recipes.rded(num_crops=number)))
        assert f"cuts {word} crops of each image" in rule


def test_a_set_without_crops_is_painted():
    said = "sre2l paints each image by gradient until the teacher sees its class in it."
    assert rule_of({"name": "sre2l"}) == said


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_has_a_rule_without_the_names_of_its_parts(name):
    rule = rule_of(provenance.describe(recipes.RECIPES[name]()))
    assert rule.startswith(f"{name} ") and rule.count(".") == 1
    others = set(rule.split()[1:]) - {"EL2N", "Grad-CAM"}
    assert not any(word[1:].lower() != word[1:] for word in others)
