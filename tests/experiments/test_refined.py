"""The table of refined sets is that of the committed lines, and a line is run once."""

import json
from dataclasses import replace

import pytest

from experiments.refined import RESULTS, Refinement
from experiments.refined_table import write_tables
from infoutil_jax.errors import InputError
from infoutil_jax.provenance import describe
from infoutil_jax.refine import infoutil_refined


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
        "| 10 | infoutil | frepo, total variation 0.5, none mirrored | 7 | hard | convnet3 | "
        "20.0 ± 10.0 | 3.0 |" in table
    )
    assert "| 7 | stored | convnet3, dsa | 2.0 ± 1.0 | 3.0 |" in table
    assert replace(cell, total_variation=0.1).name.endswith("total_variation 0.1, convnet3")


def test_leads_are_of_the_same_sets_and_of_the_recipe_alone(tmp_path):
    """Three refined sets, two of crops: 12 and 16 ahead, so 14 ± 25.4 (t of 0.975 is 12.71).

    Crops that another teacher chose are of another set.
    """

    usual = describe(infoutil_refined().refine.sized(160))

    def line(
        seed, refiner, students, tiles=16, held=False, objective=None, teacher=75.0, **changed
    ):
        given = {"budget": 1, "start": "infoutil", "total_variation": 0.0, "distance": 0.0}
        given |= {"refiner": refiner, "set_seed": seed, "tiles": tiles}
        given |= {"statistics": "held"} if held else {}
        about = {"dataset": "CIFAR-10", "reduced": "small", "name": f"{refiner} {seed}"}
        about["source"] = {"train_images": 1000, "test_images": 10}
        about["teacher_top1"] = {"early": 60.0, "converged": teacher}
        how = usual | changed | {"objective": usual["objective"] | (objective or {})}
        made = {} if refiner == "none" else {"refiner": how}
        top1 = {name: {"top1": [value] * 3} for name, value in students.items()}
        return json.dumps(about | made | {"arguments": given, "students": top1})

    lines = [
        *(line(seed, "frepo", {"a, learnt labels": 40.0 + seed, "a": 1.0}) for seed in (1, 2, 3)),
        line(1, "none", {"a": 29.0, "b": 30.0, "a, stored labels": 35.0}),
        line(2, "none", {"a": 26.0}),
        line(2, "none", {"a": 20.0}, tiles=1),
        line(3, "none", {"a": 0.0}, teacher=74.0),
        line(1, "frepo", {"a, learnt labels": 99.0}, steps=10),
        line(1, "frepo", {"a, learnt labels": 99.0}, tiles=1, partition=False),
        line(1, "frepo", {"a, learnt labels": 99.0}, batch_size=64),
        line(1, "frepo", {"a, learnt labels": 99.0}, objective={"greatest_age": 20}),
        line(1, "frepo", {"a, learnt labels": 99.0}, tiles=4),
        line(1, "frepo", {"a, learnt labels": 99.0}, objective={"normalised_by": "running"}),
        line(1, "frepo", {"a, learnt labels": 99.0}, network=usual["network"] | {"norm": "none"}),
        line(1, "frepo", {"a, learnt labels": 99.0}, mirrored=False),
        line(1, "frepo", {"a, learnt labels": 99.0}, held=True),
    ]
    (tmp_path / "cifar10_convnet3_reduced_test.jsonl").write_text("\n".join(lines) + "\n")
    write_tables(tmp_path)
    table, leads = (tmp_path / "table.md").read_text().split("over crops, the teacher's labels |")
    named = "frepo, learnt labels, greatest age 100"
    for what in (
        "64 real images a step",
        "normalised by running",
        "none mirrored",
        "statistics held",
    ):
        assert table.count(f"{named}, {what} |") == 1
    assert "99" not in leads
    ours = "| 1 | {} | 3 | 42.0 ± 1.0 | {} (sets: 2) | +6.0 (sets: 1) |"
    assert ours.format("a", "+14.0 ± 25.4") in leads
    assert ours.format("the best", "+13.5 ± 31.8") in leads


@pytest.mark.parametrize(("refiner", "labels"), [("none", "learnt"), ("frepo", "stored")])
def test_labels_that_a_set_cannot_have_are_refused(refiner, labels):
    with pytest.raises(InputError, match=f"labels '{labels}' and refiner '{refiner}' do not go"):
        Refinement(refiner=refiner, labels=labels)
