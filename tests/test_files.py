"""Folders that come and go whole, and disks that refuse."""

import errno
import os

import pytest

from infoutil_jax import files


def litter(folder, name):
    """What a dead run has left beside a folder."""
    left = folder.parent / f".{folder.name}.0123abcd.{name}"
    left.mkdir(parents=True)
    (left / "file").touch()
    return left


def test_what_a_dead_run_has_moved_aside_comes_back(tmp_path):
    place = tmp_path / "set"
    old, part = litter(place, "old"), litter(place, "partial")
    files.recover(place)
    assert (place / "file").exists() and not old.exists() and not part.exists()


def test_a_link_named_like_litter_and_folders_of_others_stay(tmp_path):
    place = tmp_path / "set"
    place.mkdir()
    other = litter(tmp_path / "another", "partial")
    link = tmp_path / ".set.0123abcd.partial"
    link.symlink_to(other)
    files.recover(place)
    assert link.is_symlink() and (other / "file").exists()


def test_where_there_is_no_folder_nothing_is_recovered(tmp_path):
    files.recover(tmp_path / "none" / "set")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_disk_that_cannot_tell_its_room_is_trusted(tmp_path, monkeypatch, number):
    def refuses(*arguments):
        raise OSError(number, "not here")

    monkeypatch.setattr(os, "posix_fallocate", refuses)
    files.find_room(tmp_path, 2**40)


def test_a_disk_without_room_is_named(tmp_path, monkeypatch):
    def refuses(*arguments):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", refuses)
    with pytest.raises(OSError, match=str(tmp_path)) as told:
        files.find_room(tmp_path, 2**20)
    assert told.value.errno == errno.ENOSPC
