"""What the verbs refuse before any work, and what they say where there is nothing to show yet."""

import dataclasses

import numpy as np
import pytest

from infoutil_jax.app.options import Logs, Machines
from infoutil_jax.app.students import train_students
from infoutil_jax.app.verbs.report import Report
from infoutil_jax.errors import InputError
from tests.attacks.content import small_set


@pytest.mark.parametrize("given", [{"processes": 2}, {"process": 0}])
def test_processes_without_the_first_ones_address(given):
    message = "need --coordinator, host:port of the first"
    with pytest.raises(InputError, match=message), Machines(**given).joined():
        pytest.fail("there is nobody to join")


def test_a_report_of_nothing():
    with pytest.raises(InputError, match="name at least one folder"):
        Report(())()


def test_students_of_no_set_and_of_sets_that_are_not_alike(digits, teachers, tmp_path):
    teacher = teachers["converged"]
    with pytest.raises(InputError, match="no distilled set was given"):
        train_students([], digits, teacher)
    one = small_set(tmp_path / "one")
    with pytest.raises(InputError, match="has the classes ant, bee, <i>moth</i> but digits has"):
        train_students([one], digits, teacher)
    source = dataclasses.replace(digits, class_names=one.class_names)
    other = dataclasses.replace(one, images=np.zeros((6, 8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="sets that are trained on together are alike in both"):
        train_students([one, other], source, teacher)


def test_figures_of_a_stage_go_where_they_are_asked_for(tmp_path):
    from infoutil_jax import progress

    logs, bar = Logs(tmp_path / "log.jsonl", tmp_path / "board"), progress.Bar
    with logs.watching(), bar("stage", 2, shown=False) as stage:
        stage.update(2, loss=0.5)
    assert '"loss": 0.5' in (tmp_path / "log.jsonl").read_text()
    assert list((tmp_path / "board").iterdir())
