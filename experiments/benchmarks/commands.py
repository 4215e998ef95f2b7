"""How soon does the command line answer, beside an earlier revision's?

    python -m experiments.benchmarks.commands REVISION

Runs commands by the working tree and by a checkout of REVISION, in turn, each in a process of its
own that has nothing compiled before it. The ratio is that of the medians.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from experiments.revisions import ROOT, checkout, seconds_of
from infoutil_jax import provenance

RESULT = ROOT / "experiments" / "results" / "benchmarks" / "commands.json"


@dataclass(frozen=True)
class Commands:
    """Time of commands, now and then."""

    revision: Annotated[str, tyro.conf.Positional]
    """Of the repository."""
    help_rounds: int = 9
    """Of `infoutil --help` and of each verb's."""
    quickstart_rounds: int = 1
    """Of the quickstart; 0 leaves it out."""
    result: Path = RESULT
    """Where the JSON goes."""

    def run(self) -> None:
        """Measure, print, write."""
        commands = {"--help": self.help_rounds, "run --help": self.help_rounds}
        commands |= {"verify --help": self.help_rounds, "quickstart": self.quickstart_rounds}
        record: dict[str, object] = {}
        with (
            tempfile.TemporaryDirectory() as scratch,
            checkout(self.revision, Path(scratch) / "before") as before,
        ):
            for command, rounds in commands.items():
                seconds: dict[str, list[float]] = {"now": [], "before": []}
                for number in range(rounds):
                    for name, tree in (("now", ROOT), ("before", before)):
                        place = Path(scratch) / f"{name}{number}"
                        seconds[name].append(_seconds(tree, command, place))
                if rounds:
                    now, then = (statistics.median(seconds[name]) for name in ("now", "before"))
                    record[command] = {"seconds": seconds, "ratio": now / then}
                    print(f"{command:16s} {now:.2f} s, before {then:.2f} s: {now / then:.3f}")
        about = {k: v for k, v in asdict(self).items() if k != "result"}
        record |= {"benchmark": about, "versions": provenance.versions()}
        record["hardware"] = provenance.hardware()
        self.result.parent.mkdir(parents=True, exist_ok=True)
        self.result.write_text(json.dumps(record, indent=1) + "\n")


def _seconds(tree: Path, command: str, place: Path) -> float:
    words = command.split()
    if words == ["quickstart"]:
        words += ["--workdir", str(place / "quickstart")]
    return seconds_of(tree, words, place / "cache")


if __name__ == "__main__":
    tyro.cli(Commands).run()
