"""The experiment that asks whether every backbone learns, on the smallest one."""

import json
from pathlib import Path

import pytest

from experiments.backbones_learn import NARROW, RESULTS, BackbonesLearn
from infoutil_jax.errors import InputError
from infoutil_jax.models import BACKBONES

PHOTOS = f"folder:{Path(__file__).parents[1] / 'data' / 'imagenette'}"


def test_few_photographs_are_learnt_in_both_precisions(tmp_path):
    learn = BackbonesLearn(PHOTOS, ("convnet3",), results=tmp_path)
    learn.run()
    found = json.loads((tmp_path / "convnet3.json").read_text())
    for run in found["runs"].values():
        assert run["top1"] >= 95 and len(run["loss"]) == run["steps"] <= 300
        assert run["loss"][-1] < run["loss"][0] / 2
    with pytest.raises(InputError, match="did not learn 101%: convnet3 in float32, convnet3 in bf"):
        BackbonesLearn(PHOTOS, ("convnet3",), known=101, results=tmp_path).run()


def test_what_is_committed_has_passed():
    assert set(NARROW) == set(BACKBONES)
    files = list(RESULTS.glob("*.json"))
    assert files
    for file in files:
        for run in json.loads(file.read_text())["runs"].values():
            assert run["top1"] >= 95, file.stem
