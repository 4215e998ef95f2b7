"""An index spares the next opening the reading of images; what has changed is read all the same."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from infoutil_jax import provenance
from infoutil_jax.data import loading, sources, survey
from infoutil_jax.data.sources import open_source
from infoutil_jax.errors import InputError

OPTIONS = {"image_size": 24, "test_fraction": 0.4}


@pytest.fixture
def read(monkeypatch):
    """Ids of the images that are read, each time that one is."""
    seen = []
    original = loading.read

    def reading(examples, use, index):
        seen.append(examples.ids[index])
        return original(examples, use, index)

    for module in (loading, sources):
        monkeypatch.setattr(module, "read", reading)
    return seen


@pytest.fixture
def opened(folder, tmp_path):
    def opened(**options):
        chosen = {"index": tmp_path / "found.npz"} | OPTIONS | options
        return open_source(f"folder:{folder}", **chosen)

    return opened


def same(one, other):
    """Two sources tell the same in everything that a user sees."""
    for name in ("class_names", "image_size", "channels", "skipped", "notes", "value_range"):
        assert getattr(one, name) == getattr(other, name), name
    assert one.fingerprint() == other.fingerprint()
    for mine, theirs in ((one.train, other.train), (one.test, other.test)):
        assert mine.ids == theirs.ids
        for got, wanted in zip(mine.arrays(), theirs.arrays(), strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("in_memory", [True, False])
def test_the_second_opening_reads_nothing_and_tells_the_same(opened, read, in_memory):
    first = opened(in_memory=in_memory)
    read.clear()
    second = opened(in_memory=in_memory)
    assert not read
    same(first, second)
    same(open_source(first.spec, **OPTIONS), second)
    other = opened(in_memory=in_memory, image_size=16)
    assert other.fingerprint() != first.fingerprint()
    same(open_source(first.spec, **OPTIONS | {"image_size": 16}), other)


def test_an_image_that_is_changed_added_or_removed_is_noticed(opened, folder, read):
    before = opened()
    changed = folder / "cat/0001.jpg"
    status = changed.stat()
    Image.open(folder / "ship/0002.jpg").save(changed, quality=95)
    os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))  # another size, the same time
    read.clear()
    after = opened()
    assert {name for name in read} == {"cat/0001.jpg"}
    assert after.fingerprint() != before.fingerprint()
    same(after, open_source(after.spec, **OPTIONS))

    Image.open(changed).save(folder / "cat/9.png")
    (folder / "ship/0000.jpg").unlink()
    read.clear()
    last = opened()
    assert set(read) == {"cat/9.png"}
    assert {"cat/9.png"} <= set(last.train.ids + last.test.ids)
    assert "ship/0000.jpg" not in last.train.ids + last.test.ids
    same(last, open_source(last.spec, **OPTIONS))


def test_a_file_of_the_same_size_and_another_time_is_read(opened, folder, read):
    before = opened()
    one = folder / "cat/0003.jpg"
    data = bytearray(one.read_bytes())
    data[-40] ^= 1  # within the compressed pixels
    one.write_bytes(bytes(data))
    os.utime(one, ns=(1, 1))
    read.clear()
    assert opened().fingerprint() != before.fingerprint()
    assert set(read) == {"cat/0003.jpg"}


def test_a_file_of_the_same_size_and_time_is_read(opened, folder, read):
    """An archive that keeps times brings another version: the file system knows."""
    before = opened()
    one = folder / "cat/0003.jpg"
    status, data = one.stat(), bytearray(one.read_bytes())
    data[-40] ^= 1
    one.write_bytes(bytes(data))
    os.utime(one, ns=(status.st_atime_ns, status.st_mtime_ns))
    read.clear()
    assert opened().fingerprint() != before.fingerprint()
    assert set(read) == {"cat/0003.jpg"}


def test_a_damaged_image_is_told_however_often_and_left_out_if_asked(opened, folder):
    opened()
    (folder / "cat/0002.jpg").write_bytes(b"no image")
    for _ in range(2):
        with pytest.raises(InputError, match=r"cat/0002\.jpg cannot be read as an image"):
            opened()
    for _ in range(2):
        assert opened(skip_unreadable=True).skipped == ("cat/0002.jpg",)


def test_what_opening_says_of_depth_and_alpha_is_said_again(tmp_path, folder):
    wide = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32) * 7
    clear = np.zeros((32, 32, 4), np.uint8)
    for name in ("cat", "ship"):
        Image.fromarray(wide).save(folder / name / "wide.png")
        Image.fromarray(clear + np.uint8([255, 255, 255, 0])).save(folder / name / "clear.png")
    options = {"channels": 3, "test_fraction": 0.2}
    first, second = (
        open_source(f"folder:{folder}", index=tmp_path / "i.npz", **options) for _ in range(2)
    )
    assert any("become 0 to 255" in note for note in first.notes)
    assert any("of one colour then" in note for note in first.notes)
    same(first, second)


@pytest.mark.parametrize("damage", ["cut", "text", "other code", "folder"])
def test_an_index_that_is_of_no_use_is_written_anew(opened, tmp_path, read, monkeypatch, damage):
    first, path = opened(), tmp_path / "found.npz"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "text":
        path.write_text(json.dumps({"ids": []}))
    elif damage == "other code":
        monkeypatch.setattr(provenance, "CODE", "another")
    else:
        path.unlink()
        path.mkdir()
    read.clear()
    second = opened()
    assert len(set(read)) == 10
    same(first, second)
    read.clear()
    opened()
    assert bool(read) == (damage == "folder")  # which cannot be written


def test_a_part_of_the_images_adds_to_what_is_known(opened, read):
    opened(max_per_class=3)
    opened()
    read.clear()
    opened(max_per_class=4)
    opened()
    assert not read


def test_a_source_without_files_has_no_index(tmp_path):
    path = tmp_path / "index.npz"
    first, second = (open_source("digits", index=path) for _ in range(2))
    assert not path.exists()
    same(first, second)
    assert survey.Index.load(path).images == {}
