"""What a run has written down at its end, and whether another one would write the same (host)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infoutil_jax import files, kinds
from infoutil_jax.errors import InputError

SUMMARY = "summary.json"
"""Its name in a workdir."""

_students = kinds.having(top1=kinds.many(kinds.number), top5=kinds.many(kinds.number))
_whole = kinds.having(
    student=lambda value: kinds.mapping(value) and "top1" in value and _students(value),
    random=kinds.optional(lambda value: kinds.mapping(value) and _students(value)),
    student_details=kinds.mapping,
    programs=lambda value: (
        kinds.mapping(value)
        and set(value) == {"compiled", "from_cache", "seconds"}
        and all(map(kinds.number, value.values()))
    ),
)
_RESULTS = {"student", "student_details", "random", "programs", "hardware"}


def earlier(workdir: Path) -> dict[str, Any]:
    """The summary that a run has left in a workdir; empty where there is none that can be read."""
    path = workdir / SUMMARY
    try:
        there = files.parse(files.read(path, files.LARGE), path)
    except (InputError, OSError):  # it is then made anew
        return {}
    return there if isinstance(there, dict) else {}


def is_of(there: Mapping[str, Any], about: Mapping[str, Any]) -> bool:
    """Whether a summary has whole results, of students of the same sets, teacher and options.

    Args:
        there: the summary.
        about: all that is to stand in it beside the results.
    """
    wanted = json.loads(json.dumps(about, default=str))
    same = {name: there.get(name) for name in wanted} == wanted
    return same and there.keys() >= _RESULTS and _whole(there)
