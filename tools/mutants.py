"""Mutation testing: a small fault is put into the method's code; does any test notice?

    python -m tools.mutants --minutes 30    # goes on where the results end
    python -m tools.mutants --again         # those that survived, by all tests that could notice
    python -m tools.mutants --report        # counts by module, and what no test has noticed

Faults are Cosmic Ray's, in code that JAX compiles and in decorated functions, too (mutmut passes
over these). First every place has one fault, then those with two have the other; both in an order
that is the same each time and takes from every module as many as its size asks for. Each is put
into a copy of the last commit, and the tests that run its line (`tools.covering`) run there, the
shortest first, until one fails; `--again` runs those, too, that would take long. A process that has
imported JAX already is forked for each (POSIX), which is most of the time that it would take.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import importlib.metadata
import itertools
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tools.covering import Covering
from tools.faults import Fault, Key, drawn, faults_of, mutated

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results" / "mutation"
ROOMS = ("shapley", "gradients", "method")
SEED = 0
FIRST = 6.0
"""Seconds of tests that are tried on a fault; all that run its line are by `--again`."""
SECONDS = 30
"""Of a processor, and five times what the tests take: longer is noticed, however busy a machine."""
SILENCE = 900
"""Seconds without a word of pytest's after which tests wait for one another for ever."""
MEMORY = 8 << 30
"""Bytes that a process of tests may ask for: some faults enumerate what is better drawn."""
MAP = ROOT / "runs" / "mutation" / "covering.json"
"""Which tests run which lines."""
FAULTS = RESULTS / "faults.jsonl"
"""A line each time that a fault was tried; the last line of a fault counts."""


@contextlib.contextmanager
def copy_of_the_commit() -> Iterator[Path]:
    """A folder with the files of the last commit, to be spoilt."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        archive = subprocess.Popen(["git", "archive", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", name], stdin=archive.stdout, check=True)
        if archive.wait():
            raise SystemExit("git archive HEAD has failed")
        yield Path(name)


def preload() -> None:
    """Imports what every test imports, without starting a device: threads would not be forked."""
    compiled = Path.home() / ".cache" / "infoutil_jax" / "tests"  # as tests/conftest.py has it
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(compiled))
    # What comes of a fault is not kept.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "1e9")
    for name in ("flax.linen", "flax.nnx", "optax", "pytest", "hypothesis", "equinox", "shap"):
        importlib.import_module(name)
    for name in ("scipy.optimize", "scipy.special", "sklearn.cluster", "sklearn.datasets"):
        importlib.import_module(name)


def run_tests(folder: Path, tests: list[str], seconds: int) -> tuple[str, str]:
    """Runs tests in a folder until one fails.

    Returns:
        "survived", "killed" or "timeout"; and the test that failed, or what pytest said last.
    """
    log = folder / "said.txt"
    log.write_text("")
    child = os.fork()
    if not child:
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
            with log.open("w") as said:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
            os.chdir(folder)
            sys.path.insert(0, str(folder))
            os.environ["PYTHONPATH"] = str(folder)
            import hypothesis
            import pytest

            # That a test fails is enough to know; the smallest example is not looked for.
            quick = [phase for phase in hypothesis.Phase if phase.name in ("explicit", "generate")]
            hypothesis.settings.register_profile("mutants", phases=quick)
            options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
            options += ["--hypothesis-profile=mutants"]
            options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of what is preloaded
            status = int(pytest.main([*options, *tests]))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        except BaseException:  # the parent's work is not the child's to go on with
            log.write_text(traceback.format_exc())
            os._exit(99)
    while not (done := os.waitpid(child, os.WNOHANG))[0]:
        # Pytest says something after each test.
        if time.time() - log.stat().st_mtime > SILENCE:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "timeout", ""
        time.sleep(0.05)
    lines = log.read_text(errors="replace").splitlines()
    if not done[1]:
        return "survived", ""
    if os.WIFSIGNALED(done[1]) and os.WTERMSIG(done[1]) in (signal.SIGXCPU, signal.SIGKILL):
        return "timeout", ""
    told = [line.split()[1] for line in lines if line.startswith(("FAILED ", "ERROR "))]
    if not told and not os.WIFSIGNALED(done[1]):
        raise SystemExit("\n".join(["pytest itself fails:", *lines[-20:]]))
    return "killed", (told or [f"signal {os.WTERMSIG(done[1])}"])[0]


def made_with(folder: Path) -> dict[str, Any]:
    """Versions, source fingerprint and hardware, by a process of its own: this starts no device."""
    code = "import json; from infoutil_jax import provenance as p; print(json.dumps("
    code += "{'versions': p.versions(), 'hardware': p.hardware()}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, stdout=-1, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    found["versions"]["cosmic-ray"] = importlib.metadata.version("cosmic-ray")
    return found


def attempt(
    folder: Path, fault: Fault, covering: Covering, all_tests: bool
) -> dict[str, Any] | None:
    """Puts a fault into the copy, runs the tests, and takes it out; None where it is none."""
    file = folder / fault.module
    code = file.read_text()
    changed = mutated(code, fault)
    if changed is None:
        return None
    pairs = zip(code.splitlines(), changed.splitlines(), strict=False)
    now = next((new.strip() for old, new in pairs if old != new), "")
    start, outcome, by = time.monotonic(), "survived", ""
    try:
        file.write_text(changed)
        tests = covering.tests_for(fault.module, fault.line, code)
        takes = list(itertools.accumulate(covering.seconds[test] for test in tests))
        some = len(tests) if all_tests else max(1, bisect.bisect(takes, FIRST))
        if tests:
            seconds = SECONDS + round(5 * takes[some - 1])
            outcome, by = run_tests(folder, tests[:some], seconds)
    finally:
        # A file that Python compiled may be no younger, by seconds, than what it is read for next.
        time.sleep(max(0.0, 1.1 - (time.monotonic() - start)))
        file.write_text(code)
    return {
        **{"module": fault.module, "place": fault.place, "line": fault.line, "was": fault.was},
        **{"operator": fault.operator, "number": fault.number, "now": now},
        **{"outcome": outcome, "by": by, "seconds": round(time.monotonic() - start, 1)},
    }


# --- What is known ---


def results() -> dict[Key, dict[str, Any]]:
    """What became of each fault that was tried, of lines that the code still has."""
    lines = FAULTS.read_text().splitlines() if FAULTS.exists() else []
    known = {key_of(one): one for one in map(json.loads, lines)}
    code = {
        module: {line.strip() for line in (ROOT / module).read_text().splitlines()}
        for module in {one["module"] for one in known.values()}
        if (ROOT / module).is_file()
    }
    return {key: one for key, one in known.items() if one["was"] in code.get(one["module"], ())}


def key_of(result: dict[str, Any]) -> Key:
    """The key of a line of the results."""
    module, place, was, operator = (result[name] for name in ("module", "place", "was", "operator"))
    return module, place, was, operator, result["number"]


def name_of(result: dict[str, Any]) -> str:
    """A fault's key as text, under which `reasons.json` explains it."""
    module, place, was, operator, number = key_of(result)
    return f"{module.removeprefix('infoutil_jax/')} {place}: {was} [{operator} {number}]"


def every_fault() -> dict[str, list[Fault]]:
    """The faults of every module of the rooms, by module."""
    found = {}
    for room in ROOMS:
        for file in sorted((ROOT / "infoutil_jax" / room).rglob("*.py")):
            module = str(file.relative_to(ROOT))
            found[module] = faults_of(module, file.read_text())
    return {module: some for module, some in found.items() if some}


def report() -> str:
    """Counts by module, and the faults that no test notices, as Markdown."""
    known, reasons = results(), json.loads((RESULTS / "reasons.json").read_text())
    rows, sums = list[str](), Counter[str]()
    for module, some in every_fault().items():
        tried = Counter(known[one.key]["outcome"] for one in some if one.key in known)
        counts = {"faults": len(some), "tried": tried.total(), "left": tried["survived"]}
        sums.update(counts)
        rows.append(_row(module.removeprefix("infoutil_jax/"), counts))
    left = [one for one in known.values() if one["outcome"] == "survived"]
    explained = [one for one in left if name_of(one) in reasons]
    open_ = [one for one in left if name_of(one) not in reasons]
    places = {(one.module, one.line, one.column) for some in every_fault().values() for one in some}
    seen = {
        (one.module, one.line, one.column)
        for some in every_fault().values()
        for one in some
        if one.key in known
    }
    first = [json.loads(line) for line in FAULTS.read_text().splitlines()]
    escaped = {key_of(one) for one in first if one["outcome"] == "survived"}
    noticed = [one for key, one in known.items() if key in escaped and one["outcome"] != "survived"]
    return "\n".join(
        [
            "# Faults that tests should notice\n\nMade by `python -m tools.mutants --report`.\n",
            "| module | faults | tried | noticed | not noticed |",
            *("| --- | --- | --- | --- | --- |", *rows, _row("all", sums)),
            f"\nOf {len(places)} places that may have a fault {len(seen)} have had one.",
            *("", "## Not noticed, and not looked at yet", ""),
            *(_told(one, "") for one in open_),
            *("## Not noticed, and why that is right", ""),
            *(_told(one, reasons[name_of(one)]) for one in explained),
            *("## Not noticed at first, and the test that notices since", ""),
            *(_told(one, f"`{one['by']}`") for one in noticed),
        ]
    )


def _row(name: str, counts: Mapping[str, int]) -> str:
    noticed = counts["tried"] - counts["left"]
    return f"| {name} | {counts['faults']} | {counts['tried']} | {noticed} | {counts['left']} |"


def _told(one: Mapping[str, Any], why: str) -> str:
    place = f"{one['module'].removeprefix('infoutil_jax/')}:{one['line']} {one['place']}"
    return f"- {place}: `{one['was']}` → `{one['now']}`\n" + (f"  {why}\n" if why else "")


def _append(file: Path, line: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as out:
        out.write(json.dumps(line) + "\n")


def main() -> int:
    """Tries faults until the time is over, or reports."""
    asked = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__)
    asked.add_argument("--minutes", type=float, default=30.0, help="no fault is begun after these")
    asked.add_argument(
        "--again", action="store_true", help="those that no test fails on, and no reason explains"
    )
    asked.add_argument("--report", action="store_true", help="print what is known; try nothing")
    asked.add_argument("--passing", action="store_true", help="tests pass; their lines are known")
    asked.add_argument("--jobs", type=int, default=1, help="faults that are tried side by side")
    given = asked.parse_args()
    if given.report:
        print(report())
        return 0
    known = results()
    reasons = json.loads((RESULTS / "reasons.json").read_text())
    open_ = {
        key
        for key, one in known.items()
        if one["outcome"] == "survived" and name_of(one) not in reasons
    }
    todo = [
        fault
        for fault in drawn(every_fault(), SEED)
        if (fault.key in open_ if given.again else fault.key not in known)
    ]
    asked_for = {"seed": SEED, "minutes": given.minutes, "again": given.again}
    with copy_of_the_commit() as folder:
        covering = Covering.made(MAP, folder, ROOMS, given.passing)
        _append(RESULTS / "runs.jsonl", {"arguments": asked_for, **made_with(folder)})
    preload()
    end = time.monotonic() + 60 * given.minutes
    process = multiprocessing.get_context("fork").Process
    parts = [todo[job :: given.jobs] for job in range(given.jobs)]
    jobs = [process(target=_try_all, args=(part, covering, end, given.again)) for part in parts]
    for one in jobs:
        one.start()
    for one in jobs:
        one.join()
    return max(one.exitcode or 0 for one in jobs)


def _try_all(todo: list[Fault], covering: Covering, end: float, all_tests: bool) -> None:
    with copy_of_the_commit() as folder:
        for fault in todo:
            if time.monotonic() > end:
                break
            result = attempt(folder, fault, covering, all_tests)
            if result is not None:
                _append(FAULTS, result)
                said = result["outcome"], result["seconds"], name_of(result), result["by"]
                print(*said, flush=True)


if __name__ == "__main__":
    sys.exit(main())
