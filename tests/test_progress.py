"""How far long work is: for people at a terminal, for programs, for TensorBoard."""

import io
import json
import sys

import pytest

from infoutil_jax import progress
from infoutil_jax.errors import InputError


class Terminal(io.StringIO):
    def isatty(self):
        return True


def work():
    with progress.Bar("students", 4, unit="epoch") as bar:
        bar.update(1, loss=2.5)
        bar.extend(2)
        bar.update(3, loss=0.5)


def test_listeners_are_told_every_step():
    heard = []
    with progress.listening(heard.append):
        work()
        progress.note("kept")
    work()
    assert [(e["stage"], e["done"], e["total"], e["loss"]) for e in heard[:2]] == [
        ("students", 1, 4, 2.5),
        ("students", 4, 6, 0.5),
    ]
    assert heard[0]["unit"] == "epoch" and heard[0]["memory_gib"] > 0
    assert heard[2:] == [{"note": "kept"}]


def test_a_terminal_sees_stage_figures_memory_and_time_left(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    work()
    shown = sys.stderr.getvalue()
    assert "students" in shown and "loss=0.5" in shown and "GiB" in shown and "epoch/s" in shown


def test_a_log_file_is_not_filled_with_bars(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    work()
    progress.note("kept")
    assert sys.stderr.getvalue() == "kept\n"


def test_json_lines_are_appended(tmp_path):
    path = tmp_path / "logs" / "run.jsonl"
    for _ in range(2):
        with progress.listening(progress.json_lines(path)):
            work()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["done"] for line in lines] == [1, 4, 1, 4]
    assert lines[0]["time"] <= lines[-1]["time"]


def test_a_place_for_lines_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot be written to: Is a directory"):
        progress.json_lines(tmp_path)


def test_tensorboard_reads_the_figures(tmp_path):
    """By its own reader of records, whose events TensorFlow defines."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c  # the file format's checksum

    with progress.listening(progress.tensorboard(tmp_path)):
        work()
    (file,) = tmp_path.iterdir()
    data, found = file.read_bytes(), {}
    while data:
        size = int.from_bytes(data[:8], "little")
        record = data[12 : 12 + size]
        assert int.from_bytes(data[12 + size : 16 + size], "little") == masked_crc32c(record)
        for value in Event.FromString(record).summary.value:
            found.setdefault(value.tag, []).append(value.simple_value)
        data = data[16 + size :]
    assert found["students/loss"] == [2.5, 0.5]


def test_tensorboard_without_its_package_is_told(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(InputError, match=r"pip install 'infoutil-jax\[tensorboard\]'"):
        progress.tensorboard(tmp_path)
