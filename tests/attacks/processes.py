"""Attacks on running commands: killed, stopped, two at once, a full disk.

Every command is a fork of this process, which has imported what commands import but has started
nothing of JAX: so a run takes seconds, and is killed in its own work rather than in imports.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import infoutil_jax.app.figures
import infoutil_jax.app.pipeline  # noqa: F401
from infoutil_jax.app.cli import main
from infoutil_jax.data import layout
from tests.attacks.death import ended, forked

TINY = [
    *("--images-per-class", "1", "--recipe", "rded"),
    *("--teacher.width", "4", "--teacher.epochs", "3", "--teacher.early-epochs", "1"),
    *("--student.width", "4", "--student.epochs", "4", "--student.seeds", "0"),
]
STAGES = "before", "teacher", "scoring", "writing", "random", "students", "finished"
SENTENCES = {signal.SIGTERM: (75, "terminated"), signal.SIGINT: (130, "interrupted")}


def run_in(workdir: Path, *more: str) -> Callable[[], int]:
    """The command that the attacks are on: teacher, two sets and students of the digits."""
    return lambda: main(["run", "digits", "--workdir", str(workdir), *TINY, *more])


def state(workdir: Path) -> dict[str, Any]:
    """What a finished run has made, without what differs between runs: times, file names."""
    sets = {
        name: json.loads((workdir / name / layout.MANIFEST).read_bytes())
        for name in ("distilled", "random")
    }
    for name, manifest in sets.items():
        for file, sha256 in manifest["files"].items():
            found = hashlib.sha256((workdir / name / file).read_bytes()).hexdigest()
            assert found == sha256, f"{name}/{file}"
    summary = json.loads((workdir / "summary.json").read_bytes())
    return {
        "sets": {name: one["sha256"] for name, one in sets.items()},
        "students": [summary["student"]["top1"], summary["random"]["top1"]],
        "files": sorted(path.name for path in workdir.iterdir()),
        "beside": sorted(path.name for path in workdir.parent.iterdir() if "log" not in path.name),
    }


def reached(workdir: Path) -> str:
    """The stage that a run was in when it was stopped, by what lies on the disk."""
    if not (workdir / "teacher" / "stages" / "converged.json").exists():
        return "teacher" if (workdir / "teacher").exists() else "before"
    for name in ("distilled", "random"):
        if any(workdir.glob(f".{name}.*.partial")):
            return "writing"
        if not (workdir / name).exists():
            return "scoring" if name == "distilled" else "random"
    return "finished" if (workdir / "summary.json").exists() else "students"


def undisturbed(folder: Path) -> tuple[dict[str, Any], float]:
    """What a run makes that nobody disturbs, and how many seconds it takes."""
    for number in range(2):  # the first one compiles
        place = folder / f"right{number}" / "run"
        place.parent.mkdir(parents=True)
        started = time.perf_counter()
        assert ended(forked(run_in(place), folder / "log-right")) == 0
    return state(place), time.perf_counter() - started


def stops(
    folder: Path, right: Mapping[str, Any], seconds: float, number: int, rng: np.random.Generator
) -> Counter[str]:
    """Stops a run at a random moment by a signal, runs the same command again, and compares.

    The moment lies within a second of a random stage's beginning, so that short stages are hit.
    """
    place, log, found = folder / "run", folder / "log", Counter[str]()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    process, wanted = forked(run_in(place), log), int(rng.integers(len(STAGES)))
    until = time.monotonic() + 20 * seconds
    while STAGES.index(reached(place)) < wanted and time.monotonic() < until:
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 1))
    os.kill(process, number)
    status = ended(process)
    said = log.read_text(errors="replace")
    found[f"in {reached(place)}"] += 1
    if number in SENTENCES and status != 0:
        right_status, word = SENTENCES[signal.Signals(number)]
        found["told"] += status == right_status and f"infoutil: {word}" in said
        found["traceback"] += "Traceback" in said
    status = ended(forked(run_in(place), folder / "log-again"))
    found["the same bytes"] += status == 0 and state(place) == right
    found["runs"] += 1
    return found


def pair(folder: Path, right: Mapping[str, Any]) -> Counter[str]:
    """Starts two runs at once in one folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    place, logs = folder / "run", [folder / "log0", folder / "log1"]
    statuses = sorted(ended(process) for process in [forked(run_in(place), log) for log in logs])
    refused = [log.read_text() for log in logs if "is in use by process" in log.read_text()]
    exactly_one = statuses == [0, 2] and len(refused) == 1 and state(place) == right
    return Counter({"runs": 1, "exactly one proceeds": int(exactly_one)})


def full_disk(folder: Path, right: Mapping[str, Any], rng: np.random.Generator) -> Counter[str]:
    """Runs where no file can be longer than a random number of bytes, then without that bound."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    place, (reads, writes) = folder / "run", os.pipe()  # which no limit is on
    fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, 2**20)
    status = ended(forked(run_in(place), writes, int(2 ** rng.uniform(6, 16))))
    os.close(writes)
    with os.fdopen(reads, errors="replace") as pipe:
        said = pipe.read()
    again = ended(forked(run_in(place), folder / "log-again"))
    return Counter(
        {
            "runs": 1,
            "told": int(status == 2 and "infoutil: " in said and "Traceback" not in said),
            "not reached": int(status == 0),
            "the same bytes after": int(again == 0 and state(place) == right),
        }
    )
