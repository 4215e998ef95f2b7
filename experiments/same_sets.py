"""Does the code make the sets that an earlier revision made, byte for byte?

    python -m experiments.same_sets REVISION --data folder:PATH/cifar10

Distils the digits, and CIFAR-10 with the committed reduced teacher, by every recipe of the command
line: once with the working tree, once with a checkout of REVISION. Both read the same teachers and
run on the same machine. Compared are all files of a set but the manifest, which tells the code.
Writes `experiments/results/same_sets.json`.
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

from infoutil_jax import provenance

ROOT = Path(__file__).parents[1]
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
    data: str | None = None
    """CIFAR-10 as folder:PATH; without it the digits alone."""
    pool: int = 100
    """Training images of a class that compete."""
    sets: tuple[str, ...] = tuple(SETS)
    """Which of them."""
    results: Path = ROOT / "experiments" / "results" / "same_sets.json"
    """Where the outcome goes."""

    def run(self) -> bool:
        """Make all sets twice, and compare."""
        with tempfile.TemporaryDirectory() as scratch:
            before, folder = Path(scratch) / "before", Path(scratch)
            _git("worktree", "add", "--detach", str(before), self.revision)
            try:
                sources = {"digits": ("digits", folder / "teacher")}
                train = ["teacher", "digits", "--workdir", str(folder / "teacher")]
                _infoutil(ROOT, [[*train, "--width", "32", "--epochs", "10"]])
                if self.data:
                    teacher = ROOT / "experiments" / "teachers" / "cifar10_convnet3_reduced"
                    sources["cifar10"] = (self.data, teacher)
                found = {
                    name: self._compare(name, source, teacher, before, folder)
                    for name, (source, teacher) in sources.items()
                }
            finally:
                _git("worktree", "remove", "--force", str(before))
        about = {
            "revision": self.revision,
            "pool": self.pool,
            "versions": provenance.versions(),
            "hardware": provenance.hardware(),
        }
        self.results.write_text(json.dumps({"sets": found, **about}, indent=1) + "\n")
        return all(one["same"] for sets in found.values() for one in sets.values())

    def _compare(self, name: str, source: str, teacher: Path, before: Path, folder: Path) -> Any:
        made = {}
        for when, tree in enumerate((ROOT, before)):
            target = folder / f"{name}-{when}"
            common = ["--teacher", str(teacher), "--pool", str(self.pool)]
            commands = [
                [
                    *("distill", source, *common, "--workdir", str(target / f"{one}-{budget}")),
                    *("--images-per-class", str(budget), *SETS[one][when]),
                ]
                for one in self.sets
                for budget in (1, 10)
            ]
            _infoutil(tree, commands)
            made[when] = {
                path.parent.name: json.loads(path.read_text())["files"]
                for path in sorted(target.glob("*/manifest.json"))
            }
        result = {}
        for one, now in made[0].items():
            then = made[1][one]
            differing = sorted(
                file for file in now.keys() | then.keys() if now.get(file) != then.get(file)
            )
            result[one] = {"same": not differing, "files": len(now), "differing": differing}
            print(f"{name:8s} {one:32s} {'same' if not differing else differing[:3]}", flush=True)
        return result


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


def _git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(not tyro.cli(SameSets, description=__doc__).run())
