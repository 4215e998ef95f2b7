"""Stores results as JSON lines: one file per setting and budget, one cell per line.

A setting (dataset, backbone, size) is a folder of `experiments/results`. Its file `ipc10.jsonl` has
the cells of 10 images a class, `everything.jsonl` the student of the whole training set: whole
settings would outgrow 1 MiB. Lines are sorted by row, budget and distilled set, so that a new
result is one new line of a diff.

Any number of processes may add results at once, and any of them may be killed: under a lock (the
file's `.lock`, which stays), `add` merges its line with those of the others into a `.part` file,
and renames that to the file. What is left of a killed one is overwritten by the next.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from infoutil_jax.errors import InputError

Result = dict[str, Any]


class Key(NamedTuple):
    """Names the result of a cell within its setting, and sorts it."""

    row: str
    budget: int
    """Images a class; 0 for the whole training set."""
    set_seed: int = 0
    """Of the distilled set, where a cell has several."""

    @classmethod
    def of(cls, result: Result) -> Key:
        """The key of a result that `Setting.run` returns."""
        cell = result["cell"]
        return cls(
            cell["row"]["name"], cell["images_per_class"], result["arguments"].get("set_seed", 0)
        )

    @property
    def file(self) -> str:
        """Name of the file that has the result."""
        return f"ipc{self.budget}.jsonl" if self.budget else "everything.jsonl"

    def __str__(self) -> str:
        budget = f"-ipc{self.budget}" if self.budget else ""
        return f"{self.row}{budget}" + (f"-set{self.set_seed}" if self.set_seed else "")


K = TypeVar("K", Key, str, tuple[int, int])


def cells(setting: Path) -> dict[Key, Result]:
    """All results of a setting's folder, sorted by key; none where there is no folder."""
    found: dict[Key, Result] = {}
    for file in setting.glob("*.jsonl"):
        found |= read(file, Key.of)
    return dict(sorted(found.items()))


def has(setting: Path, key: Key) -> bool:
    """Whether the setting's folder has a result for the cell."""
    return key in read(setting / key.file, Key.of)


def add_cell(setting: Path, result: Result) -> None:
    """Add a cell's result to its setting's folder; see `add`."""
    add(setting / Key.of(result).file, result, Key.of)


def read(file: Path, key: Callable[[Result], K]) -> dict[K, Result]:
    """The results of a file by their keys, in the file's order; none where there is no file.

    Raises:
        InputError: A line is no JSON, lacks what the key is made of, or has another line's key.
    """
    found: dict[K, Result] = {}
    if not file.exists():
        return found
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            result = json.loads(line)
            name = key(result)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{file}, line {number} is damaged ({type(error).__name__}: {error}): restore it, "
                "or delete the line to have it run again."
            ) from error
        if name in found:
            raise InputError(
                f"{file}, line {number} has the same key as an earlier line, {name}: delete one."
            )
        found[name] = result
    return found


def add(file: Path, result: Result, key: Callable[[Result], K]) -> None:
    """Add a result to a file, whole or not at all; it replaces the one of the same key."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
        merged = read(file, key) | {key(result): result}
        part = file.with_suffix(".part")
        with part.open("w", encoding="utf-8") as out:
            for name in sorted(merged):
                out.write(json.dumps(merged[name], separators=(",", ":")) + "\n")
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
