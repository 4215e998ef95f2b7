"""The order contract: sorted by name, class folders are in the order of the labels."""

import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from infoutil_jax.data.distilled import write_distilled
from infoutil_jax.data.layout import class_folders

HOSTILE = (
    "a/b",
    "a\\b",
    "a b",
    "A",
    "a",
    "..",
    "",
    "con",
    "été",
    "x" * 300,
    "0001_a_b",
    "犬",
    ".hid",
)
NAMES = st.lists(st.text(max_size=12), min_size=1, max_size=40, unique=True)


@pytest.mark.parametrize(
    "names, folders",
    [
        (("ants", "bees"), ["ants", "bees"]),
        (tuple("0123456789"), list("0123456789")),
        (
            ("beagle", "golden retriever", "husky"),
            ["0_beagle", "1_golden_retriever", "2_husky"],
        ),
        (("zebra", "ant"), ["0_zebra", "1_ant"]),  # labels of TFDS are in an order of their own
        (("B", "a"), ["0_B", "1_a"]),  # sorted for some readers, not for those that fold case
        (("straße", "犬.jpg"), ["0_straße", "1_犬_jpg"]),
        (("9", "10"), ["0_9", "1_10"]),
        (("t", "t-shirt"), ["0_t", "1_t-shirt"]),  # "-" comes before the "/" of their files' paths
        (("t-shirt", "t"), ["0_t-shirt", "1_t"]),
        (("A-b", "T", "t-shirt"), ["0_A-b", "1_T", "2_t-shirt"]),
        (("t", "top-hat"), ["t", "top-hat"]),
    ],
)
def test_names_stay_readable(names, folders):
    assert class_folders(names) == folders


def test_thousands_of_classes_are_in_order():
    folders = class_folders([f"class {i}" for i in range(12_345)])
    assert folders == sorted(folders) and folders[7] == "00007_class_7"


@given(NAMES)
@example(list(HOSTILE))
@example(["covid", "covid-19"])
@example(["C", "c-d"])
def test_any_class_names_are_in_order_and_safe(names):
    folders = class_folders(names)
    for ends in ("", "/"):  # as folders, and as the beginning of their files' paths
        for form in (str, str.casefold):
            ordered = [form(folder + ends) for folder in folders]
            assert ordered == sorted(ordered)
    assert len({unicodedata.normalize("NFD", name.casefold()) for name in folders}) == len(names)
    for folder in folders:
        assert 0 < len(folder.encode()) < 120 and folder.isprintable()
        assert not set(folder) & set('/\\:*?"<>| .') and not folder.startswith("-" * 2)


def test_a_set_of_hostile_names_is_whole(tmp_path, arguments):
    given, n = arguments(), len(HOSTILE)
    given |= {
        "images": given["images"][np.arange(n) % 9],
        "labels": np.arange(n, dtype=np.int32),
        "soft_labels": np.zeros((n, 1, n), np.float32),
        "records": [{}] * n,
        "class_names": HOSTILE,
    }
    found = write_distilled(tmp_path / "set", **given)
    found.verify()
    assert found.class_names == HOSTILE
    assert sorted(p.name for p in (found.path / "images").iterdir()) == class_folders(HOSTILE)


def test_names_that_go_on_with_a_hyphen_are_read_back(tmp_path, arguments):
    given = arguments() | {"class_names": ("covid", "covid-19", "none")}
    found = write_distilled(tmp_path / "set", **given)
    found.verify()
    np.testing.assert_array_equal(found.labels, given["labels"])


TFDS = """
import sys, tensorflow_datasets as tfds
for path in sys.argv[1:]:
    builder = tfds.ImageFolder(path)
    rows = builder.as_dataset(split="images", shuffle_files=False)
    print(sorted((row["image/filename"].decode().split("/")[-1], int(row["label"]))
                 for row in rows.as_numpy_iterator()))
"""


def test_tfds_reads_our_labels(written):
    pytest.importorskip("tensorflow_datasets")
    done = subprocess.run(  # a process of its own, because TensorFlow comes with it
        [sys.executable, "-c", TFDS, written.path], capture_output=True, text=True, timeout=120
    )
    right = [(f"{i:06d}.png", int(label)) for i, label in enumerate(written.labels)]
    assert done.stdout.strip() == str(right), done.stderr[-2000:]
