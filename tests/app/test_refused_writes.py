"""What a full disk, or a reader that has gone, does to a command beside its sets and teachers."""

import errno
import json
import os

import numpy as np
import pytest

from infoutil_jax import files, progress
from infoutil_jax.app import cli
from infoutil_jax.app.stopping import tell

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # of an open file: it names none


@pytest.fixture
def full(monkeypatch):
    """Has NumPy's writing fail midway, as on a disk that is full by then."""

    def savez(file, **columns):
        file.write(b"some of it")
        raise FULL

    monkeypatch.setattr(np, "savez", savez)


def test_an_error_of_an_open_file_names_it(tmp_path):
    with pytest.raises(OSError, match="No space left") as told, files.naming(tmp_path / "one"):
        raise FULL
    assert files.told(told.value).startswith(f"{tmp_path / 'one'}: No space left on device")


def test_what_cannot_be_written_leaves_nothing(tmp_path, full):
    path, part = tmp_path / "one.npz", tmp_path / "one.part"
    with pytest.raises(OSError, match=r"one\.npz"), files.writing(path, part), part.open("wb") as f:
        np.savez(f, a=np.zeros(1))
    assert not list(tmp_path.iterdir())


def test_a_log_on_a_full_disk_names_the_log():
    if not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("no /dev/full")
    write = progress.json_lines("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'"):
        write({"note": "seen"})


def test_a_reader_that_has_gone_is_no_error(monkeypatch, capsys):
    def gone(arguments):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(cli, "parsed", gone)
    assert cli.main(["verify", "x"]) == 141
    assert capsys.readouterr().err == ""


def test_a_sentence_that_nobody_can_be_told_changes_no_status(monkeypatch):
    class Unheard:
        def write(self, text):
            raise FULL

        def flush(self):
            raise FULL

    monkeypatch.setattr("sys.stderr", Unheard())
    tell("nobody hears this")


def test_compiled_programs_are_not_kept_on_a_full_disk(tmp_path, monkeypatch, capsys):
    """JAX would warn of each and leave files of no bytes."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "true")
    cli._keep_programs()
    assert os.environ["JAX_ENABLE_COMPILATION_CACHE"] == "true"
    assert capsys.readouterr().err == ""

    def refuse(folder, size):
        raise FULL

    monkeypatch.setattr(files, "find_room", refuse)
    cli._keep_programs()
    assert os.environ["JAX_ENABLE_COMPILATION_CACHE"] == "false"
    assert "compiled programs are not kept" in capsys.readouterr().err


def test_what_scoring_took_is_written_where_a_full_disk_has_left_it_out(digits, teachers, tmp_path):
    from infoutil_jax.distillation import DistillConfig, score_pool
    from infoutil_jax.method.recipes import rded

    config = DistillConfig(pool=5, progress=False)
    for images in (50, 0):  # all parts are there the second time
        score_pool(digits, teachers["converged"], rded(), folder=tmp_path / "p", config=config)
        assert json.loads((tmp_path / "p.json").read_text())["images"] == images
        (tmp_path / "p.json").unlink()
