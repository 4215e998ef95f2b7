"""The order contract, by readers that are not ours (of more sets: results/folder_order.json)."""

import json
from pathlib import Path

import pytest

from experiments.folder_order import READERS, RESULTS, FolderOrder


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_finds_our_labels_whatever_the_classes_are_called(reader, tmp_path):
    pytest.importorskip(reader)
    run = FolderOrder(sets=40, seed=1, readers=(reader,), results=tmp_path / "r.json")
    assert run.run()["readers"][reader]["agree"] == 40


def test_the_committed_run_found_every_label():
    readers = json.loads(Path(RESULTS).read_text())["readers"]
    assert set(readers) == set(READERS)
    assert all(row["agree"] == row["sets"] == 300 for row in readers.values())
