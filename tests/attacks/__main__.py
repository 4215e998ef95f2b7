"""All attacks, in their long form.

    python -m tests.attacks --results experiments/results/attacks.json

It takes hours on a few cores; `--kills 5 --fuzzed 1000` takes minutes.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Commands take from a cache what other commands have compiled, however quickly. Before JAX.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir(), "attacks-jax")))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import numpy as np
import tyro

from infoutil_jax import provenance
from tests.attacks import content, death, fuzz, processes


@dataclass(frozen=True)
class Attacks:
    """How many of each."""

    kills: int = 50
    """By SIGKILL at a random moment."""
    stops: int = 10
    """By SIGTERM, and as many by SIGINT."""
    pairs: int = 20
    """Of runs at once in one folder."""
    full_disks: int = 10
    """Runs whose files cannot grow."""
    flips: int = 1000
    """Of a byte of a set."""
    fuzzed: int = 10_000
    """Inputs: seven in ten are sets that are edited and signed anew, two options, one teachers."""
    seed: int = 0
    """Of all that is random."""
    results: Path | None = None
    """Where the counts go, after each kind of attack."""

    def __call__(self) -> None:
        """Attacks."""
        # What a shell starts in the background ignores this signal, and so would the attacked.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        counts: dict[str, Any] = {}
        with tempfile.TemporaryDirectory() as name:
            folder, rng = Path(name), np.random.default_rng(self.seed)
            self._on_processes(folder, rng, counts)
            counts["flipped bytes"] = fuzz.flips(folder / "flips", self.flips, self.seed)
            self._write(counts)
            self._on_inputs(folder, counts)

    def _on_processes(self, folder: Path, rng: np.random.Generator, counts: dict[str, Any]) -> None:
        """What forks comes first: before JAX has threads."""
        (folder / "deaths" / "old").mkdir(parents=True)
        counts["death at every disk operation"] = dict(
            death.crashes(folder / "deaths", content.rewritten)
        )
        right, seconds = processes.undisturbed(folder)
        counts["an undisturbed run, seconds"] = round(seconds, 1)
        many = {"SIGKILL": self.kills, "SIGTERM": self.stops, "SIGINT": self.stops}
        for signalled, number in many.items():
            found = Counter[str]()
            for _ in range(number):
                by = getattr(signal, signalled)
                found.update(processes.stops(folder / "stopped", right, seconds, by, rng))
                counts[signalled] = dict(found)
                self._write(counts)
        for _ in range(self.pairs):
            found = Counter(counts.get("two at once", {}))
            found.update(processes.pair(folder / "pair", right))
            counts["two at once"] = dict(found)
            self._write(counts)
        for _ in range(self.full_disks):
            found = Counter(counts.get("full disk", {}))
            found.update(processes.full_disk(folder / "full", right, rng))
            counts["full disk"] = dict(found)
            self._write(counts)

    def _on_inputs(self, folder: Path, counts: dict[str, Any]) -> None:
        teacher = folder / "right1" / "run" / "teacher"
        sets, passed = fuzz.forged_sets(folder / "sets", self.fuzzed * 7 // 10, self.seed)
        counts["forged sets"] = _account(sets, {"passed a pinned digest": passed})
        self._write(counts)
        options, outside = fuzz.wild_options(self.fuzzed * 2 // 10, self.seed)
        counts["options"] = _account(options, {"taken out of their range": outside})
        self._write(counts)
        broken, others = fuzz.broken_teachers(
            teacher, folder / "teachers", self.fuzzed // 10, self.seed
        )
        counts["damaged teachers"] = _account(broken, {"silently another teacher": others})
        self._write(counts)

    def _write(self, counts: dict[str, Any]) -> None:
        arguments = {name: value for name, value in asdict(self).items() if name != "results"}
        result = {"arguments": arguments, "counts": counts, "versions": provenance.versions()}
        if self.results is not None:
            self.results.write_text(json.dumps(result, indent=1) + "\n")
        print(time.strftime("%H:%M:%S"), json.dumps(counts), flush=True)


def _account(counts: fuzz.Counts, more: dict[str, int]) -> dict[str, Any]:
    return {**counts, **more, "slowest, seconds": round(counts.slowest, 2)}


if __name__ == "__main__":
    tyro.cli(Attacks)()
