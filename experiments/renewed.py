"""Students that choose anew, as they learn, what they train on, beside students of a fixed set.

    python -m experiments.renewed --dataset digits --data digits --set-seed 0 --validation

distils a reserve of four times as many images as are trained on at a time. One student is trained
on the first ten of each class throughout, one on the whole reserve, and others choose anew every so
many epochs: at random, or by the gradient norms of the student of the moment. All cost the same:
scoring is counted, and its students take fewer steps for it. With `--validation` a fifth of the
training images, which neither teachers nor sets see, take the place of the test images: by them one
way of choosing is taken. A line an arm goes to `experiments/results/renewed/<setting>.jsonl`;
`python -m experiments.renewed --tables` writes `table.md`.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro

from experiments import store
from experiments.cells import ROWS, Cell
from experiments.run import Experiment
from experiments.setting import Setting
from infoutil_jax import provenance
from infoutil_jax.app.accounts import mean_interval
from infoutil_jax.training.renewal import COST, Renewal
from infoutil_jax.training.student import train_student
from infoutil_jax.training.supervision import Supervision

RESULTS = Path(__file__).parent / "results" / "renewed"
RIVALS = ("fixed", "whole reserve")
TRAINING = 3
"""Forward passes that a step takes an image, with hard labels."""


class Arm(NamedTuple):
    """A way to train."""

    name: str
    renewal: Renewal | None = None
    whole: bool = False
    """On all of the reserve."""

    def epochs(self, epochs: int, times: int) -> int:
        """What costs as much as `epochs` of the fixed set, which the reserve has `times` times."""
        if self.whole:
            return round(epochs / times)
        if self.renewal is None:
            return epochs
        scoring = times * COST[self.renewal.score] / (self.renewal.every * TRAINING)
        return round(epochs / (1 + scoring))


def arms(keep: int, every: Sequence[int]) -> list[Arm]:
    """All ways."""
    found = [Arm("fixed"), Arm("whole reserve", whole=True)]
    for epochs in every:
        found.append(Arm(f"random, every {epochs}", Renewal(keep, epochs, "random")))
        for order in ("highest", "middle", "lowest"):
            renewal = Renewal(keep, epochs, "gradient_norm", order)
            found.append(Arm(f"{order} norms, every {epochs}", renewal))
    return found


@dataclass(frozen=True)
class Renewed:
    """All ways on one reserve."""

    dataset: str = "digits"
    """A name of experiments.datasets.DATASETS."""
    data: str | None = None
    """folder:PATH or tfds:NAME; by default where the dataset is published."""
    note: str | None = None
    """What sets this copy of the dataset apart."""
    recipe: str = "rded"
    """The row of experiments.cells whose set is the reserve."""
    keep: int = 10
    """Images of a class that are trained on at a time."""
    times: int = 4
    """How many times as many the reserve has."""
    epochs: int = 300
    """Of the fixed set."""
    every: tuple[int, ...] = (10, 50)
    """Epochs between two choices."""
    only: tuple[str, ...] = ()
    """Names of arms; by default all."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One student each."""
    set_seed: int = 0
    """Of the reserve."""
    validation: bool = False
    """A fifth of the training images in the place of the test images."""
    tables: bool = False
    """Only writes the table."""
    teacher: Path | None = None
    """Where the setting's teachers lie; by default they are trained in the working directory."""
    workdir: Path = Path("runs/experiments")
    """Teachers, pools, sets."""
    results: Path = RESULTS
    """Where the lines go."""

    def run(self) -> None:
        """Adds the lines that are not there, and writes the table."""
        if not self.tables:
            self._fill()
        (self.results / "table.md").write_text(table(self.results))

    def _fill(self) -> None:
        experiment = Experiment(
            "all",
            dataset=self.dataset,
            backbone="convnet3",
            data=self.data,
            note=self.note,
            reduced=True,
            set_seed=self.set_seed,
            validation=self.validation,
            teacher=self.teacher,
            workdir=self.workdir,
        )
        where = "validation" if self.validation else "test"
        file = self.results / f"{self.dataset}_convnet3_reduced_{where}.jsonl"
        setting = Setting.prepare(experiment)
        row = replace(ROWS[self.recipe], label_stage="early")
        reserve, _ = setting.distil(Cell(row, self.keep * self.times))
        for arm in arms(self.keep, self.every):
            name = f"{arm.name}, set{self.set_seed}"
            if (self.only and arm.name not in self.only) or name in store.read(file, _name):
                continue
            line = self._trained(setting, (reserve.images, reserve.labels), arm)
            store.add(file, {"name": name, **line}, _name)
            print(where, name, line["top1"], flush=True)

    def _trained(
        self, setting: Setting, reserve: tuple[np.ndarray, np.ndarray], arm: Arm
    ) -> dict[str, Any]:
        """The students of one arm."""
        images, labels = reserve
        if arm.renewal is None and not arm.whole:
            first = Renewal(self.keep).first(labels)
            images, labels = images[first], labels[first]
        teacher = setting.teachers["early"]
        config = setting.student(Cell(ROWS["random-hard"], self.keep))
        epochs = arm.epochs(self.epochs, self.times)
        config = replace(config, seeds=self.seeds, epochs=epochs, batch_size=50)
        result = train_student(
            (images, labels),
            setting.source.test.arrays(),
            config.resolve(setting.source),
            supervision=Supervision(
                len(setting.source.class_names), mean=teacher.mean, std=teacher.std
            ),
            renewal=arm.renewal,
        )
        return {
            "arm": arm.name,
            "arguments": {
                k: v
                for k, v in asdict(self).items()
                if k not in ("data", "teacher", "workdir", "results", "tables", "only")
            },
            "renewal": provenance.describe(arm.renewal),
            "epochs": epochs,
            "top1": [round(float(top1), 2) for top1 in result.top1],
            "seconds": round(result.seconds, 1),
            "reduced": setting.reduced,
            "teacher_top1": {k: one.accuracy for k, one in setting.teachers.items()},
            "source": {
                "fingerprint": setting.source.fingerprint(),
                "train_images": len(setting.source.train),
                "test_images": len(setting.source.test),
            },
            "versions": provenance.versions(),
            "hardware": provenance.hardware(),
        }


def _name(line: dict[str, Any]) -> str:
    return str(line["name"])


def table(results: Path) -> str:
    """The tables of all lines, as Markdown."""
    text = ["# Renewed sets", "", "Made by `python -m experiments.renewed --tables`."]
    for file in sorted(results.glob("*.jsonl")):
        lines = list(store.read(file, _name).values())
        one, where = lines[0], file.stem.rsplit("_", 1)[1]
        given = one["arguments"]
        text += [
            "",
            f"## {given['dataset']}, {where} images",
            "",
            f"Reduced: {one['reduced']}; {one['source']['train_images']:,} training and "
            f"{one['source']['test_images']:,} {where} images. {given['keep']} images a class are "
            f"trained on at a time, of {given['keep'] * given['times']}; hard labels; the cost of "
            f"{given['epochs']} epochs of the fixed set. Top-1 in percent: mean over sets of "
            f"{len(given['seeds'])} students each. The lead has its 95% interval over the sets "
            "(Student's t).",
            "",
            "| trained on | epochs | sets | top-1 | leads fixed by | leads whole by |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        by_arm: dict[str, dict[int, dict[str, Any]]] = {}
        for line in lines:
            by_arm.setdefault(line["arm"], {})[line["arguments"]["set_seed"]] = line
        rivals = [by_arm.get(name, {}) for name in RIVALS]
        for arm, sets in sorted(by_arm.items(), key=lambda pair: _order(pair[0])):
            mean = statistics.mean(statistics.mean(s["top1"]) for s in sets.values())
            leads = [
                "" if arm == name else _lead(sets, rival)
                for name, rival in zip(RIVALS, rivals, strict=True)
            ]
            epochs = next(iter(sets.values()))["epochs"]
            text.append(f"| {arm} | {epochs} | {len(sets)} | {mean:.1f} | {' | '.join(leads)} |")
    return "\n".join(text) + "\n"


def _mean(line: dict[str, Any]) -> float:
    return statistics.mean(line["top1"])


def _lead(ours: dict[int, dict[str, Any]], theirs: dict[int, dict[str, Any]]) -> str:
    """By how much students of the same sets lead others, with the interval over the sets."""
    leads = [_mean(ours[k]) - _mean(theirs[k]) for k in ours if k in theirs]
    if not leads:
        return ""
    mean, half = mean_interval(leads)
    return f"{mean:+.1f}" + ("" if half is None else f" ± {half:.1f}")


def _order(arm: str) -> tuple[bool, bool, str]:
    return arm != "fixed", arm != "whole reserve", arm


def main() -> None:
    """Entry point."""
    tyro.cli(Renewed, description=__doc__).run()


if __name__ == "__main__":
    main()
