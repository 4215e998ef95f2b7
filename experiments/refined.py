"""Refined sets beside selected ones: how much is gained, how soon, on which students.

    python -m experiments.refined --data folder:PATH --refiner frepo --budget 1

distils a set of a dataset at reduced size by a recipe, refines it, trains students without a
teacher, and adds a line to `experiments/results/refined/<setting>.jsonl`; what has a line is
not run again. `--validation` puts a fifth of the training images, which neither teachers nor sets
see, in the place of the test images: refiners are chosen on them. `python -m experiments.refined
--tables` writes `table.md` from all lines.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from experiments.cells import ROWS, Cell
from experiments.datasets import DATASETS
from experiments.refined_table import write_tables
from experiments.run import Experiment
from experiments.setting import Setting
from infoutil_jax import distill_pool, provenance, score_pool
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.distillation.config import DistillConfig
from infoutil_jax.distillation.examine import REFINE, stream
from infoutil_jax.distillation.refining import refined
from infoutil_jax.errors import InputError
from infoutil_jax.method.contracts import Pool
from infoutil_jax.method.recipes import RECIPES
from infoutil_jax.refine import REFINERS, NeuralFeatureRegression, Refiner
from infoutil_jax.refine.contracts import NormalisedBy
from infoutil_jax.training.config import BackboneConfig, StudentConfig
from infoutil_jax.training.student import train_student
from infoutil_jax.training.supervision import Supervision

RESULTS = Path(__file__).parent / "results" / "refined"
OF_FREPO = ("greatest_age", "error", "normalised_by")
"""Arguments of its objective."""
STUDENTS: dict[str, dict[str, Any]] = {
    "convnet3": {},
    "convnet3, no cutmix": {"cutmix": False},
    "convnet3, dsa": {"cutmix": False, "dsa": True},
    "convnet3, instance norm": {"norm": "instance"},
    "convnet3, instance norm, no cutmix": {"norm": "instance", "cutmix": False},
    "convnet3, instance norm, dsa": {"norm": "instance", "cutmix": False, "dsa": True},
    "convnet4": {"backbone": "convnet4"},
    "convnet4, no cutmix": {"backbone": "convnet4", "cutmix": False},
    "resnet18": {"backbone": "resnet18", "width": 16},
    "resnet18, no cutmix": {"backbone": "resnet18", "width": 16, "cutmix": False},
    "vgg11_bn": {"backbone": "vgg11_bn", "width": None},
    "vgg11_bn, no cutmix": {"backbone": "vgg11_bn", "width": None, "cutmix": False},
}


@dataclass(frozen=True)
class Refinement:
    """One set, refined by one refiner."""

    dataset: str = "cifar10"
    """A name of experiments.datasets.DATASETS."""
    data: str | None = None
    """folder:PATH or tfds:NAME; by default where the dataset is published."""
    note: str | None = None
    """What sets this copy of the dataset apart; by default "JPEG" for CIFAR-10."""
    refiner: str = "frepo"
    """A name of infoutil_jax.refine.REFINERS, or "none"."""
    start: str = "infoutil"
    """The recipe whose set is refined."""
    budget: int = 1
    """Images a class."""
    tiles: int = 1
    """Of an image; of several each is an image of its own, enlarged, to refiner and students."""
    steps: int | None = None
    """By default the refiner's."""
    labels: str | None = None
    """What the images are taken to be; by default their classes. Of a set that is not refined it
    may be "stored": the teacher's labels, as the recipe stores them."""
    also_hard: bool = True
    """Of a set with learnt labels, other students learn its classes."""
    greatest_age: int | None = None
    """Passes over the set for which FRePo keeps a network; by default the refiner's."""
    error: Literal["scaled", "squared"] | None = None
    """FRePo's; by default the refiner's."""
    normalised_by: NormalisedBy | None = None
    """Whose statistics FRePo's networks normalise by; by default the refiner's choice."""
    mirrored: bool | None = None
    """Whether half of the real images are mirrored; by default the refiner's choice."""
    norm: Literal["batch", "instance", "none"] | None = None
    """Of the refiner's networks; by default batch."""
    total_variation: float = 0.0
    """Weight of the regulariser."""
    distance: float = 0.0
    """Weight of the regulariser."""
    students: tuple[str, ...] = ("convnet3",)
    """Names of STUDENTS."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One student each."""
    set_seed: int = 0
    """Of the set and of its refinement."""
    validation: bool = False
    """A fifth of the training images in the place of the test images."""
    tables: bool = False
    """Only writes the tables."""
    teacher: Path | None = None
    """Where the setting's teachers lie; by default they are trained in the working directory."""
    workdir: Path = Path("runs/experiments")
    """Teachers, states of refinement."""
    results: Path = RESULTS
    """Where the lines go."""

    def __post_init__(self) -> None:
        needed = {"learnt": self.refiner != "none", "stored": self.refiner == "none"}
        if not needed.get(self.labels or "", True):
            raise InputError(
                f"labels {self.labels!r} and refiner {self.refiner!r} do not go together: labels "
                'are "learnt" by a refiner, and "stored" with refiner "none"'
            )

    @property
    def name(self) -> str:
        """Names the line."""
        parts = [self.start, self.refiner, str(self.budget), f"set{self.set_seed}"]
        for what in ("steps", *OF_FREPO, "mirrored", "labels", "norm"):
            if getattr(self, what) is not None:
                parts.append(f"{what} {getattr(self, what)}")
        if self.tiles > 1:
            parts.append(f"tiles {self.tiles}")
        for what in ("total_variation", "distance"):
            if getattr(self, what):
                parts.append(f"{what} {getattr(self, what):g}")
        return ", ".join([*parts, "/".join(self.students)])

    def run(self) -> None:
        """Adds the line, if it is not there."""
        self.results.mkdir(parents=True, exist_ok=True)
        if not self.tables:
            where = "validation" if self.validation else "test"
            file = self.results / f"{self.dataset}_convnet3_reduced_{where}.jsonl"
            if self.name in [json.loads(line)["name"] for line in _lines(file)]:
                print(f"{self.name}: there already")
            else:
                line = json.dumps(self._measured(), sort_keys=True)
                # Read again: others may have run meanwhile.
                file.write_text("\n".join(sorted([*_lines(file), line])) + "\n")
        write_tables(self.results)

    @property
    def _note(self) -> str | None:
        return "JPEG" if self.note is None and self.dataset == "cifar10" else self.note

    def _measured(self) -> dict[str, Any]:
        experiment = Experiment(
            "all",
            dataset=self.dataset,
            backbone="convnet3",
            data=self.data,
            note=self._note,
            reduced=True,
            set_seed=self.set_seed,
            validation=self.validation,
            teacher=self.teacher,
            workdir=self.workdir,
        )
        setting = Setting.prepare(experiment)
        selected, labels = self._selected(setting)
        record: dict[str, Any] = {
            "name": self.name,
            "arguments": {
                k: v
                for k, v in asdict(self).items()
                if k not in ("data", "teacher", "workdir", "results", "tables")
            },
            "dataset": DATASETS[self.dataset].title + (f" ({self._note})" if self._note else ""),
            "reduced": setting.reduced,
            "teacher_top1": {k: one.accuracy for k, one in setting.teachers.items()},
            "source": {
                "fingerprint": setting.source.fingerprint(),
                "train_images": len(setting.source.train),
                "test_images": len(setting.source.test),
            },
        }
        images, soft = selected.images, selected.soft_labels
        if self.refiner != "none":
            refiner = self._refiner(setting.teacher_options.width)
            teacher = setting.teachers["early" if self.budget <= 10 else "converged"]
            student = setting.student(Cell(ROWS["random-hard"], self.budget))
            flip = student.resolve(setting.source).flip
            started = time.perf_counter()
            images, soft = refined(
                refiner,
                stream(self.set_seed, REFINE),
                teacher,
                (images, soft),
                Pool(*setting.source.train.labelled(), flip=bool(flip)),
                folder=self.workdir / "refining",
                progress=True,
            )
            change = images.astype(float) - selected.images
            tiles = self.tiles if refiner.partition else 1
            record["refiner"] = provenance.describe(refiner.sized(len(images) * tiles))
            record["seconds"] = round(time.perf_counter() - started, 1)
            record["moved_rms"] = round(float(np.sqrt((change**2).mean())), 2)
        record["students"] = self._trained(setting, images, soft, labels)
        record |= {"versions": provenance.versions(), "hardware": provenance.hardware()}
        print(self.name, {k: one["top1"] for k, one in record["students"].items()}, flush=True)
        return record

    def _refiner(self, width: int | None = None) -> Refiner:
        given: dict[str, Any] = {"total_variation": self.total_variation, "distance": self.distance}
        if self.steps is not None:
            given |= {"steps": self.steps, "steps_per_image": None}
        if self.mirrored is not None:
            given["mirrored"] = self.mirrored
        given |= {
            "labels": self.labels or "hard",
            "network": BackboneConfig(norm=self.norm, width=width),
            "partition": self.tiles > 1,
        }
        refiner = replace(REFINERS[self.refiner], **given)
        about = {k: getattr(self, k) for k in OF_FREPO if getattr(self, k) is not None}
        if not about:
            return refiner
        if not isinstance(refiner.objective, NeuralFeatureRegression):
            raise InputError(f"{', '.join(about)}: of frepo alone, not of {self.refiner}")
        return replace(refiner, objective=replace(refiner.objective, **about))

    def _selected(self, setting: Setting) -> tuple[DistilledDataset, np.ndarray]:
        """The set that is refined, and its labels."""
        folder = setting.workdir / "refined_from" / f"{self.start}-{self.budget}-{self.set_seed}"
        folder = folder.with_name(folder.name + (f"-{self.tiles}" if self.tiles > 1 else ""))
        if folder.exists():
            there = DistilledDataset.load(folder)
            return there, there.labels
        recipe = RECIPES[self.start](tiles=self.tiles)
        teacher = setting.teachers["early" if self.budget <= 10 else "converged"]
        scorer = teacher if recipe.scorer == "labeller" else setting.teachers["converged"]
        config = DistillConfig(overwrite=True, progress=False)
        scored = score_pool(setting.source, scorer, recipe, seed=self.set_seed, config=config)
        chosen = distill_pool(
            scored,
            images_per_class=self.budget,
            workdir=folder,
            label_teacher=teacher,
        )
        return chosen, chosen.labels

    def _trained(
        self, setting: Setting, images: np.ndarray, soft: np.ndarray, labels: np.ndarray
    ) -> dict[str, Any]:
        """Students of each kind: by hard labels, by learnt or stored ones."""
        found: dict[str, Any] = {}
        teacher = setting.teachers["early"]
        learnt = self.labels == "learnt"
        kinds = ["stored"] if learnt or self.labels == "stored" else []
        if not kinds or (learnt and self.also_hard):
            kinds = ["hard", *kinds]
        for name in self.students:
            for policy in kinds:
                options = asdict(setting.student(Cell(ROWS["random-hard"], self.budget)))
                options |= {"labels": policy, "seeds": self.seeds, **STUDENTS[name]}
                options["partition"] = self.tiles > 1
                read = learnt and policy == "stored"
                options["temperature"] = self._refiner().temperature if read else 20.0
                started = time.perf_counter()
                result = train_student(
                    (images, labels),
                    setting.source.test.arrays(),
                    StudentConfig(**options).resolve(setting.source),
                    supervision=Supervision(
                        len(setting.source.class_names),
                        soft_labels=soft,
                        tiles=self.tiles,
                        mean=teacher.mean,
                        std=teacher.std,
                    ),
                )
                key = name if policy == "hard" else f"{name}, {self.labels} labels"
                found[key] = {
                    "top1": [round(float(top1), 2) for top1 in result.top1],
                    "seconds": round(time.perf_counter() - started, 1),
                    "test_view": result.test_view,
                }
        return found


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def main() -> None:
    """Entry point."""
    tyro.cli(Refinement).run()


if __name__ == "__main__":
    main()
