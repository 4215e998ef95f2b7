"""TFDS datasets, read without TensorFlow."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from infoutil_jax.data.sources import open_source
from infoutil_jax.errors import InputError

DATA = Path(__file__).parents[1] / "fixtures"


PHOTOS = DATA / "imagenette"


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
            hidden = {"negative": path.name.endswith("0.jpg"), "hidden": True}
            if split == "test" and hidden.get(extra):
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
    folder = open_source(f"folder:{PHOTOS}")
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


def test_tfds_with_hidden_test_labels_tests_on_validation_or_a_part_of_its_own(tmp_path):
    prepare(tmp_path / "a", "train,test,validation", "hidden")
    source = open_source("tfds:photos", data_dir=str(tmp_path / "a"))
    assert source.splits == ("train", "validation") and len(source.test) == 6
    assert source.notes == ("splits not taken: test (all its labels are hidden (-1))",)
    with pytest.raises(InputError, match="split test of tfds:photos cannot be tested on"):
        open_source("tfds:photos", data_dir=str(tmp_path / "a"), test_split="test")
    prepare(tmp_path / "b", "train,test", "hidden")
    source = open_source("tfds:photos", data_dir=str(tmp_path / "b"))
    assert source.splits == ("80% of train", "20% of train") and len(source.train) == 6


def test_tfds_splits_are_chosen_by_name_and_in_parts(tmp_path):
    prepare(tmp_path, "train,test,validation")
    chosen = {"train_split": "validation", "test_split": "train[:4]+test"}
    source = open_source("tfds:photos", data_dir=str(tmp_path), **chosen)
    assert (len(source.train), len(source.test)) == (6, 10)
    assert source.splits == ("validation", "train[:4]+test") and source.notes == ()
    with pytest.raises(InputError, match=r"no split 'dev' .*there are train, test, validation"):
        open_source("tfds:photos", data_dir=str(tmp_path), test_split="dev")
    # What is trained on is not tested on, in part or as a whole.
    for train, test in (("train", "train[80%:]"), ("train[:80%]", "train[3:]+test")):
        with pytest.raises(InputError, match=f"has images that {re.escape(train)} trains on"):
            open_source("tfds:photos", data_dir=str(tmp_path), train_split=train, test_split=test)
    parts = {"train_split": "train[:50%]", "test_split": "train[50%:]"}
    source = open_source("tfds:photos", data_dir=str(tmp_path), **parts)
    assert len(source.train) > 0 and len(source.test) > 0
    source = open_source("tfds:photos", data_dir=str(tmp_path), train_split="train+test")
    assert source.splits == ("train+test", "validation")
    source = open_source("tfds:photos", data_dir=str(tmp_path), train_split="train+test+validation")
    assert source.splits[1] == "20% of train+test+validation"
    with pytest.raises(InputError, match=r"no split 'train\[x\]'"):
        open_source("tfds:photos", data_dir=str(tmp_path), train_split="train[x]")


def test_tfds_with_some_labels_out_of_range_is_refused(tmp_path):
    prepare(tmp_path, extra="negative")
    with pytest.raises(InputError, match=r"example \d of tfds:photos, split test, has label -1"):
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
