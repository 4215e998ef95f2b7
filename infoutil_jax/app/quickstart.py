"""The whole method on scikit-learn's digits: 1,797 real images, minutes on two cores."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

from infoutil_jax import files, parallel, provenance
from infoutil_jax.app import compilations
from infoutil_jax.app.accounts import accuracy_table
from infoutil_jax.app.figures import overview
from infoutil_jax.app.pipeline import choose_teacher, train_teachers
from infoutil_jax.app.students import summarise, train_students, train_students_on_everything
from infoutil_jax.data.sources import open_source
from infoutil_jax.distillation import DistillConfig, distill_pool, score_pool, scorer_of
from infoutil_jax.method import recipes
from infoutil_jax.progress import Bar
from infoutil_jax.training.config import StudentConfig, TeacherConfig
from infoutil_jax.training.student import StudentResult

WIDTH = 32
HARD = ", hard labels"
RECIPES = recipes.infoutil, recipes.infoutil_paper, recipes.rded, recipes.random


class _Background:
    """Students that train beside what else is done: compiling and scoring leave cores idle."""

    def __enter__(self) -> _Background:
        self.threads = ThreadPoolExecutor(parallel.programs_at_once())
        self.all: list[Future[StudentResult]] = []
        return self

    def __exit__(self, *_: object) -> None:
        self.threads.shutdown(cancel_futures=True)

    def of(self, train: Callable[..., StudentResult], *arguments: Any) -> Future[StudentResult]:
        """What `train` will have made of its arguments."""
        self.all.append(self.threads.submit(train, *arguments, progress=False))
        return self.all[-1]

    def wait(self, progress: bool) -> None:
        """Until all are done, or one has failed."""
        with Bar("students of all sets", len(self.all), unit="table cell", shown=progress) as bar:
            for one in as_completed(self.all):
                one.result()
                bar.update()


def quickstart(
    workdir: str | Path = "runs/quickstart",
    *,
    budgets: Sequence[int] = (1, 10),
    seeds: Sequence[int] = (0, 1, 2),
    student_epochs: int = StudentConfig.epochs,
    teacher_epochs: int = 30,
    pool: int | None = None,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> dict[str, dict[int, list[float]]]:
    """Distils the digits by InfoUtil, its printed rule, RDED and chance, and trains on the sets.

    Students are taught by the teacher, and by the classes alone: hard labels.

    Args:
        workdir: teacher, distilled sets, `overview.png` and `summary.json` go here.
        budgets: images a class.
        seeds: students of each row.
        student_epochs: passes over a distilled set.
        teacher_epochs: passes over everything, by the teacher and by the last row's students.
        pool: training images of a class that compete; None for all.
        progress: show progress lines.
        say: where the text goes.

    Returns:
        Method -> images per class -> top-1 of each seed, in percent.
    """
    started, before = time.perf_counter(), compilations.so_far()
    workdir = Path(workdir)
    source = open_source("digits")
    student = StudentConfig(width=WIDTH, epochs=student_epochs, seeds=tuple(seeds))
    kept = {}
    config = DistillConfig(pool=pool, overwrite=True, progress=progress)
    with _Background() as students:
        full = replace(student, epochs=teacher_epochs)
        everything = students.of(train_students_on_everything, source, full)
        teachers = train_teachers(
            source,
            workdir / "teacher",
            TeacherConfig(width=WIDTH, epochs=teacher_epochs, early_epochs=min(10, teacher_epochs)),
            progress=progress,
        )
        say(
            f"digits: {len(source.train)} training and {len(source.test)} test images of 8x8 "
            f"pixels; teacher {teachers['converged'].accuracy:.1f}% top-1"
        )
        results: dict[str, dict[int, Future[StudentResult]]] = {}
        for recipe in (make() for make in RECIPES):
            name, scored = recipe.name, {}
            for budget in budgets:
                labeller = choose_teacher(teachers, "auto", budget)
                teacher = scorer_of(recipe, teachers["converged"], labeller)
                if teacher.stage not in scored:
                    scored[teacher.stage] = score_pool(source, teacher, recipe, config=config)
                kept[name, budget] = distilled = distill_pool(
                    scored[teacher.stage],
                    images_per_class=budget,
                    workdir=workdir / f"{name}-{budget}",
                    label_teacher=labeller,
                )
                lessons = {name: student, f"{name}{HARD}": replace(student, labels="hard")}
                for row, lesson in lessons.items():
                    result = students.of(train_students, distilled, source, labeller, lesson)
                    results.setdefault(row, {})[budget] = result
        students.wait(progress)
    results = dict(sorted(results.items(), key=lambda row: row[0].endswith(HARD)))
    results[f"all {len(source.train)} images"] = dict.fromkeys(budgets, everything)
    rows = {
        row: {budget: summarise(one.result())["top1"] for budget, one in of.items()}
        for row, of in results.items()
    }
    picture = workdir / "overview.png"
    overview(kept["infoutil", max(budgets)], source, picture)
    programs = compilations.so_far().since(before)
    summary = {
        "top1": rows,
        "seeds": list(seeds),
        "programs": programs._asdict(),
        "versions": provenance.versions(),
        "hardware": provenance.hardware(),
        "seconds": round(time.perf_counter() - started, 1),
    }
    files.write(workdir / "summary.json", json.dumps(summary, indent=1) + "\n")
    say(accuracy_table(rows) + "\nsoft labels unless it says hard; mean ± standard deviation")
    say(f"what was kept and why: {picture} (in {summary['seconds']:.0f} s; {programs})")
    say(f"next: infoutil report {workdir} for a page of all sets, infoutil run folder:PATH")
    return rows
