"""The table of refined sets is that of the committed lines, and a line is run once."""

import json
from dataclasses import replace

import pytest

from experiments.refined import RESULTS, Refinement
from experiments.refined_table import write_tables
from infoutil_jax.errors import InputError


def test_the_table_is_that_of_the_lines(tmp_path):
    for file in RESULTS.glob("*.jsonl"):
        (tmp_path / file.name).write_text(file.read_text())
    write_tables(tmp_path)
    assert (tmp_path / "table.md").read_text() == (RESULTS / "table.md").read_text()


def test_every_line_says_what_made_it():
    lines = [
        json.loads(line)
        for file in RESULTS.glob("*.jsonl")
        for line in file.read_text().splitlines()
    ]
    assert lines
    for line in lines:
        assert {"arguments", "versions", "hardware", "reduced", "source"} <= line.keys()
        assert ("refiner" in line) == (line["arguments"]["refiner"] != "none")
        assert all(len(one["top1"]) == 3 for one in line["students"].values())


def test_what_has_a_line_is_not_run_again(tmp_path, capsys):
    cell = Refinement(refiner="frepo", budget=10, steps=7, results=tmp_path)
    assert cell.name == "infoutil, frepo, 10, set0, steps 7, convnet3"
    line = {
        "name": cell.name,
        "arguments": {
            "budget": 10,
            "refiner": "frepo",
            "start": "infoutil",
            "total_variation": 0.5,
            "distance": 0.0,
        },
        "refiner": {"steps": 7},
        "seconds": 3.0,
        "dataset": "CIFAR-10",
        "reduced": "small",
        "source": {"train_images": 1000, "test_images": 10},
        "students": {
            "convnet3": {"top1": [10.0, 20.0, 30.0]},
            "convnet3, dsa, stored labels": {"top1": [1.0, 2.0, 3.0]},
        },
    }
    file = tmp_path / "cifar10_convnet3_reduced_test.jsonl"
    file.write_text(json.dumps(line) + "\n")
    cell.run()
    assert "there already" in capsys.readouterr().out
    table = (tmp_path / "table.md").read_text()
    assert (
        "| 10 | infoutil | frepo, total variation 0.5 | 7 | hard | convnet3 | 20.0 ± 10.0 | 3.0 |"
        in table
    )
    assert "| 7 | stored | convnet3, dsa | 2.0 ± 1.0 | 3.0 |" in table
    assert replace(cell, total_variation=0.1).name.endswith("total_variation 0.1, convnet3")


@pytest.mark.parametrize(("refiner", "labels"), [("none", "learnt"), ("frepo", "stored")])
def test_labels_that_a_set_cannot_have_are_refused(refiner, labels):
    with pytest.raises(InputError, match=f"labels '{labels}' and refiner '{refiner}' do not go"):
        Refinement(refiner=refiner, labels=labels)
