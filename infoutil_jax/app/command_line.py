"""The command line that does what a call in Python did (host)."""

from __future__ import annotations

import inspect
import shlex
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from infoutil_jax.app.flags import Flat, Group, bare
from infoutil_jax.data.sources import Source, open_source

OPTIONS = {
    "seed": "--split-seed",
    "skip_unreadable": "--skip-unreadable",
    "data_dir": "--data-dir",
    "train_split": "--train-split",
    "test_split": "--test-split",
    "value_range": "--value-range",
    "background": "--background",
}
"""Of the arguments of `open_source` those that a command has, too."""


def command_of(verb: str, source: Source, config: Any, *words: str) -> str:
    """The command that does the same, but for folders, devices and what only Python can choose.

    Args:
        verb: of `infoutil`.
        source: what was opened.
        config: options of the verb.
        words: other options, as they are typed.
    """
    height, width = source.image_size
    sides = [height] if height == width else [height, width]
    flags = ["--image-size", *map(str, sides), *source_flags(source)]
    return shlex.join(["infoutil", verb, source.spec, *flags, *words, *spelled(config)])


def source_flags(source: Source) -> list[str]:
    """The words of a command line that open a source as it was opened, but for its size.

    A teacher or a set that is there already has the size; what differs from defaults is spelled.
    """
    defaults, words = inspect.signature(open_source).parameters, list[str]()
    if source.channels != source.own_channels:
        words += ["--channels", str(source.channels)]
    for name, flag in OPTIONS.items():
        value = source.options.get(name, defaults[name].default)
        if value != defaults[name].default:
            words += [flag, *_words(name, value)]
    return words


def spelled(config: Any, prefix: str = "") -> list[str]:
    """The words of a command line that set the options of `config` which differ from its defaults.

    Args:
        config: a frozen dataclass of options, and of other such dataclasses, with defaults.
        prefix: of its flags.
    """
    hints, words = get_type_hints(type(config), include_extras=True), list[str]()
    for one in fields(config):
        hint, value = hints[one.name], getattr(config, one.name)
        flag = "--" + (prefix + one.name).replace("_", "-")
        if is_dataclass(value):
            flat = get_origin(hint) is Annotated and {Flat, Group} & set(get_args(hint)[1:])
            words += spelled(value, prefix if flat else f"{prefix}{one.name}.")
        elif value != one.default and bare(hint) is bool:
            name = flag.removeprefix("--" + prefix)
            words.append(flag if value else f"--{prefix}no-{name}")
        elif value != one.default:
            several = value if isinstance(value, tuple | list) else [value]
            words += [flag, *(str(one) for one in several)]
    return words


def _words(name: str, value: Any) -> list[str]:
    if value is True:
        return []
    if name == "background" and not isinstance(value, str):
        return [",".join(map(str, value))]
    return [str(one) for one in value] if isinstance(value, tuple | list) else [str(value)]
