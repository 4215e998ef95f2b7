"""A folder that takes another's place is there at every moment."""

import sys
import threading

import pytest

from infoutil_jax import files

SWAPS = pytest.mark.skipif(sys.platform != "linux", reason="names are swapped by Linux's kernel")


def folder(path, content):
    path.mkdir()
    (path / "file").write_text(content)
    return path


@SWAPS
def test_two_names_change_places(tmp_path):
    one, other = folder(tmp_path / "one", "1"), folder(tmp_path / "other", "2")
    assert files.exchanged(one, other)
    assert [(path / "file").read_text() for path in (one, other)] == ["2", "1"]


def test_what_is_not_there_changes_no_places(tmp_path):
    one = folder(tmp_path / "one", "1")
    assert not files.exchanged(one, tmp_path / "other")
    assert (one / "file").read_text() == "1"


@SWAPS
def test_a_reader_always_finds_one_of_them(tmp_path):
    place, done, seen = folder(tmp_path / "set", "0"), threading.Event(), set()

    def read():
        while not done.is_set():
            seen.add(place.exists())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(300):
        files.move(folder(files.beside(place), str(number)), place)
    done.set()
    reader.join()
    assert seen == {True} and (place / "file").read_text() == "299"
    assert list(tmp_path.iterdir()) == [place]


def test_where_names_cannot_change_places_the_folder_is_moved_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "exchanged", lambda *_: False)
    place = folder(tmp_path / "set", "0")
    files.move(folder(files.beside(place), "1"), place)
    assert (place / "file").read_text() == "1" and list(tmp_path.iterdir()) == [place]
