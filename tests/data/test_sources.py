import shlex
import shutil
import subprocess
import sys
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


@pytest.fixture
def folder(tmp_path):
    """Two classes of five real 32x32 images, free to damage."""
    return Path(shutil.copytree(CIFAR, tmp_path / "set"))


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


def test_hidden_nested_and_foreign_files_are_passed_over(folder):
    expected = opened(folder)
    (folder / ".cache").mkdir()
    (folder / "cat/.hidden.jpg").write_bytes(b"x")
    (folder / "cat/notes.txt").write_text("x")
    (folder / "readme.md").write_text("x")
    shutil.copytree(folder / "ship", folder / "cat/more")
    assert opened(folder).fingerprint() == expected.fingerprint()


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


# --- pixels


def ramp(low, high, dtype):
    return np.linspace(low, high, 32 * 32).reshape(32, 32).astype(dtype)


MODES = {
    "1": Image.fromarray(ramp(0, 255, np.uint8)).convert("1"),
    "L": Image.fromarray(ramp(0, 255, np.uint8)),
    "LA": Image.fromarray(ramp(0, 255, np.uint8)).convert("LA"),
    "I;16": Image.fromarray(ramp(0, 65535, np.uint16)),
    "P": Image.open(CIFAR / "cat/0000.jpg").quantize(16),
    "RGB": Image.open(CIFAR / "cat/0000.jpg"),
    "RGBA": Image.open(CIFAR / "cat/0000.jpg").convert("RGBA"),
    "CMYK": Image.open(CIFAR / "cat/0000.jpg").convert("CMYK"),
}
COLOUR = ("P", "RGB", "RGBA", "CMYK")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
def test_every_mode_becomes_every_channel_count(tmp_path, mode, channels):
    suffix = "tif" if mode == "CMYK" else "png"
    for i, name in enumerate(("a/0", "a/1", "b/0", "b/1")):
        path = tmp_path / f"{name}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        MODES[mode].rotate(90 * i).save(path)
    source = opened(tmp_path, channels=channels)
    expected = channels or (3 if mode in COLOUR else 1)
    assert source.channels == expected
    image = source.train.image(0)
    assert image.dtype == np.uint8 and image.shape == (32, 32, expected)
    assert np.ptp(image[..., 0]) > 100, "contrast survives"
    if expected in (2, 4):
        np.testing.assert_array_equal(image[..., -1], 255)
    if mode in ("RGB", "RGBA") and expected in (3, 4):
        saved = tmp_path / source.train.ids[0]
        np.testing.assert_array_equal(image[..., :3], pillow(saved))


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    wide = ramp(0, 65535, np.uint16)
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(wide).save(tmp_path / name)
    image = opened(tmp_path).train.image(0)[..., 0]
    np.testing.assert_array_equal(image, np.round(wide / 257))


def test_a_palettes_transparency_survives(folder):
    image = Image.open(folder / "cat/0000.jpg").quantize(16)
    image.save(folder / "cat/9999.png", transparency=0)
    source = opened(folder, channels=4)
    i = source.train.ids.index("cat/9999.png")
    alpha = source.train.image(i)[..., 3]
    np.testing.assert_array_equal(alpha, np.where(np.asarray(image) == 0, 0, 255))


def test_exif_orientation_turns_pixels_and_size(folder):
    upright = np.asarray(Image.open(folder / "cat/0000.jpg"))[:20]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned 90 degrees clockwise
    for path in folder.glob("*/*.jpg"):
        path.unlink()
    for name in ("cat/0.png", "cat/1.png", "ship/0.png", "ship/1.png"):
        Image.fromarray(np.rot90(upright)).save(folder / name, exif=exif)
    source = opened(folder)
    assert source.image_size == (20, 32)
    np.testing.assert_array_equal(source.train.image(0), upright)


def test_resizing_keeps_the_aspect_and_the_centre(folder):
    # Left and right thirds are black: a centre crop of the square sees the middle only.
    wide = np.zeros((60, 180, 3), np.uint8)
    wide[:, 60:120] = np.asarray(Image.open(folder / "cat/0000.jpg").resize((60, 60)))
    Image.fromarray(wide).save(folder / "cat/0000.png")
    source = opened(folder, image_size=30)
    split = source.train if "cat/0000.png" in source.train.ids else source.test
    image = split.image(split.ids.index("cat/0000.png"))
    middle = Image.fromarray(wide[:, 60:120]).resize((30, 30), Image.Resampling.BILINEAR)
    # At the two borders the filter reaches into the black.
    np.testing.assert_array_equal(image[:, 2:-2], np.asarray(middle)[:, 2:-2])
    assert opened(folder, image_size=(16, 24)).train.image(0).shape == (16, 24, 3)


def test_an_image_of_the_wanted_size_keeps_its_pixels():
    source = opened(PHOTOS, image_size=128)
    np.testing.assert_array_equal(source.train.image(0), pillow(PHOTOS / source.train.ids[0]))


@pytest.mark.parametrize(
    ("sides", "chosen"), [((20, 28), 32), ((60, 90, 100), 64), ((300, 400), 224)]
)
def test_auto_takes_the_largest_usual_size_the_median_image_has(folder, sides, chosen):
    photo = Image.open(next(PHOTOS.glob("train/church/*.jpg")))
    for path in folder.glob("*/*.jpg"):
        path.unlink()
    for name in ("cat", "ship"):
        for side in sides:
            photo.resize((side + 10, side)).save(folder / f"{name}/{side}.jpg")
    assert opened(folder, image_size="auto").image_size == (chosen, chosen)


def test_auto_leaves_a_common_size_alone(folder):
    assert opened(folder, image_size="auto").image_size == (32, 32)
    assert open_source("digits", image_size="auto").image_size == (8, 8)


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


def test_floating_point_pixels_are_refused(folder):
    Image.fromarray(ramp(0, 1, np.float32)).save(folder / "cat/0000.tif")
    with pytest.raises(InputError, match=r"cat/0000.tif .*floating-point"):
        opened(folder)


# --- bad input, one sentence each


def empty_class(folder):
    (folder / "dog").mkdir()


def nested_class(folder):
    shutil.copytree(folder / "cat", folder / "dog/more")


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
        (empty_class, {}, "dog has no images directly in it"),
        (nested_class, {}, "dog has no images directly in it"),
        (one_class, {}, "has 1 class; it should have 2 or more"),
        (no_classes, {}, "has no class subfolders"),
        (shutil.rmtree, {}, "is not a folder"),
        (lonely_image, {}, "class 'dog' of set has one image only"),
        (different_classes, {}, "'ship' is in train/ only"),
        (mixed_sizes, {}, r"cat/0001.jpg is 50x40, \S+ is 32x32 .*image_size"),
        (None, {"image_size": 0}, "image_size is 0"),
        (None, {"image_size": (8, -1)}, r"image_size is \(8, -1\)"),
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


@pytest.mark.parametrize("spec", ["cifar10", "folder", "folder:", "tfds:", "digits:8", ""])
def test_an_unknown_source_lists_the_forms(spec):
    with pytest.raises(InputError, match="should be digits, folder:PATH or tfds:NAME"):
        open_source(spec)


# --- TensorFlow Datasets

PREPARE = """
import sys
from pathlib import Path
import tensorflow_datasets as tfds

data, out, splits, extra = Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(","), sys.argv[4]

class Photos(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.2.0")

    def _info(self):
        label = tfds.features.ClassLabel(names=["golf_ball", "church", "cassette_player"])
        features = {"image": tfds.features.Image(shape=(None, None, 3)), "label": label}
        if extra == "unlabelled":
            features["label"] = tfds.features.Text()
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {split: self._generate_examples(split) for split in splits}

    def _generate_examples(self, split):
        folder = {"train": "train", "test": "val", "validation": "val"}[split]
        for path in sorted(data.glob(f"{folder}/*/*.jpg")):
            label = path.parent.name
            if extra == "negative" and split == "test":
                label = -1
            yield path.name, {"image": str(path), "label": label}

Photos(data_dir=out, file_format=sys.argv[5]).download_and_prepare()
"""


def prepare(out, splits="train,test", extra="", file_format="array_record"):
    """Prepare a real TFDS dataset in a process of its own: TensorFlow must not enter this one."""
    command = [sys.executable, "-c", PREPARE, PHOTOS, out, splits, extra, file_format]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


READ = """
import sys
from infoutil_jax.data.sources import open_source
source = open_source("tfds:photos", data_dir=sys.argv[1])
source.train.arrays(), source.test.image(0)
print(source.fingerprint(), "tensorflow" in sys.modules)
"""


def test_tfds_is_read_without_tensorflow(tmp_path):
    prepare(tmp_path)
    source = open_source("tfds:photos", data_dir=str(tmp_path))
    assert source.name == "photos/1.2.0"
    assert source.class_names == ("golf_ball", "church", "cassette_player")
    assert (source.image_size, source.channels) == ((128, 128), 3)
    folder = opened(PHOTOS)
    for ours, theirs in ((source.train, folder.train), (source.test, folder.test)):
        expected = {
            (pixels.tobytes(), folder.class_names[label])
            for pixels, label in zip(*theirs.arrays(), strict=True)
        }
        images, labels = ours.arrays()
        found = {(p.tobytes(), source.class_names[k]) for p, k in zip(images, labels, strict=True)}
        assert found == expected

    command = [sys.executable, "-c", READ, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == [source.fingerprint(), "False"], done.stderr[-2000:]


def test_tfds_without_a_test_split_uses_validation_or_cuts_its_own(tmp_path):
    prepare(tmp_path / "a", "train,validation")
    source = open_source("tfds:photos", data_dir=str(tmp_path / "a"))
    assert len(source.test) == 6 and source.test.ids[0].startswith("validation/")
    prepare(tmp_path / "b", "train")
    source = open_source("tfds:photos", data_dir=str(tmp_path / "b"))
    assert sorted(source.test.labels) == [0, 1, 2] and len(source.train) == 6


def test_tfds_with_labels_out_of_range_is_refused(tmp_path):
    prepare(tmp_path, extra="negative")
    with pytest.raises(InputError, match=r"example 0 of tfds:photos, split test, has label -1"):
        open_source("tfds:photos", data_dir=str(tmp_path))


def test_tfds_without_labels_is_refused(tmp_path):
    prepare(tmp_path, extra="unlabelled")
    with pytest.raises(InputError, match="should have one label feature"):
        open_source("tfds:photos", data_dir=str(tmp_path))


def test_an_unprepared_tfds_dataset_comes_with_the_command(tmp_path):
    with pytest.raises(InputError) as error:
        open_source("tfds:mnist", data_dir=str(tmp_path))
    program = shlex.split(str(error.value).split(" prepares it: ")[1])[2]
    assert program == (
        f'import tensorflow_datasets as tfds; tfds.builder("mnist", data_dir="{tmp_path}", '
        'file_format="array_record").download_and_prepare()'
    )
    assert "\n" not in str(error.value)


def test_tfds_in_an_unindexed_format_comes_with_the_command(tmp_path):
    prepare(tmp_path, file_format="tfrecord")
    with pytest.raises(InputError, match=r"without random access.*data_dir=.*array_record"):
        open_source("tfds:photos", data_dir=str(tmp_path))


def test_an_unknown_tfds_dataset_is_told_in_one_line(tmp_path):
    with pytest.raises(InputError, match="neither prepared nor known") as error:
        open_source("tfds:no_such_set", data_dir=str(tmp_path))
    assert "\n" not in str(error.value)
