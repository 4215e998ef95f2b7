"""Defaults by the source, as the paper and RDED have them."""

from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from infoutil_jax.errors import InputError
from infoutil_jax.options import METHODS, BackboneOptions, RecipeOptions, TeacherOptions


@pytest.mark.parametrize(
    ("size", "backbone"), [(32, "convnet3"), (64, "convnet4"), (128, "convnet5"), (224, "convnet6")]
)
def test_the_backbone_follows_the_image_size(digits, size, backbone):
    """RDED's table: ConvNet-3 at 32 pixels, -4 at 64, -5 at 128; -6 above."""
    source = replace(digits, image_size=(size, size))
    assert BackboneOptions().resolve(source).backbone == backbone
    assert BackboneOptions(backbone="convnet3").resolve(source).backbone == "convnet3"


@pytest.mark.parametrize(
    ("spec", "flip"), [("digits", False), ("tfds:mnist", False), ("folder:cats", True)]
)
def test_digits_are_never_mirrored(digits, spec, flip):
    source = replace(digits, spec=spec)
    assert BackboneOptions().resolve(source).flip is flip
    assert BackboneOptions(flip=True).resolve(source).flip is True


@pytest.mark.parametrize(("size", "rate"), [(32, 0.001), (64, 0.01)])
def test_the_early_teachers_rate_is_the_papers(digits, size, rate):
    resolved = TeacherOptions().resolve(replace(digits, image_size=(size, size)))
    assert resolved.early_learning_rate == rate
    assert resolved.early_epochs == 10
    assert 10 <= resolved.epochs <= 100


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


def test_weights_are_taken_as_they_are_where_the_classes_are_as_many(digits, tmp_path):
    for classes, epochs in ((10, 0), (1000, 100)):
        path = tmp_path / f"{classes}.safetensors"
        safetensors.numpy.save_file({"fc.weight": np.zeros((classes, 4), np.float32)}, path)
        options = TeacherOptions(backbone="resnet18", weights=path)
        resolved = options.resolve(digits)
        assert (resolved.epochs, resolved.early_epochs, resolved.learning_rate) == (epochs, 0, 0.01)
        assert replace(options, epochs=3).resolve(digits).epochs == 3
    with pytest.raises(InputError, match="say whose weights"):
        TeacherOptions(weights=path).resolve(digits)
