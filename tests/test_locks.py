"""A lock that cannot be had."""

import errno

import pytest

from infoutil_jax import locks


def test_a_lock_that_the_disk_fails_to_give_is_told_as_it_is(tmp_path, monkeypatch):
    def fails(*arguments):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(locks.fcntl, "flock", fails)
    with pytest.raises(OSError, match="broken"), locks.locked(tmp_path / "set"):
        pytest.fail("it has no lock")
