"""Which faults mutation testing puts into a module, in which order, and what became of them."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tools import mutants
from tools.covering import Covering, statement_of
from tools.faults import Fault, drawn

CODE = '''\
"""A module: 1 + 1."""
import warnings
from functools import lru_cache

Number = int | float


@lru_cache(maxsize=2)
def f(x: int | None = None, *, y: int = 3) -> int | None:
    """Adds 1 + 1."""
    if x is None:
        raise ValueError(f"x is {x}; give at least {0 + 1}")
    warnings.warn(f"{x + 5}", stacklevel=2)
    return x + y
'''


def test_faults_are_in_what_is_computed_alone():
    pytest.importorskip("cosmic_ray")
    from tools.faults import faults_of, mutated

    faults = faults_of("module.py", CODE)
    changed = {
        new.strip()
        for fault in faults
        for new in set(mutated(CODE, fault).splitlines()) - set(CODE.splitlines())
    }
    signature = "def f(x: int | None = None, *, y: int = {}) -> int | None:"
    assert changed == {
        *(signature.format(number) for number in (4, 2)),
        *("if x is not None:", "if not x is None:", "return x - y"),
    }
    assert {fault.place for fault in faults} == {"f"}
    moved = faults_of("module.py", CODE.replace("import warnings", "import os\nimport warnings"))
    assert [one.key for one in moved] == [one.key for one in faults]


def some(module, count):
    return [Fault(module, "f", n, "was", "operator", n, n) for n in range(count)]


def test_however_many_are_drawn_each_module_has_its_share():
    faults = {"large.py": some("large.py", 90), "small.py": some("small.py", 10)}
    order = drawn(faults, seed=0)
    assert order == drawn(faults, seed=0) != drawn(faults, seed=1)
    assert sorted(one.key for one in order) == sorted(one.key for f in faults.values() for one in f)
    for count in (10, 50, 70):
        assert Counter(one.module for one in order[:count])["small.py"] == count // 10


def test_every_place_has_one_fault_before_any_has_two():
    twice = [replace(one, line=one.line // 2) for one in some("large.py", 90)]
    order = drawn({"large.py": twice, "small.py": some("small.py", 10)}, seed=0)
    assert len({(one.module, one.line) for one in order[:55]}) == 55


STATEMENTS = """\
LIMIT = 3
def f(x, limit=LIMIT):
    def g(
        y=2,
    ):
        return y
    if (
        x > limit
    ):
        return sum([
            x,
            1,
        ])
    return g(x)
"""


@pytest.mark.parametrize(
    ("line", "statement"),
    [(1, [1]), (2, [2]), (4, [3, 4, 5]), (6, [6]), (8, [7, 8, 9]), (12, [10, 11, 12, 13])],
)
def test_a_line_belongs_to_the_smallest_statement_or_to_its_head(line, statement):
    assert list(range(*statement_of(STATEMENTS, line))) == statement


def test_the_shortest_test_that_runs_a_line_is_the_first():
    seconds = {"slow": 3.0, "quick": 0.1, "elsewhere": 0.2, "tests/test_a.py::default": 0.3}
    covering = Covering(seconds, {"a.py": {"slow": [7, 10, 14], "quick": [10], "elsewhere": [14]}})
    assert covering.tests_for("a.py", 11, STATEMENTS) == ["quick", "slow"]
    of_the_module = ["quick", "elsewhere", "tests/test_a.py::default", "slow"]
    assert covering.tests_for("a.py", 1, STATEMENTS) == of_the_module


OPEN = 0
"""Faults that no test has noticed and nobody has looked at: there are to be fewer, never more."""


def test_faults_that_no_test_notices_are_explained_but_for_ever_fewer():
    reasons = json.loads((mutants.RESULTS / "reasons.json").read_text())
    results = mutants.results().values()
    survivors = {mutants.name_of(one) for one in results if one["outcome"] == "survived"}
    assert set(reasons) <= survivors
    assert all(len(why) > 20 for why in reasons.values())
    assert len(survivors - set(reasons)) <= OPEN


def test_a_fault_of_a_line_that_is_gone_counts_no_more(tmp_path, monkeypatch):
    there, *_ = mutants.results().values()
    gone = {**there, "was": "a line that no module has"}
    monkeypatch.setattr(mutants, "FAULTS", tmp_path / "faults.jsonl")
    mutants.FAULTS.write_text("".join(json.dumps(one) + "\n" for one in (there, gone)))
    assert list(mutants.results().values()) == [there]


def test_those_who_notice_are_there():
    root = Path(mutants.ROOT)
    for one in mutants.results().values():
        if one["outcome"] == "killed" and "::" in one["by"]:
            assert (root / one["by"].partition("::")[0]).is_file(), one["by"]
