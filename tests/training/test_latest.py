"""The latest state of long work: what is kept, how often, and what a disk's refusal leaves."""

import errno
import os
import time

import jax.numpy as jnp
import numpy as np
import pytest

from infoutil_jax import files
from infoutil_jax.errors import InputError
from infoutil_jax.training import latest
from infoutil_jax.training.latest import Latest

LIKE = {"w": jnp.zeros(3), "step": np.zeros(1)}


def state(number):
    return {"w": jnp.full(3, float(number)), "step": np.full(1, float(number))}


def test_the_last_state_is_found_again(tmp_path):
    folder = tmp_path / "below" / "work"
    with Latest(folder) as kept:
        assert kept.latest(LIKE) == (0, LIKE)
        assert not folder.exists(), "looking makes nothing"
        kept.save(3, state(3))
        kept.save(7, state(7))
    with Latest(folder) as kept:
        step, found = kept.latest(LIKE)
    assert step == 7
    np.testing.assert_array_equal(found["w"], [7, 7, 7])
    np.testing.assert_array_equal(found["step"], [7])
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["7"], "one state is kept"


def test_without_a_folder_nothing_is_kept():
    with Latest(None) as kept:
        kept.save(3, state(3))
        assert kept.latest(LIKE) == (0, LIKE)


def test_saving_takes_no_more_than_its_share_of_the_time(tmp_path, monkeypatch):
    """A clock by hand: each saving takes three seconds, and may take a tenth of the time."""
    now, steps = [0.0], []
    monkeypatch.setattr(latest.time, "perf_counter", lambda: now[0])

    class Manager:
        def save(self, step, args):
            steps.append(step)
            now[0] += 3

    monkeypatch.setattr(Latest, "_opened", lambda self, folder: Manager())
    kept = Latest(tmp_path / "work", 0.1)
    for step in range(1, 101):
        now[0] += 1
        kept.save(step, state(step))
    # The first when a tenth of the time is the guess of 0.2 s, the next ones 30 s after the last.
    assert steps == [2, 32, 62, 92]
    assert 3 * len(steps) / now[0] < 0.11


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_refuses_leaves_the_state_before(tmp_path, monkeypatch, number):
    with Latest(tmp_path / "work") as kept:
        kept.save(1, state(1))

        def refuse(folder, size):
            raise OSError(number, os.strerror(number), str(folder))

        monkeypatch.setattr(files, "find_room", refuse)
        with pytest.raises(OSError, match=os.strerror(number)):
            kept.save(2, state(2))
    with Latest(tmp_path / "work") as kept:
        assert kept.latest(LIKE)[0] == 1


def test_a_damaged_state_is_told(tmp_path):
    with Latest(tmp_path / "work") as kept:
        kept.save(1, state(1))
    for file in (tmp_path / "work" / "1").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with Latest(tmp_path / "work") as kept, pytest.raises(InputError, match="is damaged, or was"):
        kept.latest(LIKE)


def test_time_is_that_of_the_work(tmp_path):
    """Less than ten seconds of work keep nothing at two in a hundred."""
    with Latest(tmp_path / "work", 0.02) as kept:
        time.sleep(0.05)
        kept.save(1, state(1))
    assert not (tmp_path / "work").exists()
