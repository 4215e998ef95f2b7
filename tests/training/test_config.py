"""Defaults by the source, as the paper and RDED have them; settings that do not fit."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from infoutil_jax.data.sources import open_source
from infoutil_jax.errors import InputError
from infoutil_jax.training.config import BackboneConfig, Facts, StudentConfig, TeacherConfig


@pytest.mark.parametrize(
    ("size", "backbone"), [(32, "convnet3"), (64, "convnet4"), (128, "convnet5"), (224, "convnet6")]
)
def test_the_backbone_follows_the_image_size(digits, size, backbone):
    """RDED's table: ConvNet-3 at 32 pixels, -4 at 64, -5 at 128; -6 above."""
    source = replace(digits, image_size=(size, size))
    assert BackboneConfig().resolve(source).backbone == backbone
    assert BackboneConfig(backbone="convnet3").resolve(source).backbone == "convnet3"


@pytest.mark.parametrize(
    ("name", "flip"),
    [
        ("digits", False),
        ("mnist/3.0.1", False),
        ("pathmnist", False),
        ("cats", True),
        ("chest_xray_96", False),
        ("RSSCN7", True),
    ],
)
def test_images_are_mirrored_where_their_kind_allows_it(digits, name, flip):
    source = replace(digits, name=name)
    assert BackboneConfig().resolve(source).flip is flip
    assert BackboneConfig(flip=not flip).resolve(source).flip is not flip
    assert not BackboneConfig().resolve(source).turn
    assert BackboneConfig(turn=True).resolve(source).turn


def test_how_a_folder_is_spelt_does_not_decide_what_is_mirrored(tmp_path, monkeypatch):
    for place, mirrored in (("mnist", False), ("mnist_project/cats", True)):
        for name in "ab":
            (tmp_path / place / name).mkdir(parents=True)
            for i in range(3):
                np.save(tmp_path / place / name / f"{i}.npy", np.zeros((8, 8), np.uint8))
        monkeypatch.chdir(tmp_path / place)
        for spelt in (".", str(tmp_path / place), f"../{Path(place).name}"):
            assert BackboneConfig().resolve(open_source(f"folder:{spelt}")).flip is mirrored


@pytest.mark.parametrize(("side", "rate"), [(32, 0.001), (64, 0.01)])
def test_the_early_teachers_rate_is_the_papers(side, rate):
    resolved = TeacherConfig().complete(Facts((side, side), 50_000, 10))
    assert resolved.early_learning_rate == rate
    assert resolved.early_epochs == 10
    assert (resolved.batch_size, resolved.learning_rate) == (128, 0.1)


@pytest.mark.parametrize(
    ("images", "batch_size", "epochs"),
    [(40, 16, 100), (240, 16, 100), (1438, 32, 91), (2240, 64, 100), (5000, 128, 100)],
)
def test_few_images_are_enough_steps(images, batch_size, epochs):
    resolved = TeacherConfig().complete(Facts((64, 64), images, 10))
    assert (resolved.batch_size, resolved.epochs) == (batch_size, epochs)
    assert resolved.learning_rate == pytest.approx(0.1 * batch_size / 128)
    assert resolved.early_learning_rate == (0.01 if batch_size == 128 else 0.001)
    assert images // batch_size >= 32 or batch_size == 16


def test_weights_are_taken_as_they_are_where_the_classes_are_as_many(digits, tmp_path):
    for classes, epochs in ((10, 0), (1000, 91)):
        path = tmp_path / f"{classes}.safetensors"
        safetensors.numpy.save_file({"fc.weight": np.zeros((classes, 4), np.float32)}, path)
        options = TeacherConfig(backbone="resnet18", weights=path)
        resolved = options.resolve(digits)
        assert (resolved.epochs, resolved.early_epochs) == (epochs, 0)
        assert resolved.learning_rate == 0.01 * resolved.batch_size / 128
        assert replace(options, epochs=3).resolve(digits).epochs == 3
    with pytest.raises(InputError, match="say whose weights"):
        TeacherConfig(weights=path).resolve(digits)


def test_what_is_given_stays(digits):
    config = TeacherConfig(
        backbone="resnet18", width=4, epochs=3, early_epochs=0, learning_rate=0.0, flip=True
    )
    resolved = config.resolve(digits)
    for name in ("backbone", "width", "epochs", "early_epochs", "learning_rate", "flip"):
        assert getattr(resolved, name) == getattr(config, name)
    assert resolved.resolve(digits) == resolved


def test_a_source_is_told_by_its_facts(digits):
    facts = Facts((8, 8), len(digits.train), 10, "digits")
    assert Facts.of(digits) == facts
    assert TeacherConfig().complete(facts) == TeacherConfig().resolve(digits)


def test_without_augmentation_nothing_of_a_view_is_drawn():
    config = StudentConfig(flip=True, turn=True, autoaugment="cifar10", dsa=True, width=8)
    assert config.effective() == config
    plain = replace(config, augment=False).effective()
    assert (plain.flip, plain.turn, plain.cutmix, plain.shuffle) == (False,) * 4
    assert plain.autoaugment is None and not plain.dsa
    assert plain.crop_scale == (1.0, 1.0) and plain.width == 8


@pytest.mark.parametrize(
    ("config", "changes", "told"),
    [
        (TeacherConfig(), {"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        (TeacherConfig(), {"epochs": 0}, "epochs is 0; it must be at least 1"),
        (TeacherConfig(), {"early_epochs": -1}, "early_epochs is -1; it must be at least 0"),
        (TeacherConfig(), {"early_schedule": "cosine"}, "'cosine' is unknown: choose constant, s"),
        (TeacherConfig(), {"early_optimiser": "adam"}, "'adam' is unknown: choose adamw, sgd"),
        (TeacherConfig(), {"early_schedule": "same_run", "epochs": 5}, "epoch 10 of a run of 5"),
        (StudentConfig(), {"evaluate_every": 0}, "evaluate_every is 0; it must be at least 1"),
    ],
)
def test_settings_that_do_not_fit_are_told(digits, config, changes, told):
    changed = copy.copy(config)  # past the type checker of the tests, which users do not have
    for name, value in changes.items():
        object.__setattr__(changed, name, value)
    with pytest.raises(InputError, match=told):
        changed.resolve(digits)
