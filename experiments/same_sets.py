r"""Does the code make the sets that an earlier revision made, byte for byte?

    python -m experiments.same_sets REVISION digits
    python -m experiments.same_sets REVISION folder:PATH/cifar10 \
        --teacher experiments/teachers/cifar10_convnet3_reduced

Distils a source by every recipe of the command line: once with the working tree, once with a
checkout of REVISION. Both read the same teacher and run on the same machine. Compared are all files
of a set but the manifest, which tells the code. Writes `experiments/results/same_sets/NAME.json`.
With `--workdir` the sets are kept, the new ones by their code, and a run that was stopped
goes on.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments.revisions import ROOT, checkout
from infoutil_jax import provenance

SAME = (
    *("infoutil_paper", "infoutil_clear", "rded", "random", "herding", "k_means", "k_center"),
    *("grad_cam", "no_noise", "random_crop_gradient_norm", "shapley_crop_loss"),
)
# Options now, and those that ask an earlier revision for the same.
SETS: dict[str, tuple[list[str], list[str]]] = {
    "infoutil": (["--recipe", "infoutil"], ["--recipe", "infoutil_kernel"]),
    "infoutil_paper_gp": (
        ["--recipe", "infoutil_paper", "--strategy", "gaussian"],
        ["--recipe", "infoutil"],
    ),
    **{name: (["--recipe", name], ["--recipe", name]) for name in SAME},
    "infoutil-tiles4": (
        ["--recipe", "infoutil", "--tiles", "4"],
        ["--recipe", "infoutil_kernel", "--tiles", "4"],
    ),
    "rded-tiles4": (["--recipe", "rded", "--tiles", "4"], ["--recipe", "rded", "--tiles", "4"]),
}
# Runs many command lines in one process, so that each program is compiled once.
MANY = """
import importlib, json, sys
module, function = sys.argv[1].split(":")
main = getattr(importlib.import_module(module), function)
for command in json.load(sys.stdin):
    if main(command):
        sys.exit(f"failed: {command}")
"""


@dataclass(frozen=True)
class SameSets:
    """What is compared."""

    revision: Annotated[str, tyro.conf.Positional]
    """Of the repository."""
    source: Annotated[str, tyro.conf.Positional]
    """digits, or folder:PATH."""
    teacher: Path | None = None
    """Folder of `infoutil teacher`; by default one is trained in short."""
    pool: int = 100
    """Training images of a class that compete."""
    budgets: tuple[int, ...] = (1, 10)
    """Images per class."""
    sets: tuple[str, ...] = tuple(SETS)
    """Which of them."""
    workdir: Path | None = None
    """Where the sets are made and kept; by default nowhere."""
    results: Path = ROOT / "experiments" / "results" / "same_sets"
    """Where the outcome goes."""

    def run(self) -> bool:
        """Make all sets twice, and compare."""
        with tempfile.TemporaryDirectory() as scratch:
            before, folder = Path(scratch) / "before", self.workdir or Path(scratch)
            teacher = self.teacher or folder / "teacher"
            if not teacher.is_dir():
                train = ["teacher", self.source, "--workdir", str(teacher)]
                _infoutil(ROOT, [[*train, "--width", "32", "--epochs", "10"]])
            with checkout(self.revision, before):
                now = self._make(ROOT, 0, folder / f"now-{provenance.CODE[:12]}", teacher)
                then = self._make(before, 1, folder / "then", teacher)
        found = {one: _compare(one, now[one], then[one]) for one in now}
        record = {
            "revision": self.revision,
            "pool": self.pool,
            "sets": found,
            "versions_now": next(iter(now.values()))["versions"],
            "versions_then": next(iter(then.values()))["versions"],
            "hardware": provenance.hardware(),
        }
        self.results.mkdir(parents=True, exist_ok=True)
        name = self.source.rstrip("/").rpartition("/")[2]
        (self.results / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
        return all(one["same"] for one in found.values())

    def _make(self, tree: Path, when: int, target: Path, teacher: Path) -> dict[str, Any]:
        """Makes the sets that are not there yet; returns the manifests of all, by name."""
        common = ["distill", self.source, "--teacher", str(teacher), "--pool", str(self.pool)]
        folders = {
            f"{one}-{budget}": [
                *(*common, "--workdir", str(target / f"{one}-{budget}")),
                *("--images-per-class", str(budget), *SETS[one][when]),
            ]
            for one in self.sets
            for budget in self.budgets
        }
        missing = [call for name, call in folders.items() if not (target / name).is_dir()]
        _infoutil(tree, missing)
        return {name: json.loads((target / name / "manifest.json").read_text()) for name in folders}


def _compare(name: str, now: dict[str, Any], then: dict[str, Any]) -> dict[str, Any]:
    """Which files of a set differ, by their checksums in two manifests."""
    ours, theirs = now["files"], then["files"]
    differing = sorted(
        file for file in ours.keys() | theirs.keys() if ours.get(file) != theirs.get(file)
    )
    print(f"{name:32s} {'same' if not differing else differing[:3]}", flush=True)
    return {"same": not differing, "files": len(ours), "differing": differing}


def _infoutil(tree: Path, commands: list[list[str]]) -> None:
    entry = tomllib.loads((tree / "pyproject.toml").read_text())["project"]["scripts"]["infoutil"]
    subprocess.run(
        [sys.executable, "-c", MANY, entry],
        input=json.dumps(commands),
        text=True,
        cwd=tree,
        check=True,
        stdout=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    sys.exit(not tyro.cli(SameSets, description=__doc__).run())
