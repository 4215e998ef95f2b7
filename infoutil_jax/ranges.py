"""The range of every option, by its name: checked when a config is made, before any work (host).

One table for the command line and for Python. Not a number, and infinity, are in no range, but for
the one that says so; zero is zero, and never "by default".
"""

from __future__ import annotations

import math
from dataclasses import fields
from numbers import Integral, Real
from typing import Any, NamedTuple

from infoutil_jax.errors import InputError


class Range(NamedTuple):
    """The numbers that an option may be.

    Attributes:
        least: the smallest, or where it is `open` the one that all are above.
        most: the largest.
        whole: integers only.
        open: `least` itself is out.
    """

    least: float
    most: float
    whole: bool = True
    open: bool = False


MOST_SIDE = 2**14
"""Pixels of an image's side."""
MOST_SEED = 2**32 - 1
"""JAX's keys have 32 bits of a seed: larger ones would draw what others draw."""

COUNT, SEED = Range(1, 10**6), Range(0, MOST_SEED)
FEW, SHARE = Range(1, 4096), Range(0, 1, whole=False, open=True)
AMOUNT = Range(0, 1e6, whole=False)

RANGES = {
    **dict.fromkeys(("images_per_class", "pool", "epochs", "batch_size"), COUNT),
    **dict.fromkeys(("evaluate_every", "shortlist", "judges", "iterations", "arriving"), COUNT),
    **dict.fromkeys(("seed", "seeds", "split_seed"), SEED),
    **dict.fromkeys(("num_crops", "seeds_at_once", "processes"), FEW),
    **dict.fromkeys(("learning_rate", "early_learning_rate", "weight_decay", "alpha"), AMOUNT),
    **dict.fromkeys(("side", "max_quantile", "crop_scale"), SHARE),
    "early_epochs": Range(0, 10**6),
    "forgotten": Range(0, MOST_SEED),  # examples are numbered by 32 bits
    "process": Range(0, 4095),
    **dict.fromkeys(("cpus", "gpus"), Range(0, 4096, whole=False)),  # that a task holds
    "retries": Range(0, 1000),
    "width": Range(1, 2**14),
    "tiles": Range(1, 1024),
    "grid": Range(1, 16),
    "budget": Range(1, 2**16),
    "pilot": Range(0, 2**14),
    "confidence": Range(0, 1, whole=False),
    "temperature": AMOUNT._replace(open=True),
    "mean": Range(0, 1, whole=False),
    "std": SHARE,
    "tolerance": Range(0, 1, whole=False),
    "image_size": Range(1, MOST_SIDE),
    "channels": Range(1, 1024),
    "value_range": Range(-1e300, 1e300, whole=False),
}


def check(config: Any, **ranges: Range) -> None:
    """Checks every option of a dataclass that has a range; None, and words, are not numbers.

    Args:
        config: the dataclass.
        ranges: of options that have another one here.

    Raises:
        InputError: naming the option, its value and what it must be.
    """
    for one in fields(config):
        value = getattr(config, one.name)
        known = ranges.get(one.name, RANGES.get(one.name))
        is_word = isinstance(value, str) and "Literal" in str(one.type)  # "auto", say
        if known is None or value is None or is_word:
            continue
        for part in value if isinstance(value, tuple | list) else [value]:
            if reason := _wrong(part, known):
                raise InputError(f"{one.name} is {value}; it must be {reason}")


def _wrong(value: Any, known: Range) -> str:
    """What a value out of its range must be; nothing where it is in it."""
    kind = Integral if known.whole else Real
    if not isinstance(value, kind) or isinstance(value, bool):
        return "a whole number" if known.whole else "a number"
    number = float(value)
    if math.isnan(number):
        return "a number"
    if number < known.least or (known.open and number == known.least):
        return f"{'above' if known.open else 'at least'} {known.least:.15g}"
    if number > known.most:
        return f"at most {known.most:.15g}"
    return ""


def check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    """Checks that a word is one of some.

    Raises:
        InputError: it is another one.
    """
    if value not in choices:
        raise InputError(f"{what} {value!r} is unknown: choose {', '.join(choices)}")
