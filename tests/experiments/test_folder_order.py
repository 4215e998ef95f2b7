"""The order contract, through a reader that is not ours (others: results/folder_order.json)."""

import json
from pathlib import Path

import pytest

from experiments.folder_order import RESULTS, FolderOrder


def test_tfds_finds_our_labels_whatever_the_classes_are_called(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    run = FolderOrder(
        sets=40, seed=1, readers=("tensorflow_datasets",), results=tmp_path / "r.json"
    )
    assert run.run()["readers"]["tensorflow_datasets"]["agree"] == 40


def test_the_committed_run_found_every_label():
    readers = json.loads(Path(RESULTS).read_text())["readers"]
    assert set(readers) == {"torchvision", "tensorflow_datasets", "datasets"}
    assert all(row["agree"] == row["sets"] == 300 for row in readers.values())
