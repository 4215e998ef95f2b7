"""Tells which branches of the package no test takes, by room, and what is below its limit.

    make coverage    # runs the suite with branch coverage, then this

A branch is one way on from a line that has several. The exit status is 1 where a room is below its
limit. Three kinds of branches are not what they seem: a line before a function inside of a function
counts as one that never goes on where jaxtyping wraps that function in the tests; what a test runs
in a process that is killed is not seen; nor is what JAX calls back.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.house import PACKAGE

LIMITS = {"shapley": 95, "gradients": 95, "method": 95}
"""Percent of branches that tests take, at least, in the rooms of the method."""
ELSEWHERE = 90
"""Likewise in every other."""


def below(files: Mapping[str, Any]) -> tuple[list[str], bool]:
    """A table of rooms, then the files below their room's limit, and whether a room is below its.

    Args:
        files: of a report of coverage.py's in JSON, by path.
    """
    rooms: dict[str, list[int]] = {}
    files_below = []
    for path, one in sorted(files.items()):
        room = Path(path).parts[1].removesuffix(".py") if path.startswith(PACKAGE) else ""
        counts = one["summary"]["covered_branches"], one["summary"]["num_branches"]
        sums = rooms.setdefault(room, [0, 0])
        sums[0], sums[1] = sums[0] + counts[0], sums[1] + counts[1]
        if percent(*counts) < LIMITS.get(room, ELSEWHERE):
            missed = ", ".join(f"{a}→{b if b > 0 else 'end'}" for a, b in one["missing_branches"])
            files_below.append(f"{path}: {percent(*counts):.0f}% of branches; missed are {missed}")
    lines, short = [], False
    for room, (taken, there) in rooms.items():
        limit = LIMITS.get(room, ELSEWHERE)
        short |= percent(taken, there) < limit
        lines.append(f"{room}: {percent(taken, there):.1f}% of {there} branches; least {limit}%")
    return [*lines, *files_below], short


def percent(part: int, whole: int) -> float:
    """Of nothing, all."""
    return 100 * part / whole if whole else 100.0


def main() -> int:
    """Prints what is below, of the measurement in the working directory."""
    from coverage import Coverage

    measured = Coverage()
    measured.load()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "coverage.json")
        measured.json_report(outfile=str(file))
        lines, short = below(json.loads(file.read_text())["files"])
    print("\n".join(lines))
    return int(short)


if __name__ == "__main__":
    sys.exit(main())
