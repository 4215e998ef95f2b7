"""The page of benchmarks: its figures of fitted priors are the committed ones."""

import json
import re
from pathlib import Path

import numpy as np

from experiments.benchmarks.adapted_prior import RESULT

PAGE = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()


def test_the_page_says_what_was_measured():
    kinds = json.loads(RESULT.read_text())["kinds"]
    text = " ".join(PAGE.split())
    told = re.search(
        r"errors from 64, 128 and 256 coalitions are (.+?) on the mean; under the prior of other "
        r"networks (.+?), without a grid (.+?) \(",
        text,
    )
    assert told is not None and len(kinds) == 10
    for figures, name in zip(told.groups(), ("fitted", "other networks", "no grid"), strict=True):
        mean = np.mean([kind["errors"][name] for kind in kinds.values()], axis=0)
        said = [float(number) for number in re.findall(r"[\d.]+", figures)]
        np.testing.assert_allclose(said, mean, rtol=0.03)
    cells = [
        (
            budget,
            *(kind["errors"][name][budget] for name in ("fitted", "other networks", "no grid")),
        )
        for kind in kinds.values()
        for budget in range(3)
    ]
    assert sum(fitted > min(others) for _, fitted, *others in cells) == 2
