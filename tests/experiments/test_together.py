"""Students of many sets side by side are the students of each set on its own."""

import json
import sys
from pathlib import Path

import pytest

from experiments import grid, store
from experiments.freeze import check_frozen, freeze
from experiments.grid import PLACES, Grid
from experiments.run import Experiment
from experiments.tables import TABLES
from experiments.together import Together
from infoutil_jax.errors import InputError

TOY = {
    "table": "all",
    "dataset": "digits",
    "reduced": True,
    "width": 8,
    "max_per_class": 20,
    "teacher_epochs": 2,
    "early_epochs": 1,
    "student_epochs": 3,
    "pool": 10,
    "seeds": (0, 1),
}
ROWS = ("infoutil-stored", "random-stored", "random-hard", "everything")
BUDGETS = (1, 40)  # of pools of ten images a class


def test_each_result_is_what_a_run_of_its_own_gives(tmp_path, capsys):
    places = {"workdir": tmp_path / "work", "rows": ROWS, "budgets": BUDGETS, "validation": True}
    together = Together(
        **TOY, **places, set_seeds=(0, 1), students=3, results=tmp_path / "together"
    )
    together.run()
    assert "not run" in capsys.readouterr().err
    for seed in (0, 1):
        Experiment(**TOY, **places, set_seed=seed, results=tmp_path / "alone").run()
    found, alone = (
        store.cells(tmp_path / name / together.folder) for name in ("together", "alone")
    )
    assert found.keys() == alone.keys() and len(found) == 2 * len(ROWS)
    for key, result in found.items():
        assert result["student"]["top1"] == pytest.approx(alone[key]["student"]["top1"], abs=1.5)
        if key.row != "everything":
            assert result["distilled"] == alone[key]["distilled"]
            assert result["students_at_once"] == 2
    stamps = [path.stat().st_mtime_ns for path in tmp_path.rglob("*.jsonl")]
    together.run()  # there is nothing left to do
    assert [path.stat().st_mtime_ns for path in tmp_path.rglob("*.jsonl")] == stamps


def test_a_grid_runs_each_setting_whose_images_are_there(tmp_path, monkeypatch):
    (tmp_path / "cifar10").mkdir()
    called = []

    def run(command, **_):
        called.append(command)
        return type("Done", (), {"returncode": int("resnet18" in command)})

    monkeypatch.setattr(grid.subprocess, "run", run)
    chosen = Grid(tmp_path, rows=("random",), budgets=(1, 10), validation=True, processes=1)
    assert chosen.run() == 1  # of ResNet-18 failed
    settings = {(c[c.index("--dataset") + 1], c[c.index("--backbone") + 1]) for c in called}
    assert settings == {("cifar10", "convnet3"), ("cifar10", "resnet18"), ("digits", "convnet3")}
    for command in called:
        assert command[:4] == [sys.executable, "-m", "experiments.together", "recommended"]
        assert "--validation" in command and command[command.index("--rows") + 1] == "random"


def test_test_images_are_read_only_for_what_is_frozen(tmp_path, monkeypatch):
    monkeypatch.setattr(grid.subprocess, "run", pytest.fail)
    path = tmp_path / "frozen.json"
    monkeypatch.setattr(grid, "check_frozen", lambda: check_frozen(path))
    with pytest.raises(InputError, match=r"frozen\.json is not there: run experiments\.freeze"):
        Grid(tmp_path).run()
    freeze(path)
    check_frozen(path)
    frozen = json.loads(path.read_text())
    frozen["recipe"]["select"]["ridge"] = 0.2
    path.write_text(json.dumps(frozen))
    with pytest.raises(InputError, match="was written for other recipe than today's"):
        Grid(tmp_path).run()


def test_what_was_tested_is_what_was_frozen():
    check_frozen()


def test_the_grids_settings_are_those_of_the_table():
    assert {(p.dataset, p.backbone) for p in PLACES} == set(TABLES["recommended"].settings)
    assert not [p for p in PLACES if p.folder and Path(p.folder).is_absolute()]
