"""The tables of streamed and of renewed sets are those of the committed lines."""

import json
import re
from pathlib import Path

import pytest

from experiments import renewed, store, streamed
from experiments.renewed import Arm, arms
from infoutil_jax.training.renewal import Renewal

ROOT = Path(__file__).parents[2]
LINES = list(store.read(streamed.RESULTS / f"{streamed.SETTING}.jsonl", streamed._name).values())


def test_the_tables_are_of_the_committed_lines():
    assert LINES and (streamed.RESULTS / "table.md").read_text() == streamed.table(LINES)
    assert (renewed.RESULTS / "table.md").read_text() == renewed.table(renewed.RESULTS)


@pytest.mark.parametrize(
    "results", [streamed.RESULTS, renewed.RESULTS], ids=["streamed", "renewed"]
)
def test_the_page_shows_lines_of_the_tables(results):
    page = (ROOT / "docs" / "stream.md").read_text()
    shown = set(re.findall(r"^\| .*\d.* \|$", page, re.M))
    assert shown & set((results / "table.md").read_text().splitlines())
    every = "".join((one / "table.md").read_text() for one in (streamed.RESULTS, renewed.RESULTS))
    assert shown <= set(every.splitlines())


def test_what_must_hold_of_a_stream_holds():
    for line in LINES:
        assert line["stream"]["top1_mean"] > line["at once"]["top1_mean"] - 2
        assert line["stream"]["peak_growth"] < 1.05
    assert any(line.get("whole", {}).get("same_images") for line in LINES)
    killed = json.loads((streamed.RESULTS / "killed.json").read_text())
    at_random, at_each = (killed[name] for name in list(killed)[1:3])
    assert at_random["kills"] == at_random["it verified"] >= 50
    assert at_each["deaths"] == at_each["a set of before or after"] > 20


def test_all_ways_to_train_cost_the_same():
    """In forward passes: three an image of a step, and what scoring an image takes."""
    for arm in arms(10, (10, 50)):
        epochs = arm.epochs(300, 4)
        passes = 3 * epochs * (40 if arm.whole else 10)
        if arm.renewal is not None and arm.renewal.score != "random":
            passes += epochs / arm.renewal.every * 40 * 3
        assert passes == pytest.approx(3 * 300 * 10, rel=0.01), arm.name
    assert Arm("cheap", Renewal(1, 1, "cross_entropy")).epochs(300, 3) == 150
