"""Utility measured over whole trainings: a toy run, and what is committed."""

import json
import re

import numpy as np
import pytest

from experiments.measured_utility import RESULTS, Measurement, render

RECORDS = sorted(RESULTS.glob("*.json"))


def test_a_toy_run_writes_its_record_and_table(tmp_path):
    Measurement(
        dataset="digits",
        max_per_class=20,
        teacher_epochs=2,
        early_epochs=1,
        full_width=8,
        candidates=3,
        students=12,
        epochs=2,
        width=8,
        full_epochs=2,
        seeds=(0, 1),
        workdir=tmp_path / "work",
        results=tmp_path / "results",
    ).run()
    record = json.loads((tmp_path / "results" / "digits_convnet3.json").read_text())
    assert {"best", "worst"} < record["confirmed_top1"].keys()
    assert all(len(top1) == 2 for top1 in record["confirmed_top1"].values())
    assert all(-1 <= value <= 1 for value in record["rank_correlation"].values())
    assert str(tmp_path) not in json.dumps(record)
    assert (tmp_path / "results" / "table.md").read_text() == render(tmp_path / "results")


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_the_set_called_best_is_better_than_the_one_called_worst(path):
    record = json.loads(path.read_text())
    best, worst = (np.mean(record["confirmed_top1"][name]) for name in ("best", "worst"))
    assert best > worst
    assert not re.search(r'": "(folder:)?/', path.read_text())  # nobody else's folders


def test_the_table_is_of_the_committed_results():
    if RECORDS:
        assert (RESULTS / "table.md").read_text() == render(RESULTS)
