"""Tables of results, beside the paper's."""

import numpy as np
import pytest

from experiments import held_out, report
from experiments.tables import TABLES
from infoutil_jax import open_source
from infoutil_jax.errors import InputError


def test_steps_are_columns(tmp_path, result, write):
    stepped = result("rded-steps5", 50, 5.0)
    stepped["steps"] = [{"top1_mean": float(step), "top1_std": None} for step in range(1, 6)]
    write(tmp_path, stepped)
    group = report.by_teacher(report.load(tmp_path))[0]
    lines = report.render(TABLES["table4"], "imagenette", "convnet5", group)
    assert lines[0].endswith("| step 4 | step 5 |")
    assert lines[2].startswith(
        "| infoutil_paper_gp-steps5 | not run ["
    )  # the paper's figures stand
    assert lines[3].startswith("| rded-steps5 | 1.0 [51.53] | 2.0 [29.18] | 3.0")
    assert lines[4:] == ["", "Not run: infoutil_clear-steps5, random-steps5."]


def test_ours_stands_beside_the_papers_and_teachers_are_not_mixed(tmp_path, result, write):
    folder = tmp_path / "cifar10_convnet3"
    write(
        folder,
        result("infoutil_paper_gp", 10, 45.7),
        result("infoutil_paper_gp", 50, 48.6),
        result("rded", 10, 56.8),
        result("rded", 1, 30.3, teacher="b"),
    )
    first, second = report.by_teacher(report.load(folder))
    lines = report.render(TABLES["table1"], "cifar10", "convnet3", first)
    assert "| infoutil_paper_gp | not run [28.5] | 45.7 ± 1.0 [54.1] | 48.6 [69.8] |" in lines
    assert "| rded | not run [23.5] | 56.8 ± 1.0 [50.2] | not run [68.4] |" in lines
    assert set(second) == {("rded", 1)}


def test_several_sets_of_a_cell_are_pooled(tmp_path, result, write):
    one, other = result("rded", 1, 30.0), result("rded", 1, 24.0, set_seed=1)
    one["student"] |= {"top1": [29.0, 31.0]}
    other["student"] |= {"top1": [23.0, 25.0]}
    write(tmp_path, other, one)
    (group,) = report.by_teacher(report.load(tmp_path))
    deviation = np.std([29, 31, 23, 25], ddof=1)
    assert report.top1(group["rded", 1]) == f"27.0 ± {deviation:.1f} (2 sets)"
    assert group["rded", 1]["arguments"]["set_seed"] == 0


def test_fairness_scores_are_dd_rankings(tmp_path, result, write):
    rows = {"": 60.0, "-stored": 50.0, "-hard": 30.0, "-plain-views": 40.0}
    chance = {"": 40.0, "-stored": 30.0, "-hard": 20.0, "-plain-views": 30.0}
    results = [
        *(result(f"rded{end}", 10, top1) for end, top1 in rows.items()),
        *(result(f"random{end}", 10, top1) for end, top1 in chance.items()),
        result("everything", 0, 80.0),
    ]
    for one in results:
        one["student"]["top1"] = [one["student"]["top1_mean"]]
    write(tmp_path, *results)
    group = report.by_teacher(report.load(tmp_path))[0]
    lines = report.fairness(group, 10)
    # A second set that only one of the policies has is not mixed in.
    second = result("rded", 10, 20.0, set_seed=1)
    second["student"]["top1"] = [20.0]
    write(tmp_path / "more", *results, second)
    pooled = report.by_teacher(report.load(tmp_path / "more"))[0]
    assert pooled["rded", 10]["sets"] == 2 and report.fairness(pooled, 10) == lines
    lrs = 100 * report.label_robust_score(0.8, 0.3, 0.6, 0.4)
    ars = 100 * report.augmentation_robust_score(0.6, 0.4, 0.4, 0.3)
    assert lines[-1] == (
        "| rded | 60.0 ± 1.0 | 50.0 ± 1.0 | 30.0 ± 1.0 | 40.0 ± 1.0 "
        f"| {lrs:.1f} | {ars:.1f} | 2 kB | 0.1 kB |"
    )
    del group["rded-plain-views", 10]
    assert "| not run |" in report.fairness(group, 10)[-1]


def test_lead_is_over_the_best_rival_under_the_same_labels(tmp_path, result, write):
    second = result("infoutil_kernel", 1, 10.0, set_seed=1)
    second["student"]["top1"] = [10.0]
    ours = result("infoutil_kernel", 1, 35.0)
    ours["student"]["top1"] = [35.0]
    others = [result(row, 1, 20.0 + i) for i, row in enumerate(report.RIVALS)]
    one_teacher = result(report.ONE_TEACHER, 1, 28.0)
    again = result("random", 1, 30.0, set_seed=1)
    again["student"]["top1"] = others[2]["student"]["top1"] = [0.0]
    hard = [result("infoutil_kernel-hard", 1, 25.0), result("rded-hard", 1, 26.5)]
    write(tmp_path, ours, second, *others, one_teacher, again, *hard, result("rded", 10, 57.0))
    group = report.by_teacher(report.load(tmp_path))[0]
    assert report.lead(group)[2:] == [
        "| online | 35.0 ± 1.0 (+7.0, rded-by-early; of 2 sets -3.5, random) | not run |",
        "| stored | not run | not run |",
        "| hard | 25.0 ± 1.0 (-1.5, rded, of 1) | not run |",
    ]


def test_seconds_and_teachers_are_tables(tmp_path, result, write):
    write(tmp_path, result("rded", 10, 50.0), result("rded-hard", 10, 50.0))
    group = report.by_teacher(report.load(tmp_path))[0]
    assert report.cost(group) == ["| | 10 / class |", "| --- | --- |", "| rded | 12 |"]
    assert report.agreement(group)[-1] == "| rded | 0.40 |"
    assert report.teachers(group)[-1] == "| early | 60.0 | 0.020 | 1.00 |"


def test_held_out_images_are_those_that_a_reduced_run_leaves_alone():
    small, whole = open_source("digits", max_per_class=20), open_source("digits")
    fresh = held_out.untouched(small, whole)
    assert fresh.train is small.train
    assert not {*fresh.test.ids} & {*small.train.ids, *small.test.ids}
    assert len(fresh.test) == len(whole.train) - len(small.train)
    with pytest.raises(InputError, match="digits is used whole"):
        held_out.untouched(whole, whole)


def test_held_out_results_are_a_table(tmp_path, result, write):
    one = result("rded", 1, 30.0) | {"source": {"test_images": 40000}}
    write(tmp_path / "cifar10_convnet3_reduced", one)
    assert held_out.table(tmp_path).splitlines()[2:] == [
        "## CIFAR-10, convnet3, 40000 images",
        "",
        "| | 1 / class |",
        "| --- | --- |",
        "| rded | 30.0 ± 1.0 |",
    ]
