"""What the command line says of its options: help with real defaults, sentences with flags (host).

The library's sentences name Python arguments, its dataclasses keep None for "by the data". Here
both become what somebody types.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import tyro

Flat = tyro.conf.arg(name="")  # flags of its fields without a prefix, in the group of all
Group: Any = tyro.conf.OmitArgPrefixes  # likewise, in a group of their own


def bare(hint: Any) -> Any:
    """A type without its annotations."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def say_defaults(config: type, unset: str = "") -> None:
    """Has the help of options that are None unless given end otherwise than "default: None".

    Args:
        config: a dataclass of options, and of other such dataclasses.
        unset: how the help of such an option ends; nothing where its text says what is chosen.
    """
    hints = get_type_hints(config, include_extras=True)
    for one in fields(config):
        hint = hints[one.name]
        if is_dataclass(bare(hint)):
            say_defaults(bare(hint), unset)
        elif one.default is None and hint == bare(hint):
            said = tyro.conf.arg(help_behavior_hint=unset, metavar=_what_to_type(hint))
            config.__annotations__[one.name] = Annotated[hint, said]


def _what_to_type(hint: Any) -> str | None:
    """The part of a help line that follows the flag, without None; None: as tyro has it."""
    (kind, *others) = [one for one in get_args(hint) if one is not type(None)]
    if get_origin(kind) is Literal:
        return "{" + ",".join(map(str, get_args(kind))) + "}"
    if others or get_args(kind):
        return None
    return "{True,False}" if kind is bool else str(kind.__name__.upper())


def flags_of(kind: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The names of a command's options, as Python has them, each with its flag."""
    hints = get_type_hints(kind, include_extras=True)
    for one in fields(kind):
        hint = hints[one.name]
        if is_dataclass(inner := bare(hint)) and isinstance(inner, type):
            flat = get_origin(hint) is Annotated and {Flat, Group} & set(get_args(hint)[1:])
            yield from flags_of(inner, prefix if flat else f"{prefix}{one.name}.")
        else:
            yield one.name, "--" + (prefix + one.name).replace("_", "-")


def with_flags(sentence: str, kind: type, typed: Sequence[str] = ()) -> str:
    """A sentence of the library's with the flags of a command for Python's arguments.

    "pass overwrite=True" becomes "pass --overwrite", "lower early_epochs" "lower --early-epochs",
    "channels is 0" "--channels is 0". Where several options share a name, those that were typed
    are named, or all flags.

    Args:
        sentence: the library's.
        kind: dataclass of the command's options.
        typed: what was typed.
    """
    flags: dict[str, list[str]] = {}
    for name, flag in flags_of(kind):
        flags.setdefault(name, []).append(flag)
    words = {word.partition("=")[0].replace("_", "-") for word in typed}
    flags = {name: [one for one in of if one in words] or of for name, of in flags.items()}

    def in_flags(match: re.Match[str]) -> str:
        name, value = match["name"], match["value"] or ""
        if name not in flags:
            return match[0]
        value = {"True": "", "": ""}.get(value, " " + value.strip("'\""))
        return " or ".join(one + value for one in flags[name])

    # A word with an underscore is an option's name wherever it stands; another one is only before
    # "=" or, at the sentence's beginning, before "is".
    named = r"(?<![\w.\-/'\"])(?P<name>[a-z]+(?:_[a-z]+)+|[a-z]+(?==)|^[a-z]+(?= is ))"
    value = r"(?:=(?P<value>'[^']*'|\"[^\"]*\"|[\w.]+))?"
    return re.sub(rf"{named}{value}(?![\w(/])", in_flags, sentence)
