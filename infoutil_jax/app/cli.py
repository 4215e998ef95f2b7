"""The command line: `infoutil VERB ...`, one dataclass a verb.

Exit codes: 0 done, 2 something of yours to fix (told in one sentence), 130 interrupted.
"""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import jax
import numpy as np
import tyro

from infoutil_jax import parallel
from infoutil_jax.app.config import Flat, RecipeConfig, RunConfig, Stage, Stages
from infoutil_jax.app.pipeline import (
    choose_teacher,
    choose_teachers,
    run,
    summarise,
    train_students,
    train_teachers,
)
from infoutil_jax.app.quickstart import quickstart
from infoutil_jax.app.report import accuracy_table, overview
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.sources import Source, open_source
from infoutil_jax.distillation import DistillConfig, distill
from infoutil_jax.errors import InputError
from infoutil_jax.training.config import StudentConfig, TeacherConfig
from infoutil_jax.training.teacher import load_teachers

DeviceCount = int | Literal["all"]
COMPILED = Path.home() / ".cache" / "infoutil_jax"  # what the next command need not compile again
CPU_SIDE = 64  # pixels that `run` keeps where there is no accelerator


@dataclass(frozen=True)
class SourceOptions:
    """Where images come from."""

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE")]
    """digits, folder:PATH (class subfolders, with or without train/ and test/), npz:FILE
    (MedMNIST's layout), or tfds:NAME."""
    image_size: int | Literal["auto"] = "auto"
    """Side in pixels; "auto" keeps a common size and chooses one for mixed sizes."""
    channels: int | None = None
    """1 grey, 3 colour, 2 and 4 with alpha, or how many bands; by default what the images have."""
    skip_unreadable: bool = False
    """Leave out unreadable images and list them, instead of stopping at the first."""
    data_dir: str | None = None
    """Where TFDS keeps its datasets."""
    split_seed: int = 0
    """Of the train/test split, where the source has none."""
    train_split: str | None = None
    """Split to train on; by default train or training."""
    test_split: str | None = None
    """Split to test on; by default the first of test, testing, validation, val, valid and dev that
    has labels, else a fifth of each class."""
    value_range: tuple[float, float] | None = None
    """Values of more than 8 bits that become 0 and 255; by default the lowest and highest of the
    training images."""
    background: str = "white"
    """What transparent images are blended on: a colour's name, or red,green,blue."""

    def open(self) -> Source:
        """Opens the source, and says what was left out, passed over and chosen."""
        source = open_source(
            self.source,
            image_size=self.image_size,
            channels=self.channels,
            seed=self.split_seed,
            skip_unreadable=self.skip_unreadable,
            data_dir=self.data_dir,
            train_split=self.train_split,
            test_split=self.test_split,
            value_range=self.value_range,
            background=self.background,
        )
        for note in source.notes:
            print(f"note: {note}", file=sys.stderr)
        for name in source.skipped:
            print(f"skipped, unreadable: {name}", file=sys.stderr)
        return source


@dataclass(frozen=True)
class Machines:
    """What computes; devices and processes do not change the set."""

    devices: DeviceCount = "all"
    """Of this machine, that attribute and score; each has a batch in flight."""
    coordinator: str | None = None
    """host:port of the first of several processes that see the same disk, or "auto" under SLURM,
    Open MPI or on a TPU pod."""
    processes: int | None = None
    """How many there are; known to "auto"."""
    process: int | None = None
    """Which this is, from 0; known to "auto"."""

    def join(self) -> parallel.Devices:
        """Joins the other processes, if any, before anything is computed."""
        if self.coordinator is not None:
            parallel.start(self.coordinator, self.processes, self.process)
        elif self.processes is not None or self.process is not None:
            raise InputError(
                "--processes and --process need --coordinator, host:port of the first."
            )
        return parallel.devices_of(self.devices)


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

    data: Annotated[SourceOptions, Flat]
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
        if self.data.image_size == "auto" and _too_large(source):
            print(
                f"no accelerator found: {CPU_SIDE} pixels instead of {min(source.image_size)}; "
                "choose with --image-size"
            )
            source = replace(self.data, image_size=CPU_SIDE).open()
        workdir = self.workdir or default_workdir(source)
        print(_account(source))
        devices = parallel.devices_of(self.devices)
        summary = run(source, workdir, self.config, devices=devices, overwrite=self.overwrite)
        budget = summary["images_per_class"]
        rows = {f"student, {self.config.recipe.recipe}": {budget: summary["student"]["top1"]}}
        print(accuracy_table(rows))
        print(f"distilled set, picture and summary: {workdir}")


@dataclass(frozen=True)
class TrainTeacher:
    """Train a teacher and keep its early and its converged checkpoint; resumes after a stop."""

    data: Annotated[SourceOptions, Flat]
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
        for stage, teacher in teachers.items():
            print(f"{stage} teacher: {teacher.accuracy:.1f}% top-1")


@dataclass(frozen=True)
class Distill:
    """Distil a source with a trained teacher."""

    data: Annotated[SourceOptions, Flat]
    teacher: Path
    """Folder of `infoutil teacher`."""
    workdir: Path
    """Where the distilled set goes: a new or empty folder, or with overwrite a set's."""
    images_per_class: int = 10
    """The budget."""
    recipe: Annotated[RecipeConfig, Flat] = RecipeConfig()
    stages: Annotated[Stages, Flat] = Stages()
    machines: Annotated[Machines, Flat] = Machines()
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
        source = self.data.open()
        recipe, teacher, labeller = choose_teachers(
            teachers, self.stages, self.recipe.build(source), self.images_per_class
        )
        distilled = distill(
            source,
            teacher,
            recipe,
            images_per_class=self.images_per_class,
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
    data: Annotated[SourceOptions, Flat]
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
        source = self.data.open()
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


def _too_large(source: Source) -> bool:
    """Whether training at this size would take days without an accelerator."""
    return jax.default_backend() == "cpu" and min(source.image_size) > CPU_SIDE


def default_workdir(source: Source) -> Path:
    """A folder below runs/, another one for each source: folders of one name lie in two places."""
    kind, _, where = source.spec.partition(":")
    if kind != "folder":
        return Path("runs") / source.name
    path = os.fsencode(Path(where).expanduser().resolve())
    return Path("runs") / f"{source.name}-{hashlib.sha256(path).hexdigest()[:6]}"


def _account(source: Source) -> str:
    height, width = source.image_size
    lines = [
        f"{source.spec}: {len(source.train)} training and {len(source.test)} test images of "
        f"{height}x{width} pixels, {source.channels} channels, {len(source.class_names)} classes"
    ]
    for use, split, name in zip(
        ("train", "test"), (source.train, source.test), source.splits, strict=True
    ):
        counts = np.bincount(split.labels, minlength=len(source.class_names)).tolist()
        lines.append(f"  {use} on {name}: {_classes(source.class_names, counts)}")
    return "\n".join(lines)


def _classes(names: tuple[str, ...], counts: list[int]) -> str:
    """How many images of each class there are; of many classes, of the smallest and largest."""
    if len(names) <= 10:
        return ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
    least, most = min(counts), max(counts)
    if least == most:
        return f"{least} images of each class"
    return (
        f"from {least} images of {names[counts.index(least)]} "
        f"to {most} of {names[counts.index(most)]}"
    )


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
        print(f"infoutil: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("infoutil: interrupted; run the same command again to go on.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
