"""The command line: `infoutil VERB ...`, one dataclass a verb.

Exit codes: 0 done, 2 something of yours to fix (told in one sentence), 130 interrupted.
"""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import tyro

from infoutil_jax import parallel
from infoutil_jax.app.budget import budget_of
from infoutil_jax.app.config import RareClasses, RecipeConfig, RunConfig, Stage, Stages
from infoutil_jax.app.flags import Flat, Group, say_defaults, with_flags
from infoutil_jax.app.options import DeviceCount, Machines, SourceOptions
from infoutil_jax.app.pipeline import (
    choose_teacher,
    choose_teachers,
    run,
    summarise,
    train_students,
    train_teachers,
)
from infoutil_jax.app.quickstart import quickstart
from infoutil_jax.app.report import account_of, accuracy_table, overview
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.sources import Source
from infoutil_jax.distillation import DistillConfig, distill
from infoutil_jax.errors import InputError
from infoutil_jax.training.config import StudentConfig, TeacherConfig
from infoutil_jax.training.teacher import Teacher, load_teachers

COMPILED = Path.home() / ".cache" / "infoutil_jax"  # what the next command need not compile again


@dataclass(frozen=True)
class Quickstart:
    """The whole method on scikit-learn's digits, in about two minutes on two cores."""

    workdir: Path = Path("runs/quickstart")
    """Where the teacher, the sets and the picture go."""

    def __call__(self) -> None:
        """Runs it."""
        quickstart(self.workdir)


@dataclass(frozen=True)
class Run:
    """Teacher, distilled set, student and a summary, from a source alone."""

    data: Annotated[SourceOptions, Group]
    workdir: Path | None = None
    """By default runs/ and the source's name, with six digits of its path's hash for a folder."""
    overwrite: bool = False
    """Replace a set that is there and was made by other arguments."""
    devices: DeviceCount = "all"
    """Of this machine, that share the work."""
    config: Annotated[RunConfig, Flat] = RunConfig()

    def __call__(self) -> None:
        """Runs it."""
        source = self.data.open()
        workdir = self.workdir or default_workdir(source)
        devices = parallel.devices_of(self.devices)
        summary = run(source, workdir, self.config, devices=devices, overwrite=self.overwrite)
        budget = summary["images_per_class"]
        rows = {f"student, {self.config.recipe.recipe}": {budget: summary["student"]["top1"]}}
        print(accuracy_table(rows))
        print(f"distilled set, picture and summary: {workdir}")


@dataclass(frozen=True)
class TrainTeacher:
    """Train a teacher and keep its early and its converged checkpoint; resumes after a stop."""

    data: Annotated[SourceOptions, Group]
    workdir: Path
    """Where the checkpoints go."""
    config: Annotated[TeacherConfig, Flat] = TeacherConfig()
    seed: int = 0
    """Of weights and batches."""
    devices: DeviceCount = "all"
    """Of this machine, that share each batch."""

    def __call__(self) -> None:
        """Runs it."""
        devices = parallel.devices_of(self.devices)
        source = self.data.open()
        teachers = train_teachers(
            source, self.workdir, self.config, seed=self.seed, devices=devices
        )
        print(account_of(teachers, teachers["converged"], source)[0])


@dataclass(frozen=True)
class Distill:
    """Distil a source with a trained teacher."""

    data: Annotated[SourceOptions, Group]
    teacher: Path
    """Folder of `infoutil teacher`."""
    workdir: Path
    """Where the distilled set goes: a new or empty folder, or with overwrite a set's."""
    images_per_class: int = 10
    """The budget."""
    rare_classes: RareClasses = "refuse"
    """Where a class has too few images for it: refuse; cap the budget for all classes; or fill the
    class with other crops of the images that it has."""
    recipe: Annotated[RecipeConfig, Group] = RecipeConfig()
    stages: Annotated[Stages, Group] = Stages()
    machines: Annotated[Machines, Group] = Machines()
    pool: int | None = DistillConfig.pool
    """Training images of a class that compete (paper: 300); None for all."""
    batch_size: int = DistillConfig.batch_size
    """Images in flight at once on each device."""
    overwrite: bool = False
    """Replace a distilled set that is already there."""
    seed: int = 0
    """Of every random draw."""

    def __call__(self) -> None:
        """Runs it."""
        devices = self.machines.join()
        teachers = load_teachers(self.teacher)
        source = self.data.open(shape_of(teachers["converged"]))
        recipe = self.recipe.build(source)
        source, budget, text = budget_of(
            source, recipe.tiles, self.images_per_class, self.rare_classes
        )
        recipe, teacher, labeller = choose_teachers(teachers, self.stages, recipe, budget)
        print(text)
        print(account_of(teachers, labeller, source)[0])
        distilled = distill(
            source,
            teacher,
            recipe,
            images_per_class=budget,
            workdir=self.workdir,
            label_teacher=labeller,
            seed=self.seed,
            config=DistillConfig(self.pool, self.batch_size, devices, self.overwrite),
        )
        if jax.process_index():
            return
        picture = self.workdir.with_name(self.workdir.name + ".png")
        overview(distilled, source, picture)
        print(f"{distilled}\nwhat was kept and why: {picture}")


@dataclass(frozen=True)
class TrainStudent:
    """Train students from scratch on a distilled set and test them on real images."""

    distilled: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DISTILLED")]
    """Folder of `infoutil distill`."""
    data: Annotated[SourceOptions, Group]
    teacher: Path | None = None
    """Folder of `infoutil teacher`; needed where labels are online."""
    label_stage: Stage = "auto"
    """The teacher that labels the views."""
    config: Annotated[StudentConfig, Flat] = StudentConfig()
    devices: DeviceCount = "all"
    """Of this machine, that share the seeds."""

    def __call__(self) -> None:
        """Runs it."""
        distilled = DistilledDataset.load(self.distilled)
        if self.teacher is None and self.config.labels == "online":
            raise InputError("online labels need --teacher; or choose --labels stored or hard.")
        budget = distilled.manifest["images_per_class"]
        teacher = None
        if self.teacher:
            teachers, stage = load_teachers(self.teacher), self.label_stage
            if stage == "auto":  # the one that labelled the set, if it is there
                labelled = distilled.manifest["label_teacher"]["stage"]
                stage = labelled if labelled in teachers else stage
            teacher = choose_teacher(teachers, stage, budget)
        devices = parallel.devices_of(self.devices)
        source = self.data.open(tuple(distilled.manifest["image_shape"]))
        result = train_students(distilled, source, teacher, self.config, devices=devices)
        print(accuracy_table({str(self.distilled): {budget: summarise(result)["top1"]}}))


@dataclass(frozen=True)
class Verify:
    """Check a distilled set on disk against its manifest, file by file."""

    distilled: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DISTILLED")]
    """Folder of `infoutil distill`."""

    def __call__(self) -> None:
        """Runs it."""
        distilled = DistilledDataset.load(self.distilled)
        distilled.verify()
        print(f"{distilled}: complete, every checksum holds")


Command = (
    Annotated[Quickstart, tyro.conf.subcommand("quickstart")]
    | Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[TrainTeacher, tyro.conf.subcommand("teacher")]
    | Annotated[Distill, tyro.conf.subcommand("distill")]
    | Annotated[TrainStudent, tyro.conf.subcommand("student")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
)


def shape_of(teacher: Teacher) -> tuple[int, int, int] | None:
    """Height, width and channels of a teacher's images, where it is made for one size."""
    return (*teacher.image_size, teacher.channels) if teacher.image_size else None


def default_workdir(source: Source) -> Path:
    """A folder below runs/, another one for each source: folders of one name lie in two places."""
    kind, _, where = source.spec.partition(":")
    if kind != "folder":
        return Path("runs") / source.name
    path = os.fsencode(Path(where).expanduser().resolve())
    return Path("runs") / f"{source.name}-{hashlib.sha256(path).hexdigest()[:6]}"


say_defaults(RecipeConfig, "(by default the recipe's)")
for config in (SourceOptions, Machines, Stages, RunConfig, Run, Distill, TrainStudent):
    say_defaults(config)


def main(arguments: list[str] | None = None) -> int:
    """Entry point of `infoutil`; returns the exit code."""
    command = tyro.cli(
        Command,
        args=arguments,
        prog="infoutil",
        description="Distil an image set into a few images a class (InfoUtil, ICLR 2026).",
    )
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(COMPILED))
    try:
        command()
    except InputError as error:
        print(f"infoutil: {with_flags(str(error), command)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("infoutil: interrupted; run the same command again to go on.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
