"""What a value is that JSON has told: each kind is a function of the value (host)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

Kind = Callable[[Any], bool]


def count(value: Any) -> bool:
    """An integer of at least 1."""
    return type(value) is int and value > 0


def number(value: Any) -> bool:
    """An integer or a finite float."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def flag(value: Any) -> bool:
    """True or false."""
    return isinstance(value, bool)


def text(value: Any) -> bool:
    """A string."""
    return isinstance(value, str)


def one_of(*values: str) -> Kind:
    """One of some strings."""
    return lambda value: value in values


def mapping(value: Any) -> bool:
    """A mapping of anything."""
    return isinstance(value, dict)


def many(kind: Kind) -> Kind:
    """A list of at least one value of a kind."""
    return lambda value: isinstance(value, list) and bool(value) and all(map(kind, value))


def optional(kind: Kind) -> Kind:
    """None, or a value of a kind."""
    return lambda value: value is None or kind(value)


def having(**kinds: Kind) -> Kind:
    """A mapping; of these keys those that are there have values of their kind."""
    return lambda value: (
        isinstance(value, Mapping)
        and all(key not in value or kind(value[key]) for key, kind in kinds.items())
    )


def short(value: Any) -> str:
    """A value in a sentence."""
    said = repr(value)
    return said if len(said) <= 80 else said[:77] + "..."
