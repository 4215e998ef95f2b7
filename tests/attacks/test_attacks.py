"""The attacks in short; `python -m tests.attacks` is the long form."""

import errno
import gc
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from infoutil_jax import files, locks
from infoutil_jax.app.cli import main
from infoutil_jax.app.stopping import ending
from infoutil_jax.data import layout
from infoutil_jax.data.distilled import DistilledDataset, write_distilled
from infoutil_jax.errors import InputError
from tests.attacks import fuzz
from tests.attacks.content import CONTENT, rewritten, small_set
from tests.attacks.damage import DEEP, sign

HOLDS = """
import sys, time
from infoutil_jax import locks
with locks.locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def small(tmp_path):
    return small_set(tmp_path / "set")


def everything(path):
    return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}


# --- sets


def test_flipped_bytes_are_found_and_never_used(tmp_path):
    found = fuzz.flips(tmp_path, 60)
    assert found == {"flips": 60, "found by verify": 60, "silently used by load": 0}


def test_forged_sets_are_told_in_a_sentence_and_pass_no_pinned_digest(tmp_path):
    counts, passed = fuzz.forged_sets(tmp_path, 120)
    assert not counts.wrong and counts["told"] > 60 and passed == 0


def test_a_pinned_digest_refuses_another_set(small, capsys):
    file = small.path / layout.MANIFEST
    manifest = json.loads(file.read_bytes())
    sign(small.path, manifest | {"images_per_class": 3})
    edited = DistilledDataset.load(small.path)
    with pytest.raises(InputError, match=f"is another set: its digest is {edited.digest}, not"):
        DistilledDataset.load(small.path, digest=small.digest)
    assert main(["verify", str(small.path), "--digest", small.digest]) == 2
    assert "is another set" in capsys.readouterr().err
    assert main(["verify", str(small.path), "--digest", edited.digest]) == 0
    assert f"digest: {edited.digest}" in capsys.readouterr().out


def test_a_manifest_in_other_bytes_has_changed(small):
    file = small.path / layout.MANIFEST
    file.write_bytes(file.read_bytes().replace(b"\n  ", b"\n\t ", 1))
    with pytest.raises(InputError, match="says the same in other bytes"):
        DistilledDataset.load(small.path)


def test_json_that_is_nested_too_deeply_is_told(small):
    (small.path / layout.MANIFEST).write_bytes(DEEP)
    with pytest.raises(InputError, match="nested too deeply"):
        DistilledDataset.load(small.path)


def test_an_absurd_size_is_told_before_it_is_read(small):
    with (small.path / layout.MANIFEST).open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match=r"has 1099511627776 bytes; it should have at most"):
        DistilledDataset.load(small.path)


def test_a_size_that_the_files_cannot_hold_takes_no_memory(small):
    manifest = json.loads((small.path / layout.MANIFEST).read_bytes())
    sign(small.path, manifest | {"image_shape": [16384, 16384, 3]})
    with pytest.raises(InputError, match="too few for an image"):
        DistilledDataset.load(small.path)


def test_a_count_that_the_files_cannot_hold_takes_no_memory(small):
    """Neither does reading: a buffer is as large as its file, not as what the file might be."""
    manifest = json.loads((small.path / layout.MANIFEST).read_bytes())
    sign(small.path, manifest | {"tiles": 2**50})
    tracemalloc.start()
    try:
        with pytest.raises(
            InputError, match=r"soft_labels.safetensors is float32 \(6, 2, 3\); it should be"
        ):
            DistilledDataset.load(small.path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_labels_too_large_for_a_float_are_told_without_a_warning(small):
    file = small.path / layout.METADATA
    first, *others = file.read_text().splitlines()
    row = json.loads(first)
    row["soft_labels"][0][0] = 1e308
    file.write_text("\n".join([json.dumps(row), *others]) + "\n")
    sign(small.path, json.loads((small.path / layout.MANIFEST).read_bytes()))
    with pytest.raises(InputError, match="line 1 has other soft labels"):
        DistilledDataset.load(small.path)


# --- options


def test_wild_options_are_told_and_none_is_taken_out_of_its_range():
    counts, outside = fuzz.wild_options(60)
    assert not counts.wrong and counts["told"] > 20 and outside == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("teacher digits --workdir w --learning-rate nan", "--learning-rate is nan; it must be a"),
        ("run digits --student.batch-size 0", "--student.batch-size is 0; it must be at least 1"),
        ("run digits --seed 18446744073709551616", "it must be at most 4294967295"),
        ("run digits --grid 100", "--grid is 100; it must be at most 16"),
        ("run digits --teacher.width 0", "--teacher.width is 0; it must be at least 1"),
        ("run digits --student.crop-scale 0.9 0.1", "low then high"),
        ("teacher digits --workdir / --epochs 1", "/ is the whole disk"),
    ],
)
def test_an_option_out_of_its_range_is_one_sentence(words, sentence, capsys):
    assert main(words.split()) == 2
    (line,) = [one for one in capsys.readouterr().err.splitlines() if "infoutil: " in one]
    assert sentence in line


# --- locks


def held(folder):
    """A process that holds the lock of `folder`."""
    process = subprocess.Popen([sys.executable, "-c", HOLDS, folder], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    return process


def test_a_second_run_is_refused_and_a_dead_owners_lock_is_taken_over(tmp_path):
    with held(tmp_path / "set") as other:
        named = rf"set is in use by process {other.pid} on {os.uname().nodename} \(-c .*since"
        with pytest.raises(InputError, match=named), locks.locked(tmp_path / "set"):
            pass
        (tmp_path / "link").symlink_to(tmp_path / "set")
        with pytest.raises(InputError, match="in use"):
            small_set(tmp_path / "link")
        other.kill()
        other.wait()
    assert (tmp_path / ".set.lock").exists()
    locks.sweep(tmp_path / "set")
    assert not (tmp_path / ".set.lock").exists()
    small_set(tmp_path / "set").verify()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "set"]


def test_without_locks_of_the_file_system_a_file_names_the_owner(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with locks.locked(tmp_path / "set"):
        owner = json.loads((tmp_path / ".set.owner").read_text())
        assert owner["pid"] == os.getpid()
        monkeypatch.setattr(locks, "_mine", {})
        with pytest.raises(InputError, match=r"if that has ended, remove .*owner"):
            locks.locked(tmp_path / "set").__enter__()
    (tmp_path / ".set.owner").write_text(json.dumps(owner | {"pid": 2**22 + 1}))
    with locks.locked(tmp_path / "set"):
        assert json.loads((tmp_path / ".set.owner").read_text()) == owner
    assert list(tmp_path.iterdir()) == []


# --- what dies, and what the disk refuses


def attacked(tmp_path, imports, call):
    """What an attack finds, in a process of its own, which may fork."""
    program = (
        f"import json, pathlib, sys; from infoutil_jax import files; from tests.attacks import "
        f"{imports}; folder = pathlib.Path(sys.argv[1]); print(json.dumps({call}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert done.returncode == 0, done.stderr + (tmp_path / "log").read_text()
    return json.loads(done.stdout)


def test_replacing_a_set_survives_death_at_every_disk_operation(tmp_path):
    found = attacked(tmp_path, "content, death", "death.crashes(folder, content.rewritten)")
    assert found["crashes"] == found["recovered"] > 20
    assert found["without a set meanwhile"] == 0, "two names change places in one step"


def test_where_names_cannot_change_places_the_next_start_mends_it(tmp_path):
    call = (
        "setattr(files, 'exchanged', lambda *_: False) or death.crashes(folder, content.rewritten)"
    )
    found = attacked(tmp_path, "content, death", call)
    assert found["crashes"] == found["recovered"] > 20
    assert found["without a set meanwhile"] == 1, "between two renames"


def test_a_stream_that_is_killed_leaves_a_set_that_verifies(tmp_path):
    found = attacked(tmp_path, "streams", "streams.kills(folder, 2)")
    assert found["kills"] == found["a set was there"] == found["it verified"] == 2
    assert found["the same bytes in the end"] == found["nothing left beside"] == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_disk_that_refuses_is_one_sentence(small, monkeypatch, capsys, number):
    before, opened = everything(small.path.parent), Path.open

    def refuse(self, mode="r", *arguments, **options):
        if "w" in mode:
            raise OSError(number, os.strerror(number), str(self))
        return opened(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(
        "infoutil_jax.data.distilled.DistilledDataset.verify",
        lambda self: rewritten(self.path, True),
    )
    assert main(["verify", str(small.path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert os.strerror(number) in line and "what was there before is as it was" in line
    assert everything(small.path.parent) == before


def test_a_file_that_cannot_grow_leaves_the_earlier_set(small):
    before, limits = everything(small.path.parent), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            rewritten(small.path, True)
        with pytest.raises(OSError, match="File too large"):
            files.write(small.path.parent / "summary.json", "x" * 300)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert everything(small.path.parent) == before


def test_a_linked_workdir_is_replaced_where_it_leads(small, tmp_path):
    (tmp_path / "link").symlink_to(small.path)
    found = rewritten(tmp_path / "link", True)
    assert (tmp_path / "link").is_symlink() and found.digest != small.digest
    assert DistilledDataset.load(small.path).digest == found.digest
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError, match="loop leads nowhere"):
        write_distilled(tmp_path / "loop", **CONTENT)


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGTERM, 75, "terminated"), (signal.SIGINT, 130, "interrupted")],
)
def test_a_signal_ends_with_a_sentence(number, status, word, capsys):
    before = signal.getsignal(signal.SIGTERM)

    def work():
        signal.raise_signal(number)
        return 0

    assert ending(work) == status
    assert capsys.readouterr().err == f"infoutil: {word}; run the same command again to go on.\n"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_in_the_midst_of_garbage_collection_is_not_lost(number, status):
    """Python ignores what is raised there, as in JAX's own callback."""

    def callback(phase, info):
        gc.callbacks.remove(callback)
        signal.raise_signal(number)

    def work():
        gc.callbacks.append(callback)
        gc.collect()
        for _ in range(300):  # a signal that another thread is given interrupts no sleep
            time.sleep(0.1)
        return 0

    hook = sys.unraisablehook
    assert ending(work) == status
    assert sys.unraisablehook is hook


def test_what_is_no_regular_file_is_told_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(tmp_path / "socket"))
    for name in ("fifo", "socket", "."):
        with pytest.raises((InputError, IsADirectoryError)):
            files.read(tmp_path / name, 100)
