"""Whatever changes in a set on disk is found, and nothing outside of it is opened."""

import json
import os
import shutil

import pytest

from infoutil_jax.data import distilled, layout
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.errors import InputError


@pytest.mark.parametrize(
    "name",
    [
        *("README.md", "manifest.json", "metadata.jsonl", "soft_labels.safetensors"),
        "images/2_golf_ball/000007.png",
    ],
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
    extra = written.path / "images/2_golf_ball/extra.png"
    shutil.copy(written.path / "images/2_golf_ball/000007.png", extra)
    with pytest.raises(InputError, match=r"extra.png is not part of the set"):
        written.verify()
    extra.rename(written.path / ".hidden")
    with pytest.raises(InputError, match=r".hidden is not part of the set"):
        written.verify()


def sign(path, manifest):
    """Write a manifest as a set's author does."""
    manifest["sha256"] = layout.digest(manifest)
    (path / "manifest.json").write_bytes(layout.text_of(manifest))


def forge(path, change):
    """Change metadata rows and sign the set anew: only its own consistency can tell."""
    rows = [json.loads(line) for line in (path / "metadata.jsonl").read_text().splitlines()]
    change(rows)
    manifest = json.loads((path / "manifest.json").read_text())
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    manifest["files"]["metadata.jsonl"] = distilled._write(path / "metadata.jsonl", [data])
    sign(path, manifest)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda rows: rows[0].update(label=1), "line 1 says label 1 is 'cassette player'"),
        (lambda rows: rows[8].update(label=7), "line 9 says label 7"),
        (lambda rows: rows[2].update(class_name="golf_ball"), "line 3"),
        (lambda rows: rows.pop(), "lists 8 images"),
        (lambda rows: rows[0].update(file_name=rows[1]["file_name"]), "lists 9 images"),
        (lambda rows: rows[1].pop("soft_labels"), "line 2 has other soft labels"),
        (lambda rows: rows.append(rows[8]), "line 10 has other soft labels"),
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


@pytest.mark.parametrize(
    "name", ["/etc/x", "../x", "images/../../x", "C:/x", "a\\b", "a//b", "./a"]
)
def test_a_manifest_cannot_name_a_file_outside_the_set(written, name):
    manifest = json.loads((written.path / "manifest.json").read_text())
    manifest["files"][name] = "0" * 64
    sign(written.path, manifest)
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


def test_a_set_of_an_earlier_version_is_told(written):
    file = written.path / "manifest.json"
    file.write_text(file.read_text().replace("infoutil-distilled-2", "infoutil-distilled-1"))
    with pytest.raises(InputError, match=r"infoutil-distilled-1, of an earlier version; distil"):
        DistilledDataset.load(written.path)


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
        ("files", {"README.md": 1}),
    ],
)
def test_the_types_in_a_manifest_are_checked(written, key, value):
    manifest = json.loads((written.path / "manifest.json").read_text()) | {key: value}
    sign(written.path, manifest)
    with pytest.raises(InputError, match=r"manifest.json has "):
        DistilledDataset.load(written.path)
