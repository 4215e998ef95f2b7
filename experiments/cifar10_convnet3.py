"""CIFAR-10 with ConvNet-3: the paper's Table 1 column, and the questions it leaves open.

    python -m experiments.cifar10_convnet3 --data folder:PATH/cifar10

trains the teacher, distils by each method at each budget, trains the students, and writes one JSON
a cell to `experiments/results/cifar10_convnet3/`, with `table.md` beside them. A cell that is
there already is not run again. Without an accelerator the width is 64, the training set 1,000
images a class, and there is one seed at 50 images a class and for the open questions at 10; every
file says so.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import jax
import tyro

from infoutil_jax import provenance
from infoutil_jax.data.sources import Source, open_source
from infoutil_jax.distill import distill, score_pool
from infoutil_jax.method.recipes import Keep
from infoutil_jax.method.selection import Candidates
from infoutil_jax.pipeline import (
    LabelPolicy,
    RecipeOptions,
    Stage,
    StudentOptions,
    TeacherOptions,
    pick,
    scores,
    study,
    teach,
)

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "cifar10_convnet3"
PAPER = json.loads((HERE / "paper_results.json").read_text())["table1_main"]["CIFAR-10"]
PAPER_ROWS = {"infoutil": "ConvNet/InfoUtil", "rded": "ConvNet/RDED"}
KEEPS: tuple[Keep, ...] = ("lowest", "highest", "middle")
IN_MAIN_TABLE = ("infoutil", "rded", "random")


@dataclass(frozen=True)
class Cell:
    """One row at one budget: a recipe, the teachers and the labels it is given."""

    row: str
    images_per_class: int
    recipe: RecipeOptions
    scoring_stage: Stage = "converged"
    label_stage: Stage = "auto"
    labels: LabelPolicy = "online"

    @property
    def file(self) -> str:
        """Name of its result."""
        return f"{self.row}-ipc{self.images_per_class}.json"


def cells(which: Literal["main", "open", "all"], budgets: tuple[int, ...]) -> Iterator[Cell]:
    """The main table, then what the paper leaves open, most telling first."""
    if which in ("main", "all"):
        for budget in budgets:
            for name in IN_MAIN_TABLE:
                yield Cell(name, budget, RecipeOptions(name))
    if which in ("open", "all"):
        for keep in KEEPS:
            for side in (1.0, 0.75, 0.5):
                if (side, keep) != (0.5, "highest"):  # the main table has it
                    for budget in (b for b in (10, 1) if b in budgets):
                        yield Cell(f"side{side}-{keep}", budget, _crop(side, keep))
        for keep in KEEPS[:2]:
            for side in (1.0, 0.5):
                name = f"side{side}-{keep}-early"
                yield Cell(name, 10, _crop(side, keep), scoring_stage="early")
        for name in IN_MAIN_TABLE:
            yield Cell(f"{name}-converged-labels", 10, RecipeOptions(name), label_stage="converged")
            yield Cell(f"{name}-stored", 10, RecipeOptions(name), labels="stored")
            yield Cell(f"{name}-hard", 10, RecipeOptions(name), labels="hard")


def _crop(side: float, keep: Keep) -> RecipeOptions:
    options = RecipeOptions("infoutil", side=side, keep=keep)
    # The whole image is one crop, wherever its patches matter: no need to ask.
    return replace(options, num_crops=1, budget=2) if side == 1.0 else options


@dataclass(frozen=True)
class Experiment:
    """CIFAR-10, ConvNet-3: teacher, distilled sets, students, one JSON a cell."""

    data: str
    """folder:PATH of the unpacked CIFAR-10."""
    which: Literal["main", "open", "all"] = "main"
    """The main table, the open questions, or both."""
    budgets: tuple[int, ...] = (1, 10, 50)
    """Images a class."""
    width: int | None = None
    """By default 128 with an accelerator, 64 without."""
    max_per_class: int | None = None
    """Training images a class; by default all with an accelerator, 1,000 without."""
    epochs: int | None = None
    """Of the converged teacher; by default 30, or 40 on the reduced set."""
    workdir: Path = Path("runs/cifar10_convnet3")
    """Teacher and distilled sets."""
    results: Path = RESULTS
    """Where the JSON files go."""
    seed: int = 0
    """Of teacher and distillation."""

    def run(self) -> None:
        """Run what has no result yet, then write the table."""
        small = jax.default_backend() == "cpu"
        per_class = self.max_per_class or (1000 if small else None)
        width = self.width or (64 if small else 128)
        source = open_source(self.data, max_per_class=per_class)
        options = TeacherOptions(width=width, epochs=self.epochs or (40 if small else 30))
        teachers = teach(source, self.workdir / "teacher", options, seed=self.seed)
        print({stage: teacher.accuracy for stage, teacher in teachers.items()}, flush=True)
        self.results.mkdir(parents=True, exist_ok=True)
        pools: dict[tuple, Candidates] = {}
        for cell in cells(self.which, self.budgets):
            path = self.results / cell.file
            if path.exists():
                continue
            costly = cell.images_per_class >= 50 or (
                cell.images_per_class >= 10 and cell.row not in IN_MAIN_TABLE
            )
            seeds = (0,) if small and costly else (0, 1, 2)
            student = StudentOptions(width=width, labels=cell.labels, seeds=seeds)
            result = self._run_cell(source, teachers, cell, student, pools)
            result["teacher_options"] = asdict(options.resolve(source))
            result["reduced"] = (
                f"no accelerator: width {width}, {per_class} training images a class, "
                f"{len(seeds)} seed(s)"
                if small
                else None
            )
            path.write_text(json.dumps(result, indent=1) + "\n")
            print(f"{cell.file:40s} {result['student']['top1_mean']:.1f}", flush=True)
        write_tables(self.results)

    def _run_cell(self, source: Source, teachers, cell: Cell, student: StudentOptions, pools):
        started = time.perf_counter()
        recipe = cell.recipe.build(source)
        scoring = pick(teachers, cell.scoring_stage, cell.images_per_class)
        labeller = pick(teachers, cell.label_stage, cell.images_per_class)
        shared = (replace(cell.recipe, keep=None), scoring.stage)  # what the scores depend on
        if shared not in pools:
            pools[shared] = score_pool(source, scoring, recipe, seed=self.seed, progress=False)
        distilled = distill(
            source,
            scoring,
            recipe,
            images_per_class=cell.images_per_class,
            workdir=self.workdir / cell.file.removesuffix(".json"),
            label_teacher=labeller,
            candidates=pools[shared],
            seed=self.seed,
            overwrite=True,
            progress=False,
        )
        result = study(distilled, source, labeller, student, progress=False)
        paper = PAPER[str(cell.images_per_class)].get(PAPER_ROWS.get(cell.row, ""))
        return {
            "dataset": "CIFAR-10 (JPEG)",
            "cell": asdict(cell),
            "paper_top1": paper,
            "labels_agree": float((distilled.labels == distilled.soft_labels.argmax(-1).T).mean()),
            "student": scores(result),
            "student_options": asdict(student.resolve(source)),
            "teacher_top1": {stage: t.accuracy for stage, t in teachers.items()},
            "seed": self.seed,
            "seconds": round(time.perf_counter() - started, 1),
            **{k: distilled.manifest[k] for k in ("recipe", "pool", "source", "teacher")},
            "label_teacher": distilled.manifest["label_teacher"],
            "versions": provenance.versions(),
            "hardware": provenance.hardware(),
        }


def table(results: Path, only: tuple[str, ...] | None = None) -> str:
    """Markdown of the results in the folder, the paper's figure in brackets beside ours.

    Args:
        results: folder of JSON files.
        only: rows to show; None for all.
    """
    found = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    found = [result for result in found if only is None or result["cell"]["row"] in only]
    budgets = sorted({r["cell"]["images_per_class"] for r in found})
    rows: dict[str, dict[int, str]] = {}
    for result in found:
        student, paper = result["student"], result["paper_top1"]
        text = f"{student['top1_mean']:.1f}"
        if student["top1_std"] is not None:
            text += f" ± {student['top1_std']:.1f}"
        if paper is not None:
            text += f" [{paper}]"
        rows.setdefault(result["cell"]["row"], {})[result["cell"]["images_per_class"]] = text
    first = [name for name in IN_MAIN_TABLE if name in rows]
    order = first + sorted(set(rows) - set(first))
    lines = ["| row | " + " | ".join(f"{b} / class" for b in budgets) + " |"]
    lines.append("|" + " --- |" * (len(budgets) + 1))
    for row in order:
        lines.append(
            f"| {row} | " + " | ".join(rows[row].get(b, "not run") for b in budgets) + " |"
        )
    accuracies = found[0]["teacher_top1"] if found else {}
    reduced = found[0]["reduced"] if found else None
    head = (
        "CIFAR-10 (JPEG), ConvNet-3 teacher and student; top-1 in percent, mean ± standard "
        "deviation over seeds; the paper's figure in brackets. Teacher: "
        + ", ".join(f"{stage} {value:.1f}" for stage, value in accuracies.items())
        + ". "
        + (
            f"Reduced ({reduced.rsplit(',', 1)[0]}; one seed where no deviation stands)."
            if reduced
            else ""
        )
    )
    return "\n".join([head, "", *lines]) + "\n"


def write_tables(results: Path) -> None:
    """Write `table.md` beside the results and, for the committed ones, the README's table."""
    (results / "table.md").write_text(table(results))
    if results == RESULTS:
        readme = HERE.parent / "README.md"
        before, start, rest = readme.read_text().partition("<!-- results -->\n")
        _, end, after = rest.partition("<!-- /results -->")
        readme.write_text(before + start + table(results, IN_MAIN_TABLE) + end + after)


if __name__ == "__main__":
    tyro.cli(Experiment).run()
