"""The experiment that asks whether every backbone learns, on the smallest one."""

from pathlib import Path

import pytest

from experiments import store
from experiments.backbones_learn import NARROW, RESULTS, BackbonesLearn, backbone
from infoutil_jax.errors import InputError
from infoutil_jax.models import BACKBONES

PHOTOS = f"folder:{Path(__file__).parents[1] / 'fixtures' / 'imagenette'}"


def test_few_photographs_are_learnt_in_both_precisions(tmp_path):
    results = tmp_path / "results.jsonl"
    BackbonesLearn(PHOTOS, ("convnet3",), results=results).run()
    found = store.read(results, backbone)["convnet3"]
    for run in found["runs"].values():
        assert run["top1"] >= 95 and len(run["loss"]) == run["steps"] <= 300
        assert run["loss"][-1] < run["loss"][0] / 2
    with pytest.raises(InputError, match="did not learn 101%: convnet3 in float32, convnet3 in bf"):
        BackbonesLearn(PHOTOS, ("convnet3",), known=101, results=results).run()


def test_what_is_committed_has_passed():
    assert set(NARROW) == set(BACKBONES)
    found = store.read(RESULTS, backbone)
    assert found.keys() == NARROW.keys()
    for name, result in found.items():
        for run in result["runs"].values():
            assert run["top1"] >= 95, name
