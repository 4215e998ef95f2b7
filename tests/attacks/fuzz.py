"""Attacks within one process: sets, teachers and options, each damaged in many ways."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infoutil_jax import ranges
from infoutil_jax.app.cli import options_of, parsed
from infoutil_jax.app.flags import flags_of
from infoutil_jax.app.report.gather import load_shown
from infoutil_jax.data import layout
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.errors import InputError
from infoutil_jax.training.teacher import load_teachers
from tests.attacks.content import small_set
from tests.attacks.damage import Counts, damaged, flipped, mutated, obstruct, sign

WORDS = ("nan", "inf", "-inf", "-1", "0", "1", "2", "0.5", "1e400", "-1e-9", str(2**64), "", "x")
"""Typed in the place of an option's value."""
NEEDED = {
    "run": ["digits"],
    "compare": ["digits"],
    "teacher": ["digits", "--workdir", "w"],
    "distill": ["digits", "--teacher", "t", "--workdir", "w"],
    "stream": ["digits", "--teacher", "t", "--workdir", "w"],
    "student": ["set", "digits"],
}
"""Words without which a verb is none."""


def use(path: Path, digest: str | None = None) -> DistilledDataset:
    """Everything that a set's content is read for."""
    found = DistilledDataset.load(path, digest=digest)
    found.verify()
    load_shown(path)
    for keys in (("images_per_class",), ("label_teacher", "stage"), ("label_teacher", "mean")):
        found.said(*keys)
    return found


def same(one: DistilledDataset, other: DistilledDataset) -> bool:
    """Whether two sets teach the same."""
    arrays = ("images", "labels", "soft_labels")
    return one.class_names == other.class_names and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays
    )


def flips(folder: Path, count: int, seed: int = 0) -> dict[str, int]:
    """Flips a byte of a file: how often `verify` finds it, and `load` uses it."""
    rng, right = np.random.default_rng(seed), small_set(folder / "set")
    names = [layout.MANIFEST, *right.manifest["files"]]
    found = {"flips": count, "found by verify": 0, "silently used by load": 0}
    for _ in range(count):
        file = right.path / names[int(rng.integers(len(names)))]
        content = file.read_bytes()
        file.write_bytes(flipped(rng, content))
        try:
            right.verify()
        except InputError:
            found["found by verify"] += 1
        with contextlib.suppress(InputError):
            found["silently used by load"] += not same(DistilledDataset.load(right.path), right)
        file.write_bytes(content)
    return found


def forged_sets(folder: Path, count: int, seed: int = 0) -> tuple[Counts, int]:
    """Sets that are edited and signed anew: outcomes, and how many a pinned digest let pass."""
    rng, counts, passed = np.random.default_rng(seed), Counts(), 0
    right = small_set(folder / "set")
    digest, copy = right.digest, folder / "copy"
    for _ in range(count):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(right.path, copy)
        _forge(rng, copy)
        counts.add(lambda: use(copy))
        with contextlib.suppress(InputError):
            passed += not same(use(copy, digest), right)
    return counts, passed


def _forge(rng: np.random.Generator, path: Path) -> None:
    manifest = json.loads((path / layout.MANIFEST).read_bytes())
    files = sorted(manifest["files"])
    name = files[int(rng.integers(len(files)))]
    match int(rng.integers(5)):
        case 0:
            manifest = mutated(rng, manifest)
        case 1:
            lines = (path / layout.METADATA).read_bytes().splitlines()
            place = int(rng.integers(len(lines)))
            lines[place] = json.dumps(mutated(rng, json.loads(lines[place]))).encode()
            (path / layout.METADATA).write_bytes(b"\n".join(lines) + b"\n")
        case 2:
            (path / name).write_bytes(damaged(rng, (path / name).read_bytes()))
        case 3:
            obstruct(rng, path / name)
        case _:
            other = files[int(rng.integers(len(files)))]
            (path / name).write_bytes((path / other).read_bytes())
    sign(path, manifest)


def broken_teachers(teacher: Path, folder: Path, count: int, seed: int = 0) -> tuple[Counts, int]:
    """Teachers' folders that are damaged: outcomes, and how many were silently another teacher."""
    rng, counts, others = np.random.default_rng(seed), Counts(), 0
    right = {stage: one.digest() for stage, one in load_teachers(teacher).items()}
    names = [file.relative_to(teacher) for file in sorted(teacher.rglob("*")) if file.is_file()]
    names = [name for name in names if name.parts[0] != "running"]
    copy = folder / "teacher"
    for _ in range(count):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(teacher, copy, ignore=shutil.ignore_patterns("running"))
        file = copy / names[int(rng.integers(len(names)))]
        match int(rng.integers(4)):
            case 0:
                file.unlink()
            case 1:
                obstruct(rng, file)
            case 2 if file.suffix == ".json":
                file.write_text(json.dumps(mutated(rng, json.loads(file.read_text()))))
            case _:
                file.write_bytes(damaged(rng, file.read_bytes()))
        if counts.add(lambda: load_teachers(copy)) == "accepted":
            found = {stage: one.digest() for stage, one in load_teachers(copy).items()}
            others += found != right
    return counts, others


def wild_options(count: int, seed: int = 0) -> tuple[Counts, int]:
    """Options with any value: outcomes, and how many values out of their range were taken."""
    rng, counts, outside = np.random.default_rng(seed), Counts(), 0
    options = {verb: [flag for _, flag in flags_of(options_of(verb))] for verb in NEEDED}
    for _ in range(count):
        verb = list(NEEDED)[int(rng.integers(len(NEEDED)))]
        flag = options[verb][int(rng.integers(len(options[verb])))]
        word = WORDS[int(rng.integers(len(WORDS)))]
        typed = Typed([verb, *NEEDED[verb], f"{flag}={word}"])
        if counts.add(typed) == "accepted":
            outside += not _within(typed.command)
    return counts, outside


class Typed:
    """Parses words, and keeps the command that they are."""

    def __init__(self, words: list[str]):
        self.words, self.command = words, None

    def __call__(self) -> None:
        """Parses; what tyro tells in a box is told, too."""
        silent = io.StringIO()
        try:
            with contextlib.redirect_stderr(silent), contextlib.redirect_stdout(silent):
                self.command = parsed(self.words)
        except SystemExit as stopped:
            if stopped.code != 2:
                raise AssertionError(f"{self.words} end with {stopped.code}") from None
            raise InputError("told in a box") from None


def _within(config: Any) -> bool:
    """Whether every number of a command is in its range, by a check of our own."""
    for one in fields(config):
        value, known = getattr(config, one.name), ranges.RANGES.get(one.name)
        if is_dataclass(value):
            if not _within(value):
                return False
        elif known is not None:
            for part in value if isinstance(value, tuple) else (value,):
                zero_epochs = (one.name, part) == ("epochs", 0)  # of weights taken as they are
                is_number = isinstance(part, int | float) and not zero_epochs
                if is_number and not known.least <= part <= known.most:
                    return False
    return True
