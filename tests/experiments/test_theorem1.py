import json
import re

import pytest

from experiments import theorem1
from experiments.theorem1 import RESULTS, Experiment, table

RECORDS = sorted(RESULTS.glob("*.json"))


def test_a_small_run_writes_its_record_and_table(teacher_dir, tmp_path, monkeypatch):
    trained = json.loads((teacher_dir / "config.json").read_text())
    monkeypatch.setattr(theorem1, "CASES", (("momentum", "sum"), ("adam", "mean")))
    Experiment(
        "digits",
        width=trained["options"]["width"],
        epochs=trained["epochs"],
        early_epochs=trained["early_epochs"],
        batches=2,
        batch_size=8,
        probes=8,
        warmup=2,
        workdir=teacher_dir.parent,
        results=tmp_path,
    ).run()
    record = json.loads((tmp_path / "digits.json").read_text())
    assert list(record["teachers"]) == ["untrained", "early", "converged"]
    assert len(record["figures"]) == 3 * 2 * 2
    check_bound(record)
    assert (tmp_path / "table.md").read_text().count("| converged |") == 2


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_the_committed_results_keep_to_the_theorem(path):
    check_bound(json.loads(path.read_text()))
    assert not re.search(r'": "(folder:)?/', path.read_text())  # nobody else's folders


def test_the_table_is_of_the_committed_results():
    assert len(RECORDS) == 2
    assert (RESULTS / "table.md").read_text() == table(RESULTS)


def check_bound(record):
    for figure in record["figures"]:
        if figure["reduction"] == "sum" and figure["optimiser"] != "adam":
            assert 0 < figure["of_bound"]["median"] <= figure["of_bound"]["max"] < 1 + 1e-5
