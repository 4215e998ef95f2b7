"""Accuracies in words."""

from infoutil_jax.app.accounts import accuracy_table, tiles_in_words
from infoutil_jax.method.recipes import infoutil, rded


def test_accuracies_are_means_and_deviations():
    table = accuracy_table({"a": {1: [10.0, 20.0], 10: [50.0]}, "method b": {10: [61.0, 59.0]}})
    assert table.splitlines() == [
        "| top-1, % | 1 / class  | 10 / class |",
        "|----------|------------|------------|",
        "| a        | 15.0 ± 7.1 | 50.0       |",
        "| method b | not run    | 60.0 ± 1.4 |",
    ]


def test_what_tiles_are_to_students_is_said():
    assert tiles_in_words(infoutil()) == ""
    assert tiles_in_words(rded(tiles=4)) == "\ntiles: 4 an image"
    parted = tiles_in_words(infoutil(tiles=4, partition=True))
    assert parted == "\ntiles: 4 an image, each an image of its own to students"
