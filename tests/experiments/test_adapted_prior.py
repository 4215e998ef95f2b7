"""Error bars of fitted priors; the page of benchmarks has the committed figures."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from experiments.benchmarks import right_windows
from experiments.benchmarks.adapted_prior import RESULT, innovations
from infoutil_jax.shapley.bayesian_quadrature import gaussian, telling_pairs
from infoutil_jax.shapley.prior import Games, Prior

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
    assert round(100 * np.max(1 - errors["other networks"] / errors["fitted"])) == 20
    covered = np.array([kind["coverage"] for kind in kinds.values()])
    assert np.round(covered.min(0)).tolist() == [90, 91, 89]
    assert np.round(covered.max(0)).tolist() == [99, 100, 100]


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


def innovations_of(game, pairs, seed=0):
    others = telling_pairs(np.random.default_rng(seed), game, pairs - 1)
    return innovations(game, np.concatenate([np.ones((1, game.d), bool), others]))


@pytest.mark.parametrize("grid", [(2, 3), (4, 4)])
def test_innovations_are_white_and_every_prefix_is_a_design(grid):
    d, pairs = math.prod(grid), 12
    known = innovations_of(Games(d, grid), pairs, seed=1)
    between = Games(d, grid).of_pairs(known.masks)
    u = np.stack([between(j) for j in range(pairs)])
    np.testing.assert_allclose(known.whitener @ u @ known.whitener.T, np.eye(pairs), atol=1e-5)
    values = np.random.default_rng(0).normal(size=2 * pairs)
    for count in (1, 5, pairs):
        masks, operator = gaussian(np.random.default_rng(1), d, 2 * count, grid)
        assert (masks[2::2] == known.masks[1:count]).all()
        seen = values[: 2 * count]
        differences = np.concatenate([[seen[1] - seen[0]], seen[2::2] - seen[3::2]])
        phi = known.loadings[:, :count] @ known.whitener[:count, :count] @ differences
        phi += (differences[0] - phi.sum()) / d
        np.testing.assert_allclose(operator @ seen, phi, atol=1e-5)


def test_a_design_is_that_of_its_innovations_even_where_little_is_left_to_tell():
    """Both see each value with a noise of `JITTER`, which most pairs of this prior fall below."""
    prior = Prior(0.95, 1.0, square=1.0)
    known = innovations_of(Games(6, (2, 3), prior), 31)
    _, operator = gaussian(np.random.default_rng(0), 6, 62, (2, 3), prior)
    posterior = (known.loadings @ known.whitener)[:, 1:]
    np.testing.assert_allclose(operator[:, 2::2], posterior - posterior.mean(0), atol=1e-6)
