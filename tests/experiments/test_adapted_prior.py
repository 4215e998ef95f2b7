"""The page of benchmarks: its figures of fitted priors are the committed ones."""

import json
import re
from pathlib import Path

import numpy as np

from experiments.benchmarks import right_windows
from experiments.benchmarks.adapted_prior import RESULT

PAGE = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()


def test_the_page_says_what_was_measured():
    kinds = json.loads(RESULT.read_text())["kinds"]
    text = " ".join(PAGE.split())
    told = re.search(
        r"errors from 64, 128 and 256 coalitions are (.+?) on the mean and (.+?) at most; under "
        r"the prior of other networks (.+?) on the mean, without a grid (.+?) \(",
        text,
    )
    assert told is not None and len(kinds) == 10
    names = ("fitted", "fitted", "other networks", "no grid")
    for figures, name, over in zip(
        told.groups(), names, (np.mean, np.max, np.mean, np.mean), strict=True
    ):
        expected = over([kind["errors"][name] for kind in kinds.values()], axis=0)
        said = [float(number) for number in re.findall(r"[\d.]+", figures)]
        np.testing.assert_allclose(said, expected, rtol=0.04)
    errors = {
        name: np.array([kind["errors"][name] for kind in kinds.values()]) for name in set(names)
    }
    assert (errors["fitted"] < errors["no grid"]).all()
    assert round(100 * np.max(1 - errors["other networks"] / errors["fitted"])) == 22
    covered = np.array([kind["coverage"] for kind in kinds.values()])
    assert np.round(covered.min(0)).tolist() == [89, 91, 82]
    assert np.round(covered.max(0)).tolist() == [98, 99, 100]


def test_the_page_says_how_many_coalitions_windows_take():
    measured = json.loads(right_windows.RESULT.read_text())["teachers"]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", PAGE, re.M)
    said = {name: figures for name, *figures in rows}
    names = {
        "ConvNet-3 (CIFAR-10)": "cifar10_convnet3_reduced",
        "ConvNet-4 (ImageNette)": "imagenette_convnet4_reduced",
    }
    of = {
        name: measured[names.get(name, name)] for name in said if names.get(name, name) in measured
    }
    assert len(of) == len(measured)
    for name, found in of.items():
        fewest = [found["fewest"][k] for k in ("before", "now, prior of other networks", "now")]
        assert said[name] == ["not by 256" if one is None else f"{one:.0f}" for one in fewest]
