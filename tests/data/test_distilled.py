import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from infoutil_jax import files
from infoutil_jax.data import distilled, layout
from infoutil_jax.data.distilled import DistilledDataset, check_destination, write_distilled
from infoutil_jax.errors import InputError

PHOTOS = Path(__file__).parents[1] / "fixtures/imagenette/train"
CLASSES = ("cassette player", "church/chapel", "golf_ball")


def everything(path):
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


# --- round trip


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("tiles", [1, 4])
def test_what_is_written_is_read_back_exactly(tmp_path, channels, tiles, arguments):
    given = arguments(channels, tiles)
    write_distilled(tmp_path / "set", **given)
    found = DistilledDataset.load(str(tmp_path / "set"))
    found.verify()
    for name in ("images", "labels", "soft_labels"):
        array = getattr(found, name)
        assert array.dtype == given[name].dtype
        np.testing.assert_array_equal(array, given[name])
    assert found.class_names == CLASSES and len(found) == 9
    assert found.manifest["recipe"] == "infoutil" and found.manifest["arguments"] == {"alpha": 2.0}
    tile = found.records[4]["tiles"][0]
    assert tile["box"] == [0, 4, 20, 24] and np.float32(tile["score"]) == np.float32(4 / 3)
    assert f"9 images of 20x24x{channels}, 3 classes, {tiles} tile" in repr(found)


def test_the_returned_set_is_the_one_on_disk(tmp_path, arguments):
    returned = write_distilled(tmp_path / "set", **arguments())
    loaded = DistilledDataset.load(tmp_path / "set")
    assert returned.records == loaded.records and returned.manifest == loaded.manifest
    np.testing.assert_array_equal(returned.images, loaded.images)


def test_same_arguments_same_bytes_wherever_they_go(tmp_path, arguments):
    write_distilled(tmp_path / "a", **arguments())
    given = arguments()
    given["manifest"] = dict(reversed(given["manifest"].items()))
    write_distilled(tmp_path / "b/c", **given)
    assert everything(tmp_path / "a") == everything(tmp_path / "b/c")


def test_images_are_stored_in_the_order_of_their_labels(tmp_path, arguments):
    labels = np.array([2, 0, 2, 1, 0, 2, 2, 0, 2], np.int32)
    given = arguments() | {"labels": labels}
    found = write_distilled(tmp_path / "set", **given)
    order = [1, 4, 7, 3, 0, 2, 5, 6, 8]
    for name in ("images", "labels", "soft_labels"):
        np.testing.assert_array_equal(getattr(found, name), given[name][order])
    sources = [record["tiles"][0]["source"] for record in found.records]
    assert sources == [given["records"][i]["tiles"][0]["source"] for i in order]
    files = [file.as_posix() for file in sorted(found.path.glob("images/*/*.png"))]
    for i, file in enumerate(files):
        np.testing.assert_array_equal(np.asarray(Image.open(file)), found.images[i])
    found.verify()


def test_more_channels_than_png_holds_are_numpy_files(tmp_path, arguments):
    given = arguments()
    bands = np.concatenate([given["images"], 255 - given["images"]], axis=-1)
    found = write_distilled(tmp_path / "set", **given | {"images": bands})
    np.testing.assert_array_equal(found.images, bands)
    assert np.load(found.path / "images/2_golf_ball/000008.npy").shape == (20, 24, 6)
    found.verify()


# --- the layout other libraries read


def test_metadata_joins_every_image_file_as_imagefolder_wants_it(written):
    lines = (written.path / "metadata.jsonl").read_text().splitlines()
    assert all(line.startswith('{"file_name": "images/') for line in lines)
    rows = [json.loads(line) for line in lines]
    files = {p.relative_to(written.path).as_posix() for p in written.path.rglob("*.png")}
    assert {row["file_name"] for row in rows} == files
    for row, image, label in zip(rows, written.images, written.labels, strict=True):
        np.testing.assert_array_equal(
            np.asarray(Image.open(written.path / row["file_name"])), image
        )
        assert row["label"] == label and row["class_name"] == CLASSES[label]
    for row, logits in zip(rows, written.soft_labels, strict=True):
        np.testing.assert_array_equal(np.array(row["soft_labels"], np.float32), logits)


@pytest.mark.parametrize("channels", [2, 4])
def test_bands_that_are_no_alpha_are_not_stored_as_alpha(tmp_path, arguments, channels):
    """Readers of PNG would blend the last one."""
    given = arguments(channels)
    given["manifest"] = {**given["manifest"], "alpha": False}
    found = write_distilled(tmp_path / "set", **given)
    assert {file.suffix for file in found.path.glob("images/*/*")} == {".npy"}
    np.testing.assert_array_equal(found.images, given["images"])
    assert "np.load(file)" in (found.path / "README.md").read_text()


def test_soft_labels_open_with_plain_safetensors(written):
    tensors = safetensors.numpy.load_file(written.path / "soft_labels.safetensors")
    np.testing.assert_array_equal(tensors["soft_labels"], written.soft_labels)


def test_soft_labels_are_never_all_text_at_once(tmp_path, arguments):
    soft_labels = np.random.default_rng(0).normal(size=(40, 64, 40)).astype(np.float32)
    given = arguments() | {"soft_labels": soft_labels, "labels": np.arange(40)}
    given |= {"images": np.zeros((40, 8, 8, 3), np.uint8), "records": [{}] * 40}
    given |= {"class_names": [f"{i:03}" for i in range(40)]}
    write_distilled(tmp_path / "set", **given)  # what is imported for it stays
    tracemalloc.start()
    try:
        write_distilled(tmp_path / "set", **given, overwrite=True)
        assert tracemalloc.get_traced_memory()[1] < 12 * soft_labels.nbytes  # their text alone: 5.5
    finally:
        tracemalloc.stop()


# --- whole or not at all


@pytest.mark.parametrize("after", range(13))
def test_a_failure_at_any_file_leaves_nothing(tmp_path, monkeypatch, after, arguments):
    write, calls = distilled._write, []

    def failing(file, data):
        calls.append(file)
        if len(calls) > after:
            raise KeyboardInterrupt
        return write(file, data)

    monkeypatch.setattr(distilled, "_write", failing)
    with pytest.raises(KeyboardInterrupt):
        write_distilled(tmp_path / "set", **arguments())
    assert list(tmp_path.iterdir()) == []
    assert len(calls) == after + 1, "nine images and four files: each of them has failed once"


def test_a_failed_replacement_keeps_the_old_set(tmp_path, written, monkeypatch, arguments):
    before = everything(tmp_path)
    rename = Path.rename

    def failing(self, target):
        if self.name.endswith(".partial"):
            raise OSError("disk full")
        return rename(self, target)

    monkeypatch.setattr(files, "exchanged", lambda *_: False)  # as where a disk cannot
    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="disk full"):
        write_distilled(written.path, **arguments(channels=1), overwrite=True)
    assert everything(tmp_path) == before


def test_a_set_that_cannot_be_read_back_takes_nobodys_place(tmp_path, written, arguments):
    before = everything(tmp_path)
    wide = np.zeros((9, 2, layout.MOST_SIDE + 1, 3), np.uint8)
    with pytest.raises(InputError, match="three positive integers up to 16384"):
        write_distilled(written.path, **arguments() | {"images": wide}, overwrite=True)
    assert everything(tmp_path) == before


def test_a_set_is_replaced_only_when_asked(tmp_path, written, arguments):
    with pytest.raises(InputError, match="overwrite=True"):
        write_distilled(written.path, **arguments())
    with pytest.raises(InputError, match="overwrite=True"):
        check_destination(written.path)
    found = write_distilled(written.path, **arguments(channels=1), overwrite=True)
    found.verify()
    assert found.images.shape[3] == 1 and list(tmp_path.iterdir()) == [found.path]


def test_other_files_are_never_replaced(tmp_path, arguments):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for name in ("mine", "file"):
        with pytest.raises(InputError, match="something else"):
            write_distilled(tmp_path / name, **arguments(), overwrite=True)
    with pytest.raises(InputError, match=r"cannot be a folder, for .*file is a file"):
        check_destination(tmp_path / "file" / "sets" / "one")
    assert set(everything(tmp_path).values()) == {b"precious"}
    (tmp_path / "empty").mkdir()
    found = write_distilled(tmp_path / "empty", **arguments())
    found.verify()
    (found.path / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match=r"thesis.txt is not part of the distilled set"):
        write_distilled(found.path, **arguments(), overwrite=True)
    assert (found.path / "thesis.txt").exists()


# --- verify


# --- bad input


def with_nan(soft_labels):
    soft_labels = soft_labels.copy()
    soft_labels[3, 2, 1] = np.nan
    return soft_labels


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("images", lambda x: x.astype(np.float32), "images are float32"),
        ("labels", lambda x: x % 2, "class 'golf_ball' has no image"),
        ("images", lambda x: x[:0], "not empty"),
        ("labels", lambda x: x[:8], "should be 9 integers"),
        ("labels", lambda x: x.astype(np.float32), "should be 9 integers"),
        ("labels", lambda x: x - 1, "label 0 is -1; it should be 0 to 2"),
        ("labels", lambda x: x + 1, "label 6 is 3; it should be 0 to 2"),
        ("soft_labels", lambda x: x.astype(np.float64), "should be float32"),
        ("soft_labels", lambda x: x[..., :2], "3 classes"),
        ("soft_labels", lambda x: x[:, :0], "1 or more tiles"),
        ("soft_labels", with_nan, r"soft_labels\[3, 2, 1\] is nan"),
        ("class_names", lambda x: ("a", "b", "a"), "all be different"),
        ("records", lambda x: x[:4], "4 records for 9 images"),
        ("records", lambda x: [*x[:8], {"label": 1}], "record 8 has a key 'label'"),
        ("records", lambda x: [*x[:8], {"score": float("nan")}], "record 8 should hold"),
        ("records", lambda x: [*x[:8], {"path": Path("x")}], "record 8 should hold"),
        ("manifest", lambda x: {"files": {}}, "manifest has a key 'files'"),
        ("manifest", lambda x: {"f": len}, "manifest should hold what JSON can"),
    ],
)
def test_bad_input_is_told_in_one_sentence_and_writes_nothing(
    tmp_path, name, change, sentence, arguments
):
    given = arguments()
    with pytest.raises(InputError, match=sentence) as error:
        write_distilled(tmp_path / "set", **given | {name: change(given[name])})
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


# --- a set stays inside its own folder


# --- the datasheet


def datasheet(tmp_path, arguments, **manifest):
    given = arguments()
    write_distilled(tmp_path / "sheet", **given | {"manifest": given["manifest"] | manifest})
    return (tmp_path / "sheet" / "README.md").read_text()


@pytest.mark.parametrize("turn", [True, False])
def test_the_datasheet_says_that_images_are_turned(tmp_path, arguments, turn):
    training = {"temperature": 20.0, "flip": True, "batch_size": 3, "epochs": 2}
    training |= {"learning_rate": 0.001} | ({"turn": True} if turn else {})
    text = datasheet(tmp_path, arguments, training=training)
    for said in ("| Turned images | likely to help, by a half: no way is up |", "rot90"):
        assert (said in text) == turn


def test_the_datasheet_says_from_where_by_what_and_under_which_terms(tmp_path, arguments):
    teacher = {"name": "resnet18", "stage": "early", "digest": "ab" * 32, "accuracy": 81.25}
    teacher |= {"mean": [0.5], "std": [0.5]}
    text = datasheet(
        tmp_path,
        arguments,
        recipe={"name": "rded", "crop": {}},
        rule="rded cuts | and keeps.",
        source={
            "name": "birds",
            "fingerprint": "f0",
            "train_images": 9000,
            "skipped": ["a", "b"],
            "filled_classes": {"owl": 3},
        },
        pool=300,
        seed=5,
        teacher=teacher,
        label_teacher=teacher,
        licence="cc-by-4.0",
        forgotten={"examples": [4, 9, 11], "fingerprint": None},
    )
    for line in (
        'license: "cc-by-4.0"',
        "| Source | birds, 9000 training images, fingerprint `f0` |",
        "| Rule | rded cuts \\| and keeps. |",
        "| Choice | from up to 300 images of each class, seed 5 |",
        f"| Labelled by | teacher early resnet18, digest `{'ab' * 32}` |",
        "| Left out | 2 images that could not be read |",
        "| Filled up | classes of too few images, by other crops: owl |",
        "| Removed | training images: 3, as if they had not been there |",
        "| Licence | cc-by-4.0 |",
        "- The images are pieces of real images: whoever or whatever is in these can be "
        "recognised.",
        "- Soft labels are the opinion of one network, right in 81.2% of the source's test images: "
        "its mistakes are taught, too.",
    ):
        assert line in text.splitlines()


def test_a_datasheet_does_not_say_what_is_not_known(tmp_path, arguments):
    text = datasheet(tmp_path, arguments)
    assert "license: unknown\n" in text and "| Licence | not stated; the terms of" in text
    assert "Removed" not in text and "Labelled by" not in text and "Choice" not in text
    assert "pieces of real images" not in text


def test_a_licence_cannot_write_front_matter_of_its_own(tmp_path, arguments):
    text = datasheet(tmp_path, arguments, licence='x"\ntags: [a]')
    assert 'license: "x\\"\\U0000000Atags: [a]"' in text.splitlines()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("licence", 3),
        ("rule", ["x"]),
        ("forgotten", [1]),
        ("forgotten", {"examples": [-1]}),
        ("forgotten", {"examples": [1], "fingerprint": 3}),
    ],
)
def test_a_manifest_that_says_such_things_otherwise_is_told(tmp_path, arguments, key, value):
    given = arguments()
    with pytest.raises(InputError, match=f"has {key} "):
        write_distilled(
            tmp_path / "sheet", **given | {"manifest": given["manifest"] | {key: value}}
        )
    assert not (tmp_path / "sheet").exists()


def test_a_manifest_whose_partition_is_no_truth_value_is_told(tmp_path, arguments):
    training = {"temperature": 1.0, "flip": True, "batch_size": 3, "epochs": 2}
    training |= {"learning_rate": 0.001, "partition": "yes"}
    with pytest.raises(InputError, match="true or false for a partition"):
        datasheet(tmp_path, arguments, training=training)
