import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infoutil_jax.data import sources
from infoutil_jax.data.sources import open_source
from infoutil_jax.errors import InputError

DATA = Path(__file__).parents[1] / "fixtures"
PHOTOS = DATA / "imagenette"
CIFAR = DATA / "cifar10"


def opened(path, **options):
    return open_source(f"folder:{path}", **options)


def pillow(path):
    return np.asarray(Image.open(path).convert("RGB"))


# --- digits


def test_digits_are_scikit_learns_own_pixels_stretched_to_eight_bits():
    from sklearn.datasets import load_digits

    source = open_source("digits")
    assert (source.image_size, source.channels, source.name) == ((8, 8), 1, "digits")
    assert source.class_names == tuple("0123456789")
    digits = load_digits()
    for split in (source.train, source.test):
        images, labels = split.arrays()
        rows = [int(name.split("/")[1]) for name in split.ids]
        np.testing.assert_array_equal(images[..., 0], np.round(digits.images[rows] * 255 / 16))
        np.testing.assert_array_equal(labels, digits.target[rows])
    assert sorted(source.train.ids + source.test.ids) == [f"digits/{i:04d}" for i in range(1797)]


def test_a_split_of_ours_is_stratified_and_follows_the_seed():
    a, b, other = (open_source("digits", seed=seed) for seed in (0, 0, 1))
    assert a.test.ids == b.test.ids != other.test.ids
    assert a.fingerprint() == b.fingerprint() != other.fingerprint()
    for labels in (a.train.labels, other.train.labels):
        total = np.bincount(np.concatenate([a.train.labels, a.test.labels]))
        np.testing.assert_array_equal(np.bincount(labels), total - np.round(0.2 * total))
    half = open_source("digits", test_fraction=0.5)
    assert len(half.test) == pytest.approx(1797 / 2, abs=5)


def test_adding_an_image_does_not_reshuffle_the_split(folder):
    before = set(opened(folder, test_fraction=0.4).test.ids)
    shutil.copy(folder / "cat/0000.jpg", folder / "cat/new.jpg")
    after = set(opened(folder, test_fraction=0.4).test.ids)
    assert len(before ^ after) <= 2
    assert {name for name in before if "ship" in name} <= after


# --- folders


def test_a_folder_keeps_its_splits_order_and_pixels():
    source = opened(PHOTOS)
    assert source.class_names == ("cassette_player", "church", "golf_ball")
    assert (source.image_size, source.channels, source.skipped) == ((128, 128), 3, ())
    assert list(source.train.ids) == sorted(
        p.relative_to(PHOTOS).as_posix() for p in PHOTOS.glob("train/*/*.jpg")
    )
    assert len(source.train) == 9 and len(source.test) == 6
    for split in (source.train, source.test):
        assert split.labels.dtype == np.int32
        images, labels = split.arrays()
        for i, name in enumerate(split.ids):
            assert source.class_names[labels[i]] == name.split("/")[1]
            np.testing.assert_array_equal(split.image(i), pillow(PHOTOS / name))
            np.testing.assert_array_equal(images[i], pillow(PHOTOS / name))


def test_class_folders_alone_are_split(folder):
    source = opened(folder)
    assert len(source.train) == 8 and len(source.test) == 2
    assert set(source.test.labels) == {0, 1}
    assert source.train.ids[0].startswith("cat/")


def test_a_class_called_train_is_a_class(folder):
    (folder / "cat").rename(folder / "train")
    assert opened(folder).class_names == ("ship", "train")


def test_streaming_gives_the_same_bytes_as_memory(monkeypatch):
    kept = opened(PHOTOS)
    monkeypatch.setattr(sources, "IN_MEMORY_BYTES", 0)
    streamed = opened(PHOTOS)
    assert streamed.fingerprint() == kept.fingerprint()
    np.testing.assert_array_equal(streamed.train.arrays()[0], kept.train.arrays()[0])
    order = np.array([8, 0, 3, 3, 7, 1, 2])
    for source in (kept, streamed):
        batches = list(source.train.batches(order, 3))
        assert [len(indices) for indices, _ in batches] == [3, 3, 1]
        np.testing.assert_array_equal(np.concatenate([i for i, _ in batches]), order)
        pixels = np.concatenate([images for _, images in batches])
        np.testing.assert_array_equal(pixels, kept.train.arrays()[0][order])


def test_a_part_of_a_split_has_the_same_images(monkeypatch):
    for memory in (sources.IN_MEMORY_BYTES, 0):
        monkeypatch.setattr(sources, "IN_MEMORY_BYTES", memory)
        train = opened(PHOTOS).train
        part = train.take([5, 0, 5])
        assert part.ids == (train.ids[5], train.ids[0], train.ids[5])
        np.testing.assert_array_equal(part.labels, train.labels[[5, 0, 5]])
        np.testing.assert_array_equal(part.arrays()[0], train.arrays()[0][[5, 0, 5]])
        np.testing.assert_array_equal(part.take([1]).image(0), train.image(0))


def test_batches_beyond_the_split_are_refused():
    split = opened(PHOTOS).train
    with pytest.raises(InputError, match=r"index 9 .* 0 to 8"):
        split.batches([0, 9], 2)
    with pytest.raises(InputError, match="batch_size is 0"):
        split.batches([0], 0)


def test_the_fingerprint_knows_content_names_and_size_but_not_the_place(folder, tmp_path):
    one = opened(folder).fingerprint()
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    assert opened(moved).fingerprint() == one
    assert opened(folder, image_size=16).fingerprint() != one
    assert opened(folder, channels=1).fingerprint() != one
    (moved / "cat/0000.jpg").rename(moved / "cat/a.jpg")
    assert opened(moved).fingerprint() != one
    shutil.copy(folder / "cat/0001.jpg", folder / "cat/0000.jpg")
    assert opened(folder).fingerprint() != one


def test_max_per_class_reads_only_what_it_keeps(folder):
    source = opened(folder, max_per_class=1)
    assert len(source.train) == len(source.test) == 2
    assert set(source.train.ids) < set(opened(folder).train.ids)
    for path in folder.glob("*/*.jpg"):
        if path.relative_to(folder).as_posix() not in source.train.ids + source.test.ids:
            path.write_bytes(b"damaged")
    assert opened(folder, max_per_class=1).fingerprint() == source.fingerprint()


OPENED = {
    "digits": ("digits", {}),
    "photographs": (f"folder:{PHOTOS}", {"image_size": (40, 48), "background": (1, 2, 3)}),
    "small": (f"folder:{CIFAR}", {"image_size": "auto", "channels": 1, "max_per_class": 3}),
    "deep": ("", {"value_range": (0, 900), "seed": 3, "test_fraction": 0.5}),
}


@pytest.mark.parametrize("kind", OPENED)
def test_the_options_of_a_source_open_it_again_from_json_too(place, kind):
    spec, options = OPENED[kind]
    spec = spec or place([np.arange(64, dtype=np.uint16).reshape(8, 8) * 16] * 4)
    source = open_source(spec, **options)
    for known in (dict(source.options), json.loads(json.dumps(dict(source.options)))):
        again = open_source(source.spec, **known)
        assert again.fingerprint() == source.fingerprint()
        assert again.image_size == source.image_size and isinstance(again.image_size, tuple)


# --- damage


def damage_cut(path):
    path.write_bytes(path.read_bytes()[:-300])


def damage_text(path):
    path.write_text("not an image")


def damage_empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [damage_cut, damage_text, damage_empty])
@pytest.mark.parametrize("limit", [2**30, 0], ids=["memory", "stream"])
def test_a_damaged_image_is_named_or_left_out(folder, monkeypatch, damage, limit):
    monkeypatch.setattr(sources, "IN_MEMORY_BYTES", limit)
    whole = opened(folder)
    images, labels = whole.train.arrays()
    victim = whole.train.ids[2]
    damage(folder / victim)
    with pytest.raises(InputError, match=rf"{victim} cannot be read.*skip_unreadable=True"):
        opened(folder)
    source = opened(folder, skip_unreadable=True)
    assert source.skipped == (victim,)
    assert source.train.ids == tuple(name for name in whole.train.ids if name != victim)
    assert source.test.ids == whole.test.ids
    kept = [i for i, name in enumerate(whole.train.ids) if name != victim]
    np.testing.assert_array_equal(source.train.arrays()[0], images[kept])
    np.testing.assert_array_equal(source.train.labels, labels[kept])
    assert source.fingerprint() != whole.fingerprint()


def test_several_damaged_images_are_counted(folder):
    for name in ("cat/0001.jpg", "ship/0002.jpg", "ship/0003.jpg"):
        damage_text(folder / name)
    with pytest.raises(InputError, match=r"and \d more|cannot be read"):
        opened(folder)
    assert len(opened(folder, skip_unreadable=True).skipped) == 3


def test_a_class_without_a_readable_image_is_told(folder):
    for path in folder.glob("cat/*.jpg"):
        damage_text(path)
    with pytest.raises(InputError, match=r"class 'cat' .* no readable training image"):
        opened(folder, skip_unreadable=True)


def test_an_image_that_vanishes_later_is_named(folder, monkeypatch):
    monkeypatch.setattr(sources, "IN_MEMORY_BYTES", 0)
    source = opened(folder)
    (folder / source.train.ids[1]).unlink()
    with pytest.raises(InputError, match=source.train.ids[1]) as error:
        source.train.arrays()
    assert "\n" not in str(error.value)


# --- bad input, one sentence each


def empty_class(folder):
    (folder / "dog").mkdir()


def one_class(folder):
    shutil.rmtree(folder / "cat")


def no_classes(folder):
    shutil.rmtree(folder / "cat")
    shutil.rmtree(folder / "ship")


def lonely_image(folder):
    (folder / "dog").mkdir()
    shutil.copy(folder / "cat/0000.jpg", folder / "dog/0.jpg")


def different_classes(folder):
    shutil.copytree(folder / "cat", folder / "train/cat")
    shutil.copytree(folder / "ship", folder / "train/ship")
    shutil.copytree(folder / "cat", folder / "val/cat")


def mixed_sizes(folder):
    Image.open(folder / "cat/0001.jpg").resize((40, 50)).save(folder / "cat/0001.jpg")


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        (empty_class, {}, "dog has no images in it or below"),
        (one_class, {}, "has 1 class; it should have 2 or more"),
        (no_classes, {}, "has no class subfolders"),
        (shutil.rmtree, {}, "is not a folder"),
        (lonely_image, {}, "class 'dog' of set has one image only"),
        (different_classes, {}, "'ship' is in train/ only"),
        (mixed_sizes, {}, r"cat/0001.jpg is 50x40, \S+ is 32x32 .*image_size"),
        (None, {"image_size": 0}, "image_size is 0"),
        (None, {"image_size": (8, -1)}, r"image_size is \(8, -1\)"),
        (None, {"image_size": [8, 8, 3]}, r"image_size is \[8, 8, 3\]"),
        (None, {"channels": 5}, "channels is 5"),
        (None, {"test_fraction": 1.0}, "test_fraction is 1.0"),
        (None, {"max_per_class": 0}, "max_per_class is 0"),
    ],
)
def test_bad_input_is_told_in_one_sentence(folder, change, options, sentence):
    if change:
        change(folder)
    with pytest.raises(InputError, match=sentence) as error:
        opened(folder, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("spec", ["cifar10", "folder", "folder:", "npz:", "tfds:", "digits:8", ""])
def test_an_unknown_source_lists_the_forms(spec):
    with pytest.raises(InputError, match="should be digits, folder:PATH, npz:FILE or tfds:NAME"):
        open_source(spec)


def test_a_folder_without_its_kind_is_understood_but_refused(tmp_path):
    with pytest.raises(InputError, match=f"did you mean folder:{tmp_path}"):
        open_source(str(tmp_path))


# --- TensorFlow Datasets
