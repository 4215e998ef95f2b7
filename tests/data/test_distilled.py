import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from infoutil_jax.data import distilled, layout
from infoutil_jax.data.distilled import DistilledDataset, check_destination, write_distilled
from infoutil_jax.errors import InputError

PHOTOS = Path(__file__).parents[1] / "fixtures/imagenette/train"
CLASSES = ("cassette player", "church/chapel", "golf_ball")


def arguments(channels=3, tiles=4):
    """Nine real photographs, three a class, as a set of `channels` channels."""
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    files = sorted(PHOTOS.glob("*/*.jpg"))
    images = np.stack([np.asarray(Image.open(f).resize((24, 20)).convert(mode)) for f in files])
    images = images.reshape(9, 20, 24, channels).copy()
    if channels in (2, 4):
        images[..., -1] = np.arange(24) * 10  # colours under full transparency have to survive
    rng = np.random.default_rng(0)
    return {
        "images": images,
        "labels": np.repeat(np.arange(3, dtype=np.int32), 3),
        "soft_labels": rng.normal(size=(9, tiles, 3)).astype(np.float32),
        "class_names": CLASSES,
        "records": [
            {
                "tiles": [
                    {"source": f.name, "box": np.array([0, i, 20, 24]), "score": np.float32(i / 3)}
                ]
            }
            for i, f in enumerate(files)
        ],
        "manifest": {"recipe": "infoutil", "seed": 0, "arguments": {"alpha": 2.0}},
    }


def everything(path):
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.fixture
def written(tmp_path):
    return write_distilled(tmp_path / "set", **arguments())


# --- round trip


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("tiles", [1, 4])
def test_what_is_written_is_read_back_exactly(tmp_path, channels, tiles):
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


def test_the_returned_set_is_the_one_on_disk(tmp_path):
    returned = write_distilled(tmp_path / "set", **arguments())
    loaded = DistilledDataset.load(tmp_path / "set")
    assert returned.records == loaded.records and returned.manifest == loaded.manifest
    np.testing.assert_array_equal(returned.images, loaded.images)


def test_same_arguments_same_bytes_wherever_they_go(tmp_path):
    write_distilled(tmp_path / "a", **arguments())
    given = arguments()
    given["manifest"] = dict(reversed(given["manifest"].items()))
    write_distilled(tmp_path / "b/c", **given)
    assert everything(tmp_path / "a") == everything(tmp_path / "b/c")


def test_labels_in_any_order_and_classes_without_images(tmp_path):
    given = arguments() | {"labels": np.array([2, 0, 2, 0, 0, 2, 2, 0, 2], np.int32)}
    found = write_distilled(tmp_path / "set", **given)
    np.testing.assert_array_equal(found.labels, given["labels"])
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


def test_tfds_image_folder_counts_the_same_images(written):
    pytest.importorskip("tensorflow_datasets")
    count = "import sys, tensorflow_datasets as t; print(t.ImageFolder(sys.argv[1]).info.splits)"
    done = subprocess.run(  # a process of its own, because TensorFlow comes with it
        [sys.executable, "-c", count, written.path], capture_output=True, text=True, timeout=120
    )
    assert "'images': <SplitInfo num_examples=9," in done.stdout, done.stderr[-2000:]


def test_soft_labels_open_with_plain_safetensors(written):
    tensors = safetensors.numpy.load_file(written.path / "soft_labels.safetensors")
    np.testing.assert_array_equal(tensors["soft_labels"], written.soft_labels)


def test_any_class_name_gets_a_folder_of_its_own(tmp_path):
    names = ("a/b", "a\\b", "a b", "A", "a", "..", "", "con", "été", "x" * 300, "0001_a_b", "犬")
    given = arguments()
    n = len(names)
    given |= {
        "images": given["images"][np.arange(n) % 9],
        "labels": np.arange(n, dtype=np.int32),
        "soft_labels": np.zeros((n, 1, n), np.float32),
        "records": [{}] * n,
        "class_names": names,
    }
    found = write_distilled(tmp_path / "set", **given)
    found.verify()
    assert found.class_names == names
    folders = [p.name for p in (found.path / "images").iterdir()]
    assert len({f.casefold() for f in folders}) == n
    assert all(f.isascii() and 0 < len(f) < 100 and not f.startswith(".") for f in folders)


# --- whole or not at all


@pytest.mark.parametrize("after", range(12))
def test_a_failure_at_any_file_leaves_nothing(tmp_path, monkeypatch, after):
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
    assert len(calls) == after + 1, "nine images and three files: each of them has failed once"


def test_a_failed_replacement_keeps_the_old_set(tmp_path, written, monkeypatch):
    before = everything(tmp_path)
    rename = Path.rename

    def failing(self, target):
        if self.name.endswith(".partial"):
            raise OSError("disk full")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="disk full"):
        write_distilled(written.path, **arguments(channels=1), overwrite=True)
    assert everything(tmp_path) == before


def test_a_set_is_replaced_only_when_asked(tmp_path, written):
    with pytest.raises(InputError, match="overwrite=True"):
        write_distilled(written.path, **arguments())
    with pytest.raises(InputError, match="overwrite=True"):
        check_destination(written.path)
    found = write_distilled(written.path, **arguments(channels=1), overwrite=True)
    found.verify()
    assert found.images.shape[3] == 1 and list(tmp_path.iterdir()) == [found.path]


def test_other_files_are_never_replaced(tmp_path):
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


@pytest.mark.parametrize(
    "name",
    ["manifest.json", "metadata.jsonl", "soft_labels.safetensors", "images/golf_ball/000007.png"],
)
@pytest.mark.parametrize("way", ["flip", "cut", "empty", "remove"])
def test_every_change_of_every_file_is_found(written, name, way):
    file = written.path / name
    data = file.read_bytes()
    for position in (0, len(data) // 2, len(data) - 2):
        changed = bytearray(data)
        changed[position] ^= 1
        match way:
            case "flip":
                file.write_bytes(changed)
            case "cut":
                file.write_bytes(data[:position])
            case "empty":
                file.write_bytes(b"")
            case "remove":
                file.unlink(missing_ok=True)
        with pytest.raises(InputError, match=name):
            written.verify()
        with pytest.raises(InputError, match=name):
            DistilledDataset.load(written.path).verify()
    file.write_bytes(data)
    written.verify()


def test_a_changed_recipe_in_the_manifest_is_found(written):
    file = written.path / "manifest.json"
    file.write_text(file.read_text().replace('"alpha": 2.0', '"alpha": 1.0'))
    with pytest.raises(InputError, match=r"manifest.json has changed"):
        DistilledDataset.load(written.path)


def test_files_that_do_not_belong_are_found(written):
    extra = written.path / "images/golf_ball/extra.png"
    shutil.copy(written.path / "images/golf_ball/000007.png", extra)
    with pytest.raises(InputError, match=r"extra.png is not part of the set"):
        written.verify()
    extra.rename(written.path / ".hidden")
    with pytest.raises(InputError, match=r".hidden is not part of the set"):
        written.verify()


def forge(path, change):
    """Change metadata rows and sign the set anew: only its own consistency can tell."""
    rows = [json.loads(line) for line in (path / "metadata.jsonl").read_text().splitlines()]
    change(rows)
    manifest = json.loads((path / "manifest.json").read_text())
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    manifest["files"]["metadata.jsonl"] = distilled._write(path / "metadata.jsonl", data)
    manifest["sha256"] = layout.digest(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda rows: rows[0].update(label=1), "line 1 says label 1 is 'cassette player'"),
        (lambda rows: rows[8].update(label=7), "line 9 says label 7"),
        (lambda rows: rows[2].update(class_name="golf_ball"), "line 3"),
        (lambda rows: rows.pop(), "lists 8 images"),
        (lambda rows: rows[0].update(file_name=rows[1]["file_name"]), "lists 9 images"),
        (lambda rows: rows[0].pop("label"), "not JSON lines with file_name, label"),
    ],
)
def test_labels_files_and_folders_have_to_agree(written, change, sentence):
    forge(written.path, change)
    with pytest.raises(InputError, match=sentence):
        DistilledDataset.load(written.path)


def test_loading_something_else_is_told(tmp_path):
    with pytest.raises(InputError, match=r"manifest.json cannot be read: No such file"):
        DistilledDataset.load(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="not of a distilled set"):
        DistilledDataset.load(tmp_path)


# --- bad input


def with_nan(soft_labels):
    soft_labels = soft_labels.copy()
    soft_labels[3, 2, 1] = np.nan
    return soft_labels


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("images", lambda x: x.astype(np.float32), "images are float32"),
        ("images", lambda x: np.repeat(x, 2, axis=-1), "6 channels"),
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
def test_bad_input_is_told_in_one_sentence_and_writes_nothing(tmp_path, name, change, sentence):
    given = arguments()
    with pytest.raises(InputError, match=sentence) as error:
        write_distilled(tmp_path / "set", **given | {name: change(given[name])})
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


# --- a set stays inside its own folder


@pytest.mark.parametrize(
    "name", ["/etc/x", "../x", "images/../../x", "C:/x", "a\\b", "a//b", "./a"]
)
def test_a_manifest_cannot_name_a_file_outside_the_set(written, name):
    manifest = json.loads((written.path / "manifest.json").read_text())
    manifest["files"][name] = "0" * 64
    manifest["sha256"] = layout.digest(manifest)
    (written.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="should be a path inside the set"):
        DistilledDataset.load(written.path)


@pytest.mark.parametrize("name", ["images", "metadata.jsonl", "soft_labels.safetensors"])
def test_links_in_a_set_are_refused(tmp_path, written, name):
    (written.path / name).rename(tmp_path / "elsewhere")
    (written.path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="goes through the link"):
        DistilledDataset.load(written.path)
    with pytest.raises(InputError, match="is not part of the set"):
        written.verify()


def test_a_fifo_is_refused_without_being_opened(written):
    (written.path / "metadata.jsonl").unlink()
    os.mkfifo(written.path / "metadata.jsonl")
    with pytest.raises(InputError, match="is not a regular file"):
        written.verify()


def test_the_folder_of_a_set_may_be_reached_through_a_link(tmp_path, written):
    (tmp_path / "link").symlink_to(written.path)
    DistilledDataset.load(tmp_path / "link").verify()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("class_names", "abc"),
        ("class_folders", ["a"]),
        ("image_shape", [20, 24]),
        ("tiles", True),
        ("files", []),
        ("files", {"a": 1}),
    ],
)
def test_the_types_in_a_manifest_are_checked(written, key, value):
    manifest = json.loads((written.path / "manifest.json").read_text()) | {key: value}
    manifest["sha256"] = layout.digest(manifest)
    (written.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"manifest.json has "):
        DistilledDataset.load(written.path)
