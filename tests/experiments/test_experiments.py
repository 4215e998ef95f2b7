"""The experiments: tables name what exists, runs are resumable, reports tell the truth."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments import report, store
from experiments.cells import ROWS, Cell
from experiments.datasets import DATASETS
from experiments.published import PAPER
from experiments.reproduced import Reproduced
from experiments.run import Experiment
from experiments.setting import Setting
from experiments.store import Key
from experiments.tables import TABLES, Table
from infoutil_jax import load_teacher
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import RECIPES

TEACHERS = Path(report.HERE) / "teachers"
TOY = Experiment(
    "table1",
    dataset="digits",
    rows=("infoutil_paper_gp", "random", "random-hard", "forgetting", "sre2l", "everything"),
    budgets=(1,),
    width=8,
    max_per_class=20,
    teacher_epochs=2,
    early_epochs=1,
    student_epochs=2,
    inversion_iterations=5,
    pool=15,
    seeds=(0, 1),
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment")
    experiment = replace(TOY, workdir=folder / "work", results=folder / "results")
    experiment.run()
    replace(experiment, table="labels", rows=("random", "random-hard")).run()
    replace(experiment, table="table9", rows=("forgetting", "random")).run()
    return experiment


def test_every_row_of_every_table_exists_and_names_a_method():
    special = {"everything", "forgetting", "sre2l"}
    for table in TABLES.values():
        for row in table.rows:
            assert ROWS[row].recipe.recipe in RECIPES.keys() | special, row
        assert {dataset for dataset, _ in table.settings} <= DATASETS.keys()


@pytest.mark.parametrize(
    ("table", "dataset", "backbone", "row", "budget", "figure"),
    [
        ("table1", "cifar10", "convnet3", "infoutil_paper_gp", 10, 54.1),
        ("table1", "imagenette", "resnet18", "rded", 50, 80.4),
        ("table1", "cifar10", "convnet3", "random", 10, None),
        ("table4", "imagenette", "convnet5", "infoutil_paper_gp-steps5", 1, 56.59),
        ("table4", "imagenette", "convnet5", "random-steps5", 1, None),
        ("table3", "imagenet1k", "resnet101", "rded", 50, 61.2),
        ("table5", "tiny_imagenet", "resnet18", "infoutil_paper_gp", 100, 60.6),
        ("table6", "imagenette", "resnet18", "random_crop_gradient_norm", 50, 85.0),
        ("table7", "imagewoof", "resnet18", "no_noise", 10, 40.0),
        ("table8", "imagenet1k", "resnet18", "grad_cam", 10, 30.394),
        ("table9", "cifar10", "convnet3", "herding", 1, 21.5),
        ("table9", "imagenet1k", "resnet18", "k_means", 10, 5.5),
        ("table11", "imagewoof", "resnet18", "rded-converged-labels", 50, 68.5),
    ],
)
def test_the_papers_figures_stand_in_their_places(table, dataset, backbone, row, budget, figure):
    assert TABLES[table].paper(dataset, backbone, row, budget) == figure


def test_every_published_figure_of_table_1_can_be_found():
    found = {
        TABLES["table1"].paper(dataset, backbone, row, budget)
        for dataset, backbone in TABLES["table1"].settings
        for row in ("infoutil_paper_gp", "rded", "sre2l")
        for budget in (1, 10, 50)
    }
    published = {
        figure
        for budgets in PAPER["table1_main"].values()
        for row in budgets.values()
        for name, figure in row.items()
        if name.split("/")[1] in ("InfoUtil", "RDED", "SRe2L")
    }
    assert published <= found


def test_a_cell_says_what_it_is_and_what_it_was_made_with(ran):
    result = store.cells(ran.results / ran.folder)[Key("infoutil_paper_gp", 1)]
    assert result["cell"]["row"]["name"] == "infoutil_paper_gp"
    assert len(result["student"]["top1"]) == 2
    assert result["student"]["top1_mean"] == pytest.approx(np.mean(result["student"]["top1"]))
    assert result["distilled"]["recipe"]["name"] == "infoutil_paper"
    assert result["distilled"]["teacher"]["digest"] == result["teacher_digest"]["converged"]
    labeller = result["distilled"]["label_teacher"]
    assert labeller["digest"] == result["teacher_digest"][labeller["stage"]]
    for stage in ("early", "converged"):
        assert 0 <= result["teacher_calibration"][stage]["ece"] <= 1
        assert 0 <= result["teacher_calibration"][stage]["entropy"] <= np.log(10)
    assert 0 < result["distill_seconds"] < result["seconds"]
    assert result["storage"]["images"] > 0 and result["storage"]["labels"] > 0
    assert result["peak_memory"]["host"] > 10**8 and result["seconds"] > 0
    assert result["versions"]["jax"] and result["hardware"]["processor"]
    assert str(ran.workdir) not in json.dumps(result)


def test_what_has_run_is_not_run_again(ran, capsys):
    file = ran.results / ran.folder / "ipc1.jsonl"
    before = file.read_bytes()
    ran.run()
    assert file.read_bytes() == before and "random" not in capsys.readouterr().out


def test_a_cell_that_another_process_has_run_meanwhile_is_not_run_again(ran, monkeypatch, result):
    def run_beside(setting, cell):
        for row in ("random", "random-hard"):
            store.add_cell(folder, result(row, 1, 20.0))
        return result(cell.row.name, 1, 10.0)

    monkeypatch.setattr(Setting, "run", run_beside)
    beside = replace(ran, rows=("infoutil_paper_gp", "random"), results=ran.workdir / "beside")
    folder = beside.results / beside.folder
    beside.run()
    means = {key.row: one["student"]["top1_mean"] for key, one in store.cells(folder).items()}
    assert means == {"infoutil_paper_gp": 10.0, "random": 20.0, "random-hard": 20.0}


def test_scored_pools_are_found_again(ran):
    pools = sorted((ran.workdir / ran.folder / "pools").glob("*.npz"))
    written = [path.stat().st_mtime_ns for path in pools]
    other = replace(ran, rows=("infoutil_paper_gp",), budgets=(2,), results=ran.workdir / "other")
    other.run()
    assert [path.stat().st_mtime_ns for path in pools] == written
    assert sorted((ran.workdir / ran.folder / "pools").glob("*.npz")) == pools


def test_pools_that_other_code_scored_are_not_found(ran, monkeypatch):
    def pools():
        return len(list((ran.workdir / ran.folder / "pools").glob("*.npz")))

    before = pools()
    monkeypatch.setattr("experiments.setting.scoring_code", lambda: "other")
    replace(ran, rows=("random",), budgets=(2,), results=ran.workdir / "changed").run()
    assert pools() == before + 1


def test_the_page_shows_what_ran_and_what_did_not(ran):
    page = (ran.results / "README.md").read_text()
    group = report.by_teacher(report.load(ran.results / ran.folder))[0]
    assert f"| random | {report.top1(group['random', 1])} |" in page
    assert re.search(r"^Not run: .*\brded\b", page, re.MULTILINE)
    assert "one student where no deviation stands" in page
    assert "## scikit-learn's digits, convnet3" in page
    assert (ran.results / ran.folder / "accuracy.png").exists()


def test_classes_that_come_in_steps_have_a_figure_after_each(ran):
    result = Setting.prepare(ran).run(Cell(replace(ROWS["random"], name="steps", steps=2), 1))
    steps = [step["top1_mean"] for step in result["steps"]]
    assert len(steps) == 2 and steps[-1] == result["student"]["top1_mean"]
    # After the last step all classes are seen: the cell without steps.
    whole = store.cells(ran.results / ran.folder)[Key("random", 1)]
    assert steps[-1] == whole["student"]["top1_mean"]


def test_a_scorer_that_is_no_stage_is_made(ran):
    experiment = replace(ran, table="scoring")
    names = ("herding-by-untrained", "herding-by-convnet4")
    replace(experiment, rows=names, image_size=16, workdir=ran.workdir / "other").run()
    found = store.cells(ran.results / ran.folder)
    untrained, other = (found[Key(name, 1)] for name in names)
    assert untrained["distilled"]["teacher"]["stage"] == "untrained"
    assert other["distilled"]["teacher"]["name"] == "convnet4"
    assert untrained["distilled"]["label_teacher"] == other["distilled"]["label_teacher"]


@pytest.mark.parametrize("stage", ["early", "converged"])
@pytest.mark.parametrize("folder", sorted(TEACHERS.iterdir()), ids=lambda f: f.name)
def test_the_teachers_of_the_results_are_there(folder, stage):
    digest = load_teacher(folder, stage).digest()
    results = report.load(report.RESULTS / folder.name)
    assert results and {result["teacher_digest"][stage] for result in results} == {digest}


def test_a_result_is_named_by_row_budget_and_set():
    assert str(Cell(ROWS["rded-stored"], 10).key(2)) == "rded-stored-ipc10-set2"
    table = Table("t", (), ("rded", "everything"), (1, 10))
    assert [str(c.key()) for c in table.cells()] == ["rded-ipc1", "rded-ipc10", "everything"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"table": "table99"}, "table 'table99' is unknown"),
        ({"dataset": "mnist"}, "dataset 'mnist' is unknown"),
        ({"backbone": "alexnet"}, "not run: backbone 'alexnet' does not exist"),
        ({"rows": ("dream",)}, "row 'dream' is unknown"),
    ],
)
def test_what_is_not_there_is_told(change, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        replace(TOY, **change, results=tmp_path / "results").run()
    assert not (tmp_path / "results").exists()


def test_two_machines_results_are_compared_cell_by_cell(tmp_path, capsys, result, write):
    def cell(row, *top1):
        student = {"top1": list(top1), "top1_mean": np.mean(top1), "top1_std": np.std(top1, ddof=1)}
        one = result(row, 1, student["top1_mean"])
        return one | {"student": student, "versions": {"jax": "1"}}

    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    write(mine / "digits_convnet3", cell("rded", 10, 12), cell("random", 20, 22), cell("a", 1, 2))
    write(theirs / "digits_convnet3", cell("rded", 11, 13), cell("random", 30, 32))
    found = Reproduced(mine, theirs, tmp_path / "saved.json").run()["digits_convnet3"]
    assert found["mean"] == 5.5 and found["outside"] == ["random-ipc1"]
    assert set(found["cells"]) == {"rded-ipc1", "random-ipc1"}
    assert "2 cells" in capsys.readouterr().out
    assert json.loads((tmp_path / "saved.json").read_text())["digits_convnet3"] == found
    with pytest.raises(InputError, match="no cell in common"):
        Reproduced(mine, tmp_path / "nowhere").run()


@pytest.mark.parametrize(("reduced", "end"), [(True, "_reduced"), (False, "")])
def test_reduced_results_lie_apart(reduced, end):
    assert replace(TOY, reduced=reduced).folder == f"digits_convnet3{end}"
    assert report.named(f"digits_convnet3{end}") == ("digits", "convnet3")
