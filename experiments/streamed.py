"""A set that was kept up to date while images arrived, beside sets that are distilled at once.

    python -m experiments.streamed --data folder:PATH --recipe rded --set-seed 0

streams the training images of CIFAR-10 at reduced size, in random order, and distils the same
images at once: by the usual pool of 300 images a class, and with `--whole` by all of them, as the
stream does. It trains students on the sets and adds a line to
`experiments/results/streamed/<setting>.jsonl`; what has a line is not run again. Nothing is chosen
by these figures. `python -m experiments.streamed --tables` writes `table.md` from all lines.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments import store
from experiments.cells import ROWS, Cell
from experiments.run import Experiment
from experiments.setting import Setting
from infoutil_jax import DistillConfig, DistilledDataset, Source, Stream, distill, provenance
from infoutil_jax.app.accounts import mean_interval
from infoutil_jax.app.students import summarise, train_students
from infoutil_jax.method.recipes import RECIPES, Recipe
from infoutil_jax.progress import peak_bytes

RESULTS = Path(__file__).parent / "results" / "streamed"
SETTING = "cifar10_convnet3_reduced"


@dataclass(frozen=True)
class Streamed:
    """One stream beside what is distilled at once."""

    data: str | None = None
    """folder:PATH or tfds:NAME; by default where the dataset is published."""
    note: str | None = "JPEG"
    """What sets this copy of the dataset apart."""
    recipe: str = "rded"
    """A name of RECIPES."""
    judges: int = 250
    """Of infoutil as it streams: whole images of a class that it keeps."""
    budget: int = 10
    """Images a class."""
    batch: int = 500
    """Images of an update."""
    epochs: int = 100
    """Of a student; a third of the protocol's."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One student each."""
    set_seed: int = 0
    """Of the order in which images arrive, and of both sets."""
    whole: bool = False
    """Also distil all images at once, in the order of the stream, and compare byte by byte."""
    tables: bool = False
    """Only writes the table."""
    teacher: Path | None = None
    """Where the setting's teachers lie; by default they are trained in the working directory."""
    workdir: Path = Path("runs/experiments")
    """Teachers, sets."""
    results: Path = RESULTS
    """Where the lines go."""

    @property
    def name(self) -> str:
        """Names the line."""
        return f"{self.recipe}, {self.budget}, set{self.set_seed}"

    def run(self) -> None:
        """Adds the line, if it is not there, and writes the table."""
        file = self.results / f"{SETTING}.jsonl"
        if not self.tables:
            if self.name in store.read(file, _name):
                print(f"{self.name}: there already")
            else:
                store.add(file, self._measured(), _name)
        (self.results / "table.md").write_text(table(list(store.read(file, _name).values())))

    def _measured(self) -> dict[str, Any]:
        experiment = Experiment(
            "all",
            dataset="cifar10",
            backbone="convnet3",
            data=self.data,
            note=self.note,
            reduced=True,
            set_seed=self.set_seed,
            teacher=self.teacher,
            workdir=self.workdir,
        )
        setting = Setting.prepare(experiment)
        source, labeller = setting.source, setting.teachers["early"]
        order = np.random.default_rng(self.set_seed).permutation(len(source.train))
        recipe, folder = self._recipe(), setting.workdir / "streamed"
        streamed, about = self._streamed(setting, recipe, order, folder / self.name / "stream")
        sets, config = {"stream": streamed}, DistillConfig(overwrite=True, progress=False)
        made: dict[str, Any] = {"stream": about}
        at_once = _distilling(setting, self.budget, self.set_seed)
        started = time.perf_counter()
        sets["at once"] = at_once(
            source, RECIPES[self.recipe](), folder / self.name / "pool", config
        )
        made["at once"] = {"pool": config.pool, "seconds": round(time.perf_counter() - started, 1)}
        if self.whole:
            ordered = replace(source, train=source.train.take(order))
            every = at_once(
                ordered, recipe, folder / self.name / "whole", replace(config, pool=None)
            )
            made["whole"] = _compared(streamed, every)
        student = setting.student(Cell(ROWS["random"], self.budget))
        student = replace(student, seeds=self.seeds, epochs=self.epochs)
        for name, one in sets.items():
            made[name] |= summarise(train_students(one, source, labeller, student, progress=False))
            print(self.name, name, made[name]["top1"], flush=True)
        return {
            "name": self.name,
            "arguments": {
                k: v
                for k, v in asdict(self).items()
                if k not in ("data", "teacher", "workdir", "results", "tables")
            },
            "dataset": f"CIFAR-10 ({self.note})",
            "reduced": setting.reduced,
            "teacher_top1": {k: one.accuracy for k, one in setting.teachers.items()},
            "student_options": asdict(student.resolve(source)),
            "source": {
                "fingerprint": source.fingerprint(),
                "train_images": len(source.train),
                "test_images": len(source.test),
            },
            **made,
            "versions": provenance.versions(),
            "hardware": provenance.hardware(),
        }

    def _recipe(self) -> Recipe:
        """The recipe that streams."""
        options = {"judges": self.judges} if self.recipe == "infoutil" else {}
        return RECIPES[self.recipe](**options)

    def _streamed(
        self, setting: Setting, recipe: Recipe, order: np.ndarray, folder: Path
    ) -> tuple[DistilledDataset, dict[str, Any]]:
        """The set after one pass, and what the pass took."""
        train = setting.source.train
        stream = Stream.open(
            folder,
            setting.teachers["converged"],
            recipe,
            images_per_class=self.budget,
            label_teacher=setting.teachers["early"],
            seed=self.set_seed,
        )
        seconds: list[float] = []
        peaks: dict[int, int] = {}
        for ids, images in train.batches(order[stream.images :], self.batch):
            started = time.perf_counter()
            stream = stream.update(images, train.labels[ids], [train.ids[i] for i in ids])
            seconds.append(round(time.perf_counter() - started, 2))
            peaks[stream.images] = peak_bytes()
            if (made := stream.distilled) is not None:
                made.verify()
        quarter = min((n for n in peaks if 4 * n >= len(order)), default=0)
        reserve, made = stream.state.reserve, stream.distilled
        assert made is not None and reserve is not None
        about = {
            "seconds_of_updates": seconds,
            "peak_bytes": peaks,
            "peak_growth": round(peaks[len(order)] / peaks[quarter], 4),
            "reserve_rows": len(reserve.crops),
            "reserve_bytes": stream.file.stat().st_size,
        }
        return made, about


def _distilling(setting: Setting, budget: int, seed: int) -> Callable[..., DistilledDataset]:
    """`distill` by the teachers of a setting."""

    def at_once(
        source: Source, recipe: Recipe, folder: Path, config: DistillConfig
    ) -> DistilledDataset:
        return distill(
            source,
            setting.teachers["converged"],
            recipe,
            images_per_class=budget,
            workdir=folder,
            label_teacher=setting.teachers["early"],
            seed=seed,
            config=config,
        )

    return at_once


def _compared(one: DistilledDataset, other: DistilledDataset) -> dict[str, Any]:
    """Whether two sets hold the same."""
    return {
        "same_images": bool(np.array_equal(one.images, other.images)),
        "same_records": one.records == other.records,
        "soft_labels_differ_by": float(np.abs(one.soft_labels - other.soft_labels).max()),
    }


def _name(line: dict[str, Any]) -> str:
    return str(line["name"])


def table(lines: Sequence[dict[str, Any]]) -> str:
    """The table of all lines, as Markdown."""
    text = ["# Streamed sets", "", "Made by `python -m experiments.streamed --tables`.", ""]
    if not lines:
        return "\n".join(text)
    first = lines[0]
    text += [
        f"{first['dataset']}, {first['reduced']}; {first['source']['train_images']:,} training and "
        f"{first['source']['test_images']:,} test images, {first['arguments']['budget']} images a "
        f"class, updates of {first['arguments']['batch']} images. Top-1 in percent: mean over "
        f"{len(first['arguments']['seeds'])} students of one set, ConvNet-3 of "
        f"{first['arguments']['epochs']} epochs, labels online. The lead has its 95% interval over "
        "the sets (Student's t).",
        "",
        "| recipe | set | stream | at once, pool of 300 | all at once |",
        "| --- | --- | --- | --- | --- |",
    ]
    for line in lines:
        same = line.get("whole")
        said = "" if same is None else "the same set" if same["same_images"] else "another set"
        text.append(
            f"| {line['arguments']['recipe']} | {line['arguments']['set_seed']} | "
            f"{line['stream']['top1_mean']:.1f} | {line['at once']['top1_mean']:.1f} | {said} |"
        )
    text += [
        "",
        "| recipe | sets | stream leads by | seconds an update, median | memory, whole to quarter "
        "| reserve |",
    ]
    text.append("| --- | --- | --- | --- | --- | --- |")
    for recipe in dict.fromkeys(line["arguments"]["recipe"] for line in lines):
        ours = [line for line in lines if line["arguments"]["recipe"] == recipe]
        leads = [one["stream"]["top1_mean"] - one["at once"]["top1_mean"] for one in ours]
        mean, half = mean_interval(leads)
        lead = f"{mean:+.1f}" + ("" if half is None else f" ± {half:.1f}")
        spent = statistics.median(s for one in ours for s in one["stream"]["seconds_of_updates"])
        grown = max(one["stream"]["peak_growth"] for one in ours)
        kept = max(one["stream"]["reserve_bytes"] for one in ours) / 2**20
        text.append(
            f"| {recipe} | {len(ours)} | {lead} | {spent:.1f} | {grown:.3f} | {kept:.1f} MiB |"
        )
    return "\n".join(text) + "\n"


def main() -> None:
    """Entry point."""
    tyro.cli(Streamed, description=__doc__).run()


if __name__ == "__main__":
    main()
