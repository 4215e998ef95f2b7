"""Leads are paired: set by set, with an interval over the sets."""

import pytest

from experiments.leads import RESULTS, Leads, lead, spread


def test_a_lead_is_over_the_sets_that_both_have():
    ours, theirs = {0: 50.0, 1: 52.0, 2: 57.0, 3: 10.0}, {0: 48.0, 1: 51.0, 2: 54.0, 7: 90.0}
    # Differences 2, 1, 3: mean 2, deviation 1; Student's t of two degrees of freedom is 4.303.
    assert lead(ours, theirs) == "+2.0 ± 2.5"
    assert lead({0: 1.0}, {0: 3.5}) == "-2.5"
    assert lead({0: 1.0}, {1: 3.5}) == ""


def test_a_spread_needs_two():
    assert [spread(values) for values in ([], [2.0], [1.0, 3.0])] == ["", "2.0", "2.0 ± 1.4"]


@pytest.mark.parametrize("end", ["", "-stored", "-hard"])
def test_a_lead_over_each_rival_under_the_same_labels(tmp_path, result, write, end):
    figures = {
        "infoutil": (40, 42),
        "random": (30, 36),
        "rded": (35, 33),
        "rded-by-early": (20, 30),
    }
    write(
        tmp_path / "cifar10_convnet3",
        *(
            result(f"{row}{end}", 10, top1, set_seed=seed)
            for row, both in figures.items()
            for seed, top1 in enumerate(both)
        ),
    )
    (line,) = Leads(results=tmp_path).table().splitlines()[4:]
    labels = end.removeprefix("-") or "online"
    assert line.startswith(f"| cifar10 convnet3 | 10 | {labels} | 2 | 41.0 ± 1.4 | 33.0 ± 4.2 |")
    assert line.endswith("| +8.0 ± 25.4 | +7.0 ± 25.4 | +16.0 ± 50.8 |")


def test_the_summary_is_of_the_best_rival_of_each_setting(tmp_path, result, write):
    names = ("infoutil", "random", "rded", "rded-by-early")
    figures = {"digits_convnet3": (40, 30, 35, 36), "cifar10_convnet3": (20, 18, 17, 10)}
    for folder, each in figures.items():
        rows = [result(n, 1, top1, set_seed=0) for n, top1 in zip(names, each, strict=True)]
        # One rival is not there yet at 10 images a class.
        write(tmp_path / folder, *rows, *(result(n, 10, 50.0, set_seed=0) for n in names[:3]))
    (line,) = Leads(results=tmp_path).summary().splitlines()[4:]
    # Leads of 4 and 2: mean 3, deviation sqrt(2); Student's t of one degree is 12.706.
    assert line == "| 1 | +3.0 ± 12.7 (of 2) |  |  |"


def test_labels_are_named_where_the_row_says(tmp_path, result, write):
    rows = ("infoutil-stored-uncentred", "rded-stored-centred", "rded-stored", "rded")
    figures = [
        result(row, 1, top1, set_seed=0) for row, top1 in zip(rows, (9, 7, 5, 3), strict=True)
    ]
    write(tmp_path / "digits_convnet3", *figures)
    leads = Leads("infoutil-LABELS-uncentred", tmp_path, ("rded-LABELS-centred", "rded"), ())
    (line,) = leads.table().splitlines()[4:]
    assert line == "| digits convnet3 | 1 | stored | 1 | 9.0 | 7.0 | 5.0 | +2.0 | +4.0 |"
    assert leads.summary().splitlines()[-1] == "| 1 |  | +2.0 (of 1) |  |"
    assert leads.file.name == "leads-infoutil-uncentred.md"


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("validation", "infoutil"),
        ("validation", "infoutil-LABELS-uncentred"),
        ("recommended", "infoutil"),
    ],
)
def test_the_committed_tables_are_those_of_the_results(kind, row):
    leads = Leads(row, RESULTS / kind)
    assert f"{leads.table()}\n{leads.summary()}" == leads.file.read_text()
