"""What `make coverage` says of a measurement."""

from tools.covered import below


def measured(taken, there, missed=()):
    counts = {"covered_branches": taken, "num_branches": there}
    return {"summary": counts, "missing_branches": [list(branch) for branch in missed]}


def test_a_room_has_its_limit_and_a_file_of_it_the_same():
    files = {
        "infoutil_jax/method/scores.py": measured(93, 100, [(7, 9), (12, -3)]),
        "infoutil_jax/method/logits.py": measured(200, 200),
        "infoutil_jax/locks.py": measured(9, 10),
        "infoutil_jax/errors.py": measured(0, 0),
    }
    lines, short = below(files)
    assert lines == [
        "errors: 100.0% of 0 branches; least 90%",
        "locks: 90.0% of 10 branches; least 90%",
        "method: 97.7% of 300 branches; least 95%",
        "infoutil_jax/method/scores.py: 93% of branches; missed are 7→9, 12→end",
    ]
    assert not short
    files["infoutil_jax/locks.py"] = measured(8, 10, [(1, 2), (3, 4)])
    assert below(files)[1]
