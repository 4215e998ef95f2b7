"""Utility measured over whole trainings, beside the scores that stand in for it.

    python -m experiments.measured_utility --dataset cifar10 --backbone convnet3 --data folder:PATH

Narrow students are trained on random sets, one crop a class, of random-resized crops of random
training images; a linear datamodel (Ilyas et al., ICML 2022, arXiv 2202.00622) tells what each crop
adds to their accuracy on other training images. How much of the accuracy is such a sum, and how
much a kernel student foresees that is not trained; how scores rank the crops beside the sum; and
what students of full width reach, on the test images, from the sets that it calls best and worst.
Writes `experiments/results/measured_utility/<dataset>_<backbone>.json`, and `table.md` from all of
them.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from scipy import stats
from sklearn.linear_model import BayesianRidge
from tqdm.auto import tqdm

from experiments.cells import ROWS, Cell
from experiments.datasets import width_of
from experiments.run import Experiment
from experiments.setting import Setting
from infoutil_jax import provenance
from infoutil_jax.distillation import DistillConfig, Examined, score_pool
from infoutil_jax.distillation.crops import read_crops
from infoutil_jax.method import scores as utility
from infoutil_jax.method.contracts import Candidates
from infoutil_jax.method.features import StudentFeatures
from infoutil_jax.method.recipes import random, rded
from infoutil_jax.method.selection.kernel_student import arc_cosine, loss, toggled, untaught
from infoutil_jax.training.config import StudentConfig
from infoutil_jax.training.student import train_student
from infoutil_jax.training.supervision import Supervision

RESULTS = Path(__file__).parent / "results" / "measured_utility"


@dataclass(frozen=True)
class Measurement:
    """Of one dataset's crops, with one backbone."""

    dataset: str = "cifar10"
    """A name of experiments.datasets.DATASETS."""
    backbone: str = "convnet3"
    """Of teachers and students."""
    data: str | None = None
    """folder:PATH or tfds:NAME; by default where the dataset is published."""
    note: str | None = None
    """What sets this copy of the dataset apart."""
    teacher: Path | None = None
    """Where its teachers lie; by default they are trained in the working directory."""
    candidates: int = 24
    """Crops of each class, each of another image."""
    students: int = 480
    """On trial."""
    epochs: int = 100
    """Of each."""
    width: int = 16
    """Of their layers."""
    full_epochs: int = 300
    """Of the students that confirm."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the students that confirm."""
    seed: int = 0
    """Of crops, sets and students on trial."""
    image_size: int | None = None
    max_per_class: int | None = None
    teacher_epochs: int | None = None
    early_epochs: int = 10
    full_width: int | None = None
    """As `experiments.run` has them; the last is its `width`."""
    workdir: Path = Path("runs/experiments")
    """Teachers, where none are given."""
    results: Path = RESULTS
    """Where the JSON goes."""

    def run(self) -> None:
        """Measure, write the JSON and the table."""
        started = time.perf_counter()
        experiment = Experiment(
            "all",
            dataset=self.dataset,
            backbone=self.backbone,
            data=self.data,
            width=self.full_width,
            image_size=self.image_size,
            max_per_class=self.max_per_class,
            teacher_epochs=self.teacher_epochs,
            early_epochs=self.early_epochs,
            teacher=self.teacher,
            workdir=self.workdir,
        )
        setting = Setting.prepare(experiment)
        source, labeller = setting.source, setting.teachers["early"]
        rows = self._candidates(setting)
        table = rows.candidates
        crops = read_crops(source, rows.candidates.ids, rows.boxes, source.image_size)
        test = self._held_out(setting, table)
        sets, outcomes = self._trials(setting, crops, test)
        held = np.zeros((self.students, len(table.ids)), bool)
        np.put_along_axis(held, sets, True, axis=1)
        measured = parts(held, outcomes)
        scores = _scores(setting, rows, crops)
        by_class = measured.reshape(-1, self.candidates)
        places = np.arange(len(measured)).reshape(by_class.shape)
        chosen = {
            "best": places[np.arange(len(places)), by_class.argmax(1)],
            "worst": places[np.arange(len(places)), by_class.argmin(1)],
            "lowest gradient norm": places[
                np.arange(len(places)),
                scores["gradient norm, early"].reshape(by_class.shape).argmin(1),
            ],
        }
        student = setting.student(Cell(ROWS["random"], 1))
        confirmed = {}
        for name, kept in chosen.items():
            full = replace(student, epochs=self.full_epochs, seeds=self.seeds).resolve(source)
            found = train_student(
                (crops[kept], table.labels[kept]),
                source.test.arrays(),
                full,
                supervision=Supervision(len(source.class_names), labeller),
            )
            confirmed[name] = [float(top1) for top1 in found.top1]
        record = {
            "what": "utility of crops measured over whole trainings, beside scores of them",
            "arguments": {
                k: v
                for k, v in asdict(self).items()
                if k not in ("data", "teacher", "workdir", "results")
            },
            "reduced": setting.reduced,
            "source": {"name": source.name, "fingerprint": source.fingerprint()},
            "width": width_of(experiment, self.backbone),
            "teacher_digest": labeller.digest(),
            "accuracy_mean": float(outcomes.mean()),
            "accuracy_std": float(outcomes.std(ddof=1)),
            "half_predicts_half": _halves(held, outcomes, self.seed),
            "kernel_student_predicts": _correlation(
                -_kernel_losses(setting, table, crops, sets, test), outcomes
            ),
            "rank_correlation": {
                name: _correlation(_within(measured, table), _within(values, table))
                for name, values in scores.items()
            },
            "confirmed_top1": confirmed,
            "seconds": round(time.perf_counter() - started, 1),
            "versions": provenance.versions(),
            "hardware": provenance.hardware(),
        }
        self.results.mkdir(parents=True, exist_ok=True)
        path = self.results / f"{self.dataset}_{self.backbone}.json"
        path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
        (self.results / "table.md").write_text(render(self.results))
        print(render(self.results))

    def _candidates(self, setting: Setting) -> Examined:
        """One random-resized crop of each of `candidates` random images of every class."""
        recipe = replace(random(), crop=rded(num_crops=1).crop)
        source, teacher = setting.source, setting.teachers["early"]
        config = DistillConfig(pool=self.candidates, progress=False)
        rows = score_pool(source, teacher, recipe, seed=self.seed, config=config).rows
        return rows.take(np.lexsort((rows.candidates.ids, rows.candidates.labels)))

    def _held_out(self, setting: Setting, table: Candidates) -> tuple[np.ndarray, np.ndarray]:
        """Training images without crops in the table, of every class alike, and their labels."""
        train, rng = setting.source.train, np.random.default_rng(self.seed)
        order = rng.permutation(np.setdiff1d(np.arange(len(train.labels)), table.ids))
        by_class = [order[train.labels[order] == c] for c in np.unique(train.labels)]
        chosen = np.sort(np.concatenate([ids[: max(1, 2000 // len(by_class))] for ids in by_class]))
        images = np.concatenate([batch for _, batch in train.batches(chosen, 64)])
        return images, train.labels[chosen]

    def _trials(self, setting: Setting, crops, test) -> tuple[np.ndarray, np.ndarray]:
        """The rows of each student's set, each crop in equally many sets, and its accuracy."""
        rng, teacher = np.random.default_rng(self.seed + 1), setting.teachers["early"]
        classes = len(setting.source.class_names)
        decks = -(-self.students // self.candidates)
        hands = [
            np.concatenate([rng.permutation(self.candidates) for _ in range(decks)])
            for _ in range(classes)
        ]
        sets = np.stack(hands, axis=1)[: self.students] + np.arange(classes) * self.candidates
        seeds = int(rng.integers(2**30)) + np.arange(self.students)
        outcomes = []
        for first in tqdm(range(0, self.students, 32), desc="trials"):
            now = slice(first, first + 32)
            student = StudentConfig(
                backbone=self.backbone,
                width=self.width,
                epochs=self.epochs,
                seeds=tuple(seeds[now].tolist()),
            ).resolve(setting.source)
            found = train_student(
                (crops[sets[now]], np.arange(classes, dtype=np.int32)),
                test,
                student,
                supervision=Supervision(classes, teacher),
            )
            outcomes.append(found.top1)
        return sets, np.concatenate(outcomes)


def parts(held: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """What each crop adds: Bayesian ridge regression of the outcomes on which crops a set held."""
    flat = {name: 1e-12 for name in ("alpha_1", "alpha_2", "lambda_1", "lambda_2")}
    return BayesianRidge(**flat).fit(held.astype(float), outcomes).coef_


def _kernel_losses(setting: Setting, table: Candidates, crops, sets, test) -> np.ndarray:
    """The loss of a kernel student of each set on the test images."""
    teacher = setting.teachers["early"]

    @jax.jit
    def features(images):
        seen = teacher.normalise(images)
        labels = jnp.zeros(len(seen), int)
        return StudentFeatures()(teacher.predict, teacher.variables, seen, labels)

    both = np.concatenate([crops, test[0]])
    parts = [features(both[i : i + 80]) for i in range(0, len(both), 80)]
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    seen, judged = np.split(found["untrained"], [len(crops)])
    taught = found["probabilities"][: len(crops)].astype(np.float64)
    kernel, to_judges = arc_cosine(seen, seen), arc_cosine(judged, seen)
    losses = []
    for rows in sets:
        with jax.enable_x64(True):
            of_rows = kernel[np.ix_(rows, rows)], to_judges[:, rows], taught[rows], test[1]
            student = untaught(*of_rows)
            for row in range(len(rows)):
                student = toggled(student, row)
            losses.append(float(loss(student)))
    return np.array(losses)


def _scores(setting: Setting, rows: Examined, crops) -> dict[str, np.ndarray]:
    """What is cheaply known of each crop."""
    height, width = setting.source.image_size
    scores = {"share of the image": rows.boxes[:, 2] * rows.boxes[:, 3] / (height * width)}
    for stage in ("early", "converged"):
        teacher = setting.teachers[stage]
        images = teacher.normalise(crops)
        seen = teacher.predict, teacher.variables, images, rows.candidates.labels
        scores[f"gradient norm, {stage}"] = np.asarray(utility.GradientNorm()(*seen))
        scores[f"loss, {stage}"] = np.asarray(utility.cross_entropy(*seen))
        logits = np.asarray(teacher.predict(teacher.variables, images))
        scores[f"spread of the logits, {stage}"] = logits.std(1)
    return scores


def _within(values: np.ndarray, table: Candidates) -> np.ndarray:
    """Ranks within each class, for only those can be told apart."""
    return np.concatenate(
        [stats.rankdata(values[table.labels == c]) for c in np.unique(table.labels)]
    )


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's; of what does not vary, 0."""
    if not (one.std() > 0 and other.std() > 0):
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _halves(held, outcomes, seed: int, times: int = 20) -> float:
    """Correlation of the accuracies of half of the students with what the other half predicts."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(times):
        order = rng.permutation(len(outcomes))
        one, other = order[::2], order[1::2]
        predicted = held[other] @ parts(held[one], outcomes[one])
        found.append(_correlation(predicted, outcomes[other]))
    return float(np.mean(found))


def render(results: Path) -> str:
    """The records of a folder as Markdown."""
    lines = [
        "What crops add to students trained on one crop a class, measured on narrow students. "
        "Top-1 in percent.",
    ]
    for path in sorted(results.glob("*.json")):
        r = json.loads(path.read_text())
        a = r["arguments"]
        note = f" ({a['note']})" if a["note"] else ""
        lines += [
            "",
            f"## {a['dataset']}{note}, {a['backbone']}",
            "",
            f"{a['students']} students of width {a['width']}, {a['epochs']} epochs each, "
            f"{a['candidates']} random-resized crops of each class: {r['accuracy_mean']:.1f} ± "
            f"{r['accuracy_std']:.1f}. What half of them tell of the crops correlates with the "
            f"accuracies of the other half at {r['half_predicts_half']:.2f}; what a kernel "
            f"student that is not trained makes of each set, with those of all at "
            f"{r['kernel_student_predicts']:.2f}. {r['reduced'] or ''}",
            "",
            "| score | rank correlation with the measured utility |",
            "| --- | --- |",
            *(f"| {name} | {value:.2f} |" for name, value in r["rank_correlation"].items()),
            "",
            f"| set, students of width {r['width']} | test top-1 |",
            "| --- | --- |",
            *(
                f"| {name} | {np.mean(top1):.1f} ± {np.std(top1, ddof=1):.1f} |"
                for name, top1 in r["confirmed_top1"].items()
            ),
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    tyro.cli(Measurement).run()
