"""What the priors say; what they do is in the tests of who uses them."""

import json
from pathlib import Path

from infoutil_jax.shapley.prior import GRID_PRIOR, PLAYERS, Prior


def test_priors_of_other_networks_are_those_that_were_measured():
    result = Path(__file__).parents[2] / "experiments/results/benchmarks/shapley_prior.json"
    measured = json.loads(result.read_text())["priors"]
    assert Prior(**measured["patches"]) == GRID_PRIOR and Prior(**measured["players"]) == PLAYERS


def test_what_a_prior_does_not_mention_has_no_weight():
    assert Prior(0.6, 3.0) == Prior(0.6, 3.0, square=0.0, near=0.0, far=0.0, five=0.0)
    assert GRID_PRIOR.far == GRID_PRIOR.five == 0.0
