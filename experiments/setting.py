"""What the cells of one dataset and backbone share, and how one of them is run."""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import jax
import numpy as np
from flax import nnx

from experiments.cells import Cell
from experiments.datasets import DATASETS, TEST_VIEW, validating, width_of
from experiments.tables import TABLES
from infoutil_jax import (
    DistillConfig,
    Inversion,
    ScoredPool,
    distill_pool,
    load_forgetting,
    models,
    provenance,
    score_pool,
    sre2l,
)
from infoutil_jax.app.accounts import own_class_share
from infoutil_jax.app.config import Stage
from infoutil_jax.app.pipeline import choose_teacher, train_teachers
from infoutil_jax.app.students import summarise, train_students, train_students_on_everything
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.sources import Source, open_source
from infoutil_jax.distillation import Examined, parts
from infoutil_jax.method.recipes import Recipe, forgetting
from infoutil_jax.training import evaluation
from infoutil_jax.training.config import StudentConfig, TeacherConfig
from infoutil_jax.training.student import StudentResult
from infoutil_jax.training.teacher import Teacher

if TYPE_CHECKING:
    from experiments.run import Experiment

STAGES = ("early", "converged")
KEPT = ("recipe", "teacher", "label_teacher", "training")  # of a set's manifest


@dataclass(frozen=True)
class Setting:
    """What the cells of one dataset and backbone share."""

    experiment: Experiment
    source: Source
    teacher_options: TeacherConfig
    teachers: dict[str, Teacher]
    trained: Path
    """Where they were trained."""
    workdir: Path
    reduced: str | None
    pools: dict[str, tuple[Examined, float]] = field(default_factory=dict)
    sets: dict[str, tuple[DistilledDataset, float]] = field(default_factory=dict)

    @classmethod
    def prepare(cls, experiment: Experiment) -> Setting:
        """Open the source and train, or load, its teachers."""
        dataset, small = DATASETS[experiment.dataset], experiment.small
        size = experiment.image_size or (small and dataset.small_size) or dataset.image_size
        per_class = experiment.max_per_class or (dataset.per_class if small else None)
        width = width_of(experiment, experiment.backbone)
        source = open_source(
            experiment.data or dataset.source,
            image_size=size,
            max_per_class=per_class,
            data_dir=experiment.data_dir,
        )
        if experiment.validation:
            source = validating(source)
        options = TeacherConfig(
            backbone=experiment.backbone,
            width=width,
            epochs=experiment.teacher_epochs or (dataset.epochs if small else 30),
            early_epochs=experiment.early_epochs,
            flip=dataset.flip,
        )
        workdir = experiment.workdir / experiment.folder
        trained = experiment.teacher or workdir / "teacher"
        teachers = train_teachers(source, trained, options, seed=experiment.seed)
        what = f"width {width}, at most {per_class} training images a class, {size} pixels"
        reduced = what if small else None
        return cls(experiment, source, options, teachers, trained, workdir, reduced)

    def teacher(self, stage: str, images_per_class: int) -> Teacher:
        """The teacher of a stage, an "untrained" one, or the converged one of a backbone."""
        if stage in ("auto", "early", "converged"):
            return choose_teacher(self.teachers, cast(Stage, stage), images_per_class)
        if stage not in self.teachers and stage == "untrained":
            like = self.teachers["converged"]
            chosen = self.teacher_options.resolve(self.source)
            module = models.create(
                self.experiment.backbone,
                num_classes=len(self.source.class_names),
                image_size=self.source.image_size,
                channels=self.source.channels,
                rngs=nnx.Rngs(self.experiment.seed),
                **chosen.options(),
            )
            predict, variables = models.as_predict(module)
            self.teachers[stage] = replace(
                like, predict=predict, variables=variables, stage=stage, accuracy=None
            )
        elif stage not in self.teachers:
            width = width_of(self.experiment, stage)
            options = replace(self.teacher_options, backbone=stage, width=width)
            path = self.workdir / f"teacher_{stage}"
            trained = train_teachers(self.source, path, options, seed=self.experiment.seed)
            self.teachers[stage] = trained["converged"]
        return self.teachers[stage]

    def run(self, cell: Cell) -> dict[str, Any]:
        """One cell's result."""
        started = time.perf_counter()
        row, student = cell.row, self.student(cell)
        steps: list[StudentResult] = []
        if row.name == "everything":
            steps.append(train_students_on_everything(self.source, student))
            about: dict[str, Any] = {"storage": {"images": self._train_bytes(), "labels": 0}}
        else:
            labeller = self.labeller(cell)
            distilled, about = self.distil(cell)
            for classes in self._seen(row.steps):
                steps.append(
                    train_students(distilled, self.source, labeller, student, classes=classes)
                )
        seconds = round(time.perf_counter() - started, 1)
        return self.result(cell, [summarise(step) for step in steps], {**about, "seconds": seconds})

    def labeller(self, cell: Cell) -> Teacher:
        """The teacher that labels a cell's set."""
        return self.teacher(cell.row.label_stage, cell.images_per_class)

    def result(
        self, cell: Cell, steps: list[dict[str, Any]], about: dict[str, Any]
    ) -> dict[str, Any]:
        """A cell's result, of the summaries of its students, with everything that made it."""
        row, budget = cell.row, cell.images_per_class
        student = self.student(cell).asked(about.get("distilled", {}).get("training", {}))
        dataset, backbone = self.experiment.dataset, self.experiment.backbone
        note = f" ({self.experiment.note})" if self.experiment.note else ""
        return {
            "dataset": DATASETS[dataset].title + note,
            "cell": asdict(cell),
            "paper_top1": TABLES["table1"].paper(dataset, backbone, row.name, budget),
            "student": steps[-1],
            **({"steps": steps} if row.steps > 1 else {}),
            "student_options": asdict(student.resolve(self.source)),
            "teacher_options": asdict(self.teacher_options.resolve(self.source)),
            "teacher_top1": {stage: self.teachers[stage].accuracy for stage in STAGES},
            "teacher_calibration": self.calibration,
            "teacher_digest": {stage: self.teachers[stage].digest() for stage in STAGES},
            **about,
            "arguments": _arguments(self.experiment),
            "source": {
                "name": self.source.name,
                "fingerprint": self.source.fingerprint(),
                "train_images": len(self.source.train),
                "test_images": len(self.source.test),
                "image_size": list(self.source.image_size),
            },
            "reduced": self.reduced,
            "peak_memory": _peak_memory(),
            "versions": provenance.versions(),
            "hardware": provenance.hardware(),
        }

    @cached_property
    def calibration(self) -> dict[str, dict[str, float]]:
        """How far each teacher's labels can be believed, on the test images.

        `ece`: expected calibration error, 0 to 1. `entropy`: mean of its probabilities, in nats;
        ten classes at random have 2.3.
        """
        images, labels = self.source.test.arrays()
        found = {}
        for stage in STAGES:
            teacher = self.teachers[stage]
            logits = evaluation.model_logits(teacher, images)
            log_p = np.asarray(jax.nn.log_softmax(logits), np.float64)
            found[stage] = {
                "ece": evaluation.expected_calibration_error(np.exp(log_p), labels),
                "entropy": float(-(np.exp(log_p) * log_p).sum(1).mean()),
            }
        return found

    def _seen(self, steps: int) -> list[range]:
        """The classes seen after each step."""
        count = len(self.source.class_names)
        return [range(round(count * step / steps)) for step in range(1, steps + 1)]

    def student(self, cell: Cell) -> StudentConfig:
        """What a cell's students are."""
        row, experiment = cell.row, self.experiment
        backbone = row.student or experiment.backbone
        few = self.reduced and (cell.images_per_class >= 50 or row.name == "everything")
        epochs = experiment.student_epochs
        if row.name == "everything":
            epochs = self.teacher_options.resolve(self.source).epochs or epochs
        return StudentConfig(
            backbone=backbone,
            norm=row.norm,  # type: ignore[arg-type]
            width=width_of(experiment, backbone),
            labels=row.labels,
            augment=row.augment,
            autoaugment=DATASETS[experiment.dataset].policy if row.autoaugment else None,
            dsa=row.dsa,
            partition=row.partition,
            temperature=row.temperature,
            epochs=epochs,
            flip=DATASETS[experiment.dataset].flip,
            test_view=TEST_VIEW,
            seeds=experiment.seeds or ((0,) if few else (0, 1, 2)),
        )

    def distil(self, cell: Cell) -> tuple[DistilledDataset, dict[str, Any]]:
        """A cell's set, and what its result says about it.

        `distill_seconds` go from teacher to files, the pool's scoring included. Students of every
        label policy learn from one set.
        """
        row, experiment, labeller = cell.row, self.experiment, self.labeller(cell)
        scoring = self.teacher(row.scorer, cell.images_per_class)
        workdir = self.workdir / "sets" / str(cell.key(experiment.set_seed))
        recipe = None if row.recipe.recipe == "sre2l" else self.recipe(cell)
        teachers = scoring.digest(), labeller.digest()
        about = provenance.describe(recipe), teachers, cell.images_per_class, experiment.set_seed
        same = json.dumps(about, sort_keys=True)
        if same not in self.sets:
            scored, seconds = self._scored(recipe, scoring) if recipe else (None, 0.0)
            started = time.perf_counter()
            if scored is None:
                distilled = sre2l(
                    self.source,
                    scoring,
                    images_per_class=cell.images_per_class,
                    workdir=workdir,
                    label_teacher=labeller,
                    settings=Inversion(iterations=experiment.inversion_iterations),
                    seed=experiment.set_seed,
                    overwrite=True,
                )
            else:
                distilled = distill_pool(
                    scored,
                    images_per_class=cell.images_per_class,
                    workdir=workdir,
                    label_teacher=labeller,
                )
            self.sets[same] = distilled, seconds + time.perf_counter() - started
        distilled, seconds = self.sets[same]
        seen = self._account(cell, distilled, labeller)
        return distilled, {**seen, "distill_seconds": round(seconds, 1)}

    def recipe(self, cell: Cell) -> Recipe:
        """What distils a cell's set; which teacher scores is the row's to say."""
        config, budget = cell.row.recipe, cell.images_per_class
        if config.recipe != "forgetting":
            recipe = config.build(self.source, budget)
            centred = recipe.centred if cell.row.centred is None else cell.row.centred
            return replace(recipe, scorer="teacher", centred=centred)
        tiles = replace(config, recipe="random").build(self.source, budget).tiles
        return forgetting(load_forgetting(self.trained), tiles=tiles)

    def _scored(self, recipe: Recipe, teacher: Teacher) -> tuple[ScoredPool, float]:
        """The scored pool, from memory or disk, and the seconds that scoring it took.

        Of recipe and code, only the selection is not part of its key.
        """
        experiment = self.experiment
        config = DistillConfig(pool=experiment.pool, overwrite=True, progress=False)
        about: list[Any] = [provenance.describe([recipe.per_image, recipe.tiles])]
        about += [teacher.digest(), self.source.fingerprint()]
        about += [experiment.pool, experiment.set_seed, scoring_code()]
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        path = self.workdir / "pools" / f"{key}.npz"
        if key not in self.pools and path.exists():
            self.pools[key] = parts.load(path), json.loads(path.with_suffix(".json").read_text())
        if key not in self.pools:
            started = time.perf_counter()
            scored = score_pool(
                self.source, teacher, recipe, seed=experiment.set_seed, config=config
            )
            self.pools[key] = scored.rows, time.perf_counter() - started
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".json").write_text(json.dumps(self.pools[key][1]))
            parts.save(path, scored.rows)  # others may run beside this one
        rows, seconds = self.pools[key]
        scored = ScoredPool(self.source, teacher, recipe, experiment.set_seed, config, rows)
        return scored, seconds

    def _account(
        self, cell: Cell, distilled: DistilledDataset, labeller: Teacher
    ) -> dict[str, Any]:
        """What was distilled, and the bytes that a user of the set must keep."""
        label_bytes = {
            "stored": distilled.soft_labels.nbytes,
            "online": sum(leaf.nbytes for leaf in jax.tree.leaves(labeller.variables)),
            "hard": 0,
        }
        images = sum(file.stat().st_size for file in (distilled.path / "images").rglob("*.png"))
        return {
            "labels_agree": own_class_share(distilled) / 100,
            "storage": {"images": images, "labels": label_bytes[cell.row.labels]},
            "distilled": {k: distilled.manifest[k] for k in KEPT},
        }

    def _train_bytes(self) -> int:
        return len(self.source.train) * int(np.prod(self.source.train.shape))


@cache
def scoring_code() -> str:
    """SHA-256 of the sources that scoring may run: what other code scored is another pool."""
    package = Path(parts.__file__).parents[1]
    rooms = ("shapley", "gradients", "image", "method")
    files = [file for room in rooms for file in sorted((package / room).rglob("*.py"))]
    files = [file for file in files if file.parent.name != "selection"]
    files += [package / "blocks.py"]
    files += [package / "distillation" / f"{name}.py" for name in ("examine", "pool")]
    sources = b"".join(file.read_bytes() for file in files)
    return hashlib.sha256(sources).hexdigest()


def _arguments(experiment: Experiment) -> dict[str, Any]:
    """What was asked for; where data and results lie on a machine is nobody's business."""
    arguments = asdict(experiment)
    for name in ("data", "data_dir", "teacher", "workdir", "results"):
        del arguments[name]
    return arguments


def _peak_memory() -> dict[str, int | None]:
    """Bytes at most in use by this process so far, on the host and on the device."""
    unit = 1 if sys.platform == "darwin" else 1024
    stats = jax.devices()[0].memory_stats() or {}
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"host": host, "device": stats.get("peak_bytes_in_use")}
