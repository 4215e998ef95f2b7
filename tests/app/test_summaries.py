"""A run's summary on disk: whether another run would write the same."""

import json
import os

import pytest

from infoutil_jax.app.summaries import SUMMARY, earlier, is_of

ABOUT = {
    "command": "infoutil run digits",
    "digest": "a1",
    "size": (8, 8),
    "versions": {"code": "c"},
}
RESULTS = {
    "student": {"top1": [50.0, 51.5], "top5": [90.0, 91.0]},
    "student_details": {},
    "random": None,
    "programs": {"compiled": 3, "from_cache": 0, "seconds": 1.5},
    "hardware": {"device": "cpu"},
}


def written(folder, content):
    (folder / SUMMARY).write_text(content if isinstance(content, str) else json.dumps(content))
    return earlier(folder)


def test_a_summary_of_the_same_arguments_on_whatever_hardware_is_known(tmp_path):
    assert is_of(written(tmp_path, ABOUT | RESULTS), ABOUT)
    assert is_of(written(tmp_path, ABOUT | RESULTS | {"hardware": {"device": "gpu"}}), ABOUT)


@pytest.mark.parametrize("name", ABOUT)
def test_all_that_figures_depend_on_is_compared(name, tmp_path):
    assert not is_of(written(tmp_path, ABOUT | RESULTS | {name: "another"}), ABOUT)


@pytest.mark.parametrize(
    "change",
    [
        *({"student": None}, {"student": {}}, {"student": {"top1": "99", "top5": [90.0]}}),
        *({"student": {"top1": [], "top5": []}}, {"random": 3}, {"student_details": [1]}),
        *({"programs": {}}, {"programs": RESULTS["programs"] | {"seconds": "1.5"}}),
    ],
)
def test_damaged_results_are_made_anew(change, tmp_path):
    assert not is_of(written(tmp_path, ABOUT | RESULTS | change), ABOUT)


@pytest.mark.parametrize("name", RESULTS)
def test_so_are_results_that_are_missing(name, tmp_path):
    there = ABOUT | {key: value for key, value in RESULTS.items() if key != name}
    assert not is_of(written(tmp_path, there), ABOUT)


def test_what_is_no_summary_is_none(tmp_path):
    assert earlier(tmp_path) == {}
    for content in ("{", "[]", "3", '{"a": NaN}', ""):
        assert written(tmp_path, content) == {}
    (tmp_path / SUMMARY).unlink()
    os.mkfifo(tmp_path / SUMMARY)
    assert earlier(tmp_path) == {}, "nothing is waited for"
