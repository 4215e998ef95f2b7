"""Which splits are trained and tested on, by their names. One rule for folders, TFDS and NPZ."""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from infoutil_jax.data.examples import Examples
from infoutil_jax.errors import InputError

TRAIN = ("train", "training")
TEST = ("test", "testing", "validation", "val", "valid", "dev")
"""Usual names, the first one first, in any case."""

Unlabelled = str
"""How it shows that the labels of a split are not known."""


@dataclass(frozen=True)
class Wish:
    """Splits that are asked for by name; None leaves the choice to the usual names."""

    train: str | None = None
    test: str | None = None


def usual(names: Iterable[str], order: Sequence[str]) -> list[str]:
    """Those of `names` that are in `order`, whatever their case, as `order` has them."""
    known = [name for name in sorted(names) if name.casefold() in order]
    return sorted(known, key=lambda name: order.index(name.casefold()))


def named(where: str, names: Sequence[str], wished: str, flag: str) -> str:
    """The split that `wished` names: exactly, or but for its case.

    Raises:
        InputError: there is none; the sentence lists what is there.
    """
    if wished in names:
        return wished
    alike = [name for name in names if name.casefold() == wished.casefold()]
    if len(alike) != 1:
        there = f"there are {', '.join(names)}" if names else "there are none"
        raise InputError(f"{where} has no split {wished!r} ({flag}); {there}")
    return alike[0]


def choose_train(where: str, names: Sequence[str], wish: Wish) -> str:
    """The name of the split to train on.

    Raises:
        InputError: it is not there.
    """
    if wish.train is not None:
        return named(where, names, wish.train, "--train-split")
    if found := usual(names, TRAIN):
        return found[0]
    raise InputError(
        f"{where} has no split called train or training; choose one of {', '.join(names)} "
        "with --train-split"
    )


def choose_test(
    where: str,
    names: Sequence[str],
    train: str,
    wish: Wish,
    read: Callable[[str], Examples | Unlabelled],
    overlap: Callable[[str, str], bool] = operator.eq,
) -> tuple[str, Examples | None, dict[str, Unlabelled]]:
    """Name and examples of the split to test on, and which were passed over for what.

    Splits that `overlap` hold images in common.

    Raises:
        InputError: the split that is asked for is not there, has no labels, or is trained on.
    """
    if wish.test is not None:
        name = named(where, names, wish.test, "--test-split")
        if overlap(name, train):
            said = "is trained on" if name == train else f"has images that {train} trains on"
            raise InputError(f"{where}: split {name} {said}; test on another (--test-split)")
        part = read(name)
        if isinstance(part, Unlabelled):
            raise InputError(f"split {name} of {where} cannot be tested on: {part}")
        return name, part, {}
    reasons: dict[str, Unlabelled] = {}
    for name in usual(names, TEST):
        if overlap(name, train):
            continue
        part = read(name)
        if not isinstance(part, Unlabelled):
            return name, part, reasons
        reasons[name] = part
    return "", None, reasons


def not_taken(
    names: Iterable[str], taken: Sequence[str], reasons: Mapping[str, str]
) -> tuple[str, ...]:
    """The note of all splits that are neither trained nor tested on; none if there are none."""
    others = [
        f"{name} ({reasons[name]})" if name in reasons else name
        for name in names
        if name not in taken
    ]
    return (f"splits not taken: {', '.join(others)}",) if others else ()


def check_labels(where: str, split: str, labels: np.ndarray, classes: int) -> Unlabelled | None:
    """None if all labels are classes; how it shows if all are hidden.

    Raises:
        InputError: some are classes and some not; the sentence names the first.
    """
    if len(labels) == 0:
        return "it is empty"
    if (labels < 0).all():
        return f"all its labels are hidden ({labels[0]})"
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise InputError(
            f"example {wrong[0]} of {where}, split {split}, has label {labels[wrong[0]]}; "
            f"labels should be 0 to {classes - 1}"
        )
    return None
