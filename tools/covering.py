"""Which tests run each line of the method's code, and how long each takes (for `tools.mutants`).

    python -m tools.covering FILE tests/shapley tests/gradients tests/method

writes JSON: seconds by test, and lines by module and test. JAX forgets what it has traced before
each test, so that each runs every line that its programs come of. What runs while a module is
imported belongs to no test.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coverage
import pytest


class Watch:
    """Tells coverage which test runs, and takes the time."""

    def __init__(self, cov: coverage.Coverage) -> None:
        self.cov = cov
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        """Around one test, its fixtures included."""
        import jax

        jax.clear_caches()
        self.cov.switch_context(item.nodeid)
        start = time.perf_counter()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = round(time.perf_counter() - start, 2)
            self.cov.switch_context("")


@dataclass(frozen=True)
class Covering:
    """What was found out."""

    seconds: dict[str, float]
    """By test."""
    lines: dict[str, dict[str, list[int]]]
    """By module and test."""

    @classmethod
    def made(cls, file: Path, folder: Path, rooms: Sequence[str], keep: bool) -> Covering:
        """Runs the tests of rooms in a copy of the repository; or reads what an earlier run found.

        Args:
            file: where it is kept.
            folder: the copy.
            rooms: names of packages.
            keep: whether the file is there.
        """
        if not keep:
            file.parent.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-m", "tools.covering", str(file)]
            command += [f"tests/{room}" for room in rooms]
            if subprocess.run(command, cwd=folder).returncode:
                raise SystemExit("the tests fail without any fault")
        return cls(**json.loads(file.read_text()))

    def tests_for(self, module: str, line: int, code: str) -> list[str]:
        """The tests that run a line's statement, the shortest first.

        Of a statement that runs as its module is imported, or never, all that run the module, or
        are of its own test file: what a dataclass is made of runs no line of it.
        """
        statement, by_test = range(*statement_of(code, line)), self.lines.get(module, {})
        found = {test for test, run in by_test.items() if not set(statement).isdisjoint(run)}
        own = f"/test_{Path(module).stem}.py::"
        found = found or {*by_test, *(test for test in self.seconds if own in test)}
        return sorted(found, key=lambda test: (self.seconds[test], test))


def statement_of(code: str, line: int) -> tuple[int, int]:
    """The first line, and that behind the last, of the smallest statement that holds a line.

    Of a loop, a condition or a definition that is its head.
    """
    found = [(line, line + 1)]
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            end = body[0].lineno if body else (node.end_lineno or 0) + 1
            if node.lineno <= line < end:
                found.append((node.lineno, end))
    return min(found[1:] or found, key=lambda lines: lines[1] - lines[0])


def main() -> int:
    """Runs tests under coverage; returns pytest's status."""
    file, *tests = sys.argv[1:]
    cov = coverage.Coverage(data_file=None, source=["infoutil_jax"], config_file=False)
    cov.start()
    watch = Watch(cov)
    options = ["-q", "-n", "0", "-p", "no:cacheprovider", "-p", "no:cov", "--hypothesis-seed=0"]
    status = int(pytest.main([*options, *tests], plugins=[watch]))
    cov.stop()
    data, lines = cov.get_data(), dict[str, dict[str, list[int]]]()
    for path in data.measured_files():
        module = str(Path(path).relative_to(Path.cwd()))
        for line, names in data.contexts_by_lineno(path).items():
            for name in filter(None, names):
                lines.setdefault(module, {}).setdefault(name, []).append(line)
    Path(file).write_text(json.dumps({"seconds": watch.seconds, "lines": lines}))
    return status


if __name__ == "__main__":
    sys.exit(main())
