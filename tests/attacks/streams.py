"""A stream that is killed: at a random moment of its updates, at every disk operation of one.

    python -m tests.attacks.streams --results experiments/results/streamed/killed.json

It starts nothing of JAX before it forks.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from infoutil_jax import provenance
from infoutil_jax.data import layout
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.distillation import Stream, StreamConfig
from infoutil_jax.method.recipes import rded
from infoutil_jax.training.teacher import Teacher
from tests.attacks.death import dying, ended, forked

IMAGES, AT_ONCE, CLASSES = 120, 4, ("ant", "bee", "<i>moth</i>")


def opened(place: Path) -> Stream:
    """The stream at a place: of noise, by a linear teacher."""
    weights = np.random.default_rng(0).normal(size=(48, len(CLASSES))).astype(np.float32)
    teacher = Teacher(_linear, weights, mean=0.5, std=0.25, class_names=CLASSES)
    config = StreamConfig(batch_size=AT_ONCE)
    return Stream.open(place, teacher, rded(num_crops=1), images_per_class=2, config=config)


def _linear(weights, images):
    return images.reshape(len(images), -1) @ weights


def followed(place: Path, until: int = IMAGES) -> int:
    """Takes in what has not come yet, a few images at once; the third class comes late."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (IMAGES, 4, 4, 3)).astype(np.uint8)
    labels = np.arange(IMAGES) % np.where(np.arange(IMAGES) < IMAGES // 2, 2, 3)
    stream = opened(place)
    while stream.images < until:
        some = slice(stream.images, stream.images + AT_ONCE)
        stream = stream.update(images[some], labels[some])
    return 0


def digest_of(place: Path) -> str:
    """Of the set at a place, which verifies as it lies there."""
    found = DistilledDataset.load(place)
    found.verify()
    return found.digest


def kills(folder: Path, count: int, seed: int = 0) -> Counter[str]:
    """Kills a stream's process at random moments, looks at the set, and lets it go on."""
    found, rng = Counter[str](), np.random.default_rng(seed)
    right, place, log = folder / "right" / "set", folder / "killed" / "set", folder / "log"
    for one in (right, place):
        one.parent.mkdir(parents=True)
    assert ended(forked(lambda: followed(right), log)) == 0, log.read_text()
    expected = digest_of(right)
    while found["kills"] < count:
        process = forked(lambda: followed(place), log)
        _wait_for_an_update(place, process)
        time.sleep(rng.uniform(0, 0.1))
        os.kill(process, signal.SIGKILL)
        if ended(process) == 0:  # it was done before
            shutil.rmtree(place.parent)
            place.parent.mkdir()
            continue
        found["kills"] += 1
        found["a set was there"] += (place / layout.MANIFEST).exists()
        found["it verified"] += bool(digest_of(place))
    assert ended(forked(lambda: followed(place), log)) == 0, log.read_text()
    found["the same bytes in the end"] = int(digest_of(place) == expected)
    left = sorted(path.name for path in place.parent.iterdir())
    found["nothing left beside"] = int(left == ["set", "set.stream.npz"])
    return found


def _wait_for_an_update(place: Path, process: int) -> None:
    """Returns once a process has replaced a set, or ended."""
    manifest = place / layout.MANIFEST
    before = manifest.read_bytes() if manifest.exists() else b""
    while os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        try:
            if manifest.read_bytes() not in (before, b""):
                return
        except FileNotFoundError:
            pass
        time.sleep(0.001)


def deaths(folder: Path) -> Counter[str]:
    """Has an update die before each of its disk operations in turn."""
    found, number, log = Counter[str](), 0, folder / "log"
    first, last = IMAGES - AT_ONCE, IMAGES

    def run(work: Callable[[], int]) -> int:
        return ended(forked(work, log))

    old, right = folder / "old" / "set", folder / "right" / "set"
    for one, until in ((old, first), (right, last)):
        one.parent.mkdir(parents=True)
        assert run(lambda one=one, until=until: followed(one, until)) == 0, log.read_text()
    before, after = digest_of(old), digest_of(right)
    while True:
        place = folder / f"{number:03d}" / "set"
        shutil.copytree(old.parent, place.parent)
        died = run(lambda place=place, n=number: dying(lambda: followed(place), n))
        if died == 0:
            return found
        found["deaths"] += 1
        found["a set of before or after"] += digest_of(place) in (before, after)
        again = run(lambda place=place: followed(place))
        found["went on to the same bytes"] += again == 0 and digest_of(place) == after
        number += 1


@dataclass(frozen=True)
class Killed:
    """How often, and where the counts go."""

    kills: int = 50
    """By SIGKILL at a random moment."""
    seed: int = 0
    """Of the moments."""
    results: Path | None = None
    """The file of JSON."""

    def __call__(self) -> None:
        """Kills."""
        with tempfile.TemporaryDirectory() as name:
            at_random = kills(Path(name, "kills"), self.kills, self.seed)
            at_each = deaths(Path(name, "deaths"))
        record = {
            "arguments": {"kills": self.kills, "seed": self.seed},
            "SIGKILL at a random moment": at_random,
            "death at every disk operation of an update": at_each,
            "versions": provenance.versions(),
            "hardware": provenance.hardware(),
        }
        print(at_random, at_each, flush=True)
        if self.results is not None:
            self.results.parent.mkdir(parents=True, exist_ok=True)
            self.results.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(Killed)()
