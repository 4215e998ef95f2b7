"""Which splits are trained and tested on, and what is said of the others."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from infoutil_jax.data.sources import open_source
from infoutil_jax.errors import InputError

CIFAR = Path(__file__).parents[1] / "fixtures/cifar10"


def opened(path, **options):
    return open_source(f"folder:{path}", **options)


@pytest.fixture
def divided(tmp_path):
    """An empty folder, and a function that puts real images of two classes into a split of it."""

    def add(split, classes=("cat", "ship")):
        for number, name in enumerate(classes):
            real = CIFAR / ("cat", "ship")[number % 2]
            shutil.copytree(real, tmp_path / split / name, dirs_exist_ok=True)

    add.path = tmp_path
    return add


def add_loose(split):
    split.mkdir()
    for i in range(3):
        shutil.copy(CIFAR / f"cat/000{i}.jpg", split)


def hide_loose(path):
    add_loose(path / "test")
    return r"test \(3 images without class folders\)"


def hide_in_one_folder(path):
    shutil.copytree(CIFAR / "cat", path / "test/images")
    return r"test \(its only folder, images, is none of the classes\)"


def hide_nothing(path):
    for name in ("cat", "ship"):
        (path / "test" / name).mkdir(parents=True)
        (path / "test" / name / ".gitkeep").touch()
    return r"test \(it holds no images\)"


@pytest.mark.parametrize("hide", [hide_loose, hide_in_one_folder, hide_nothing])
@pytest.mark.parametrize("other", ["validation", "val", "valid", "dev", "testing", "VALID"])
def test_a_test_split_without_labels_gives_way_to_the_next(divided, hide, other):
    divided("train")
    divided(other)
    reason = hide(divided.path)
    source = opened(divided.path)
    assert source.splits == ("train", other)
    assert {name.split("/")[0] for name in source.test.ids} == {other}
    assert len(source.train) == len(source.test) == 10
    (note,) = [note for note in source.notes if note.startswith("splits not taken")]
    assert re.search(reason, note)


def test_without_labelled_test_split_a_part_of_training_is_tested_on(divided):
    divided("train")
    add_loose(divided.path / "test")
    source = opened(divided.path)
    assert (len(source.train), len(source.test)) == (8, 2)
    assert source.splits == ("80% of train", "20% of train")
    assert source.notes[-1] == "no test split with labels: 20% of train are tested on (seed 0)"


@pytest.mark.parametrize("train", ["Train", "TRAINING", "training"])
def test_a_training_split_is_known_by_its_usual_names_in_any_case(divided, train):
    divided(train)
    divided("Test")
    assert opened(divided.path).splits == (train, "Test")


def test_the_usual_names_have_an_order_and_the_rest_is_said(divided):
    for split in ("dev", "valid", "val", "validation", "testing", "test", "train", "extra"):
        divided(split)
    for split in ("test", "testing", "validation", "val", "valid", "dev"):
        source = opened(divided.path)
        assert source.splits == ("train", split)
        (note,) = source.notes
        assert "extra (10 images)" in note and f"{split} (" not in note
        shutil.rmtree(divided.path / split)


def test_splits_are_chosen_by_name(divided):
    for split in ("train", "test", "val", "extra"):
        divided(split)
    source = opened(divided.path, train_split="extra", test_split="VAL")
    assert source.splits == ("extra", "val")
    assert {name.split("/")[0] for name in source.train.ids} == {"extra"}
    assert {name.split("/")[0] for name in source.test.ids} == {"val"}
    assert source.notes == ("splits not taken: test (10 images), train (10 images)",)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"train_split": "foo"}, r"no split 'foo' \(--train-split\); there are loose, test, train"),
        ({"test_split": "foo"}, r"no split 'foo' \(--test-split\); there are loose, test, train"),
        ({"test_split": "train"}, "split train is trained on"),
        ({"test_split": "loose"}, "loose .* cannot be tested on: 3 images without class folders"),
        ({"train_split": "loose"}, "loose has no class subfolders"),
    ],
)
def test_a_split_that_will_not_do_is_told_in_one_sentence(divided, options, sentence):
    divided("train")
    divided("test")
    add_loose(divided.path / "loose")
    with pytest.raises(InputError, match=sentence) as error:
        opened(divided.path, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("add", [add_loose, lambda split: shutil.copytree(CIFAR, split)])
def test_splits_of_loose_images_are_no_classes(divided, add):
    add_loose(divided.path / "train")
    add(divided.path / "test")
    with pytest.raises(InputError, match="train holds no class subfolders"):
        opened(divided.path)


@pytest.mark.parametrize("loose", [False, True])
def test_splits_of_classes_none_of_which_is_for_training_are_to_be_chosen(divided, loose):
    divided("test")
    divided("val")
    if loose:
        add_loose(divided.path / "dev")
    sentence = r"no split called train or training; choose one of test, val with --train-split"
    with pytest.raises(InputError, match=sentence) as error:
        opened(divided.path)
    assert "\n" not in str(error.value)
    assert opened(divided.path, train_split="val").splits == ("val", "test")


def test_the_digits_have_no_splits_to_choose():
    with pytest.raises(InputError, match="--test-split"):
        open_source("digits", test_split="test")


def test_class_names_are_compared_in_one_unicode_form(divided):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    divided("train", (decomposed, "ship"))
    divided("test", (composed, "ship"))
    source = opened(divided.path)
    assert source.class_names == (composed, "ship")
    assert np.bincount(source.test.labels).tolist() == [5, 5]
    assert source.train.ids[0].startswith(f"train/{decomposed}/"), "ids are the files' own names"


def test_one_class_in_two_spellings_is_one_class(divided):
    divided("", ("caf\u00e9", "ship", "cafe\u0301"))
    source = opened(divided.path)
    assert source.class_names == ("caf\u00e9", "ship")
    assert len(source.train) + len(source.test) == 15
