"""`infoutil distill`, as `cli.VERBS` describes it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from infoutil_jax import ranges
from infoutil_jax.app.config import RareClasses, RecipeConfig, Stages
from infoutil_jax.app.flags import Group, say_defaults
from infoutil_jax.app.options import Logs, Machines, SourceOptions
from infoutil_jax.distillation.config import DistillConfig
from infoutil_jax.distillation.engines import Engine, Ray
from infoutil_jax.training.teacher import Teacher


@dataclass(frozen=True)
class Distill:
    """Options of `infoutil distill`."""

    data: Annotated[SourceOptions, Group]
    teacher: Path
    """Folder of `infoutil teacher`."""
    workdir: Path
    """Where the distilled set goes: a new or empty folder, or with overwrite a set's."""
    images_per_class: int = 10
    """The budget."""
    rare_classes: RareClasses = "refuse"
    """Where a class has too few images for it: refuse; cap the budget for all classes; keep its own
    number for that class alone; or fill the class with other crops of the images that it has. Or
    share the total out in proportion to the classes' images, in any case."""
    recipe: Annotated[RecipeConfig, Group] = RecipeConfig()
    stages: Annotated[Stages, Group] = Stages()
    machines: Annotated[Machines, Group] = Machines()
    pool: int | None = DistillConfig.pool
    """Training images of a class that compete (paper: 300); None for all."""
    batch_size: int = DistillConfig.batch_size
    """Images in flight at once on each device."""
    licence: str | None = None
    """Under which the set may be used, such as cc-by-4.0: for its manifest and README.md."""
    overwrite: bool = False
    """Replace a distilled set that is already there."""
    seed: int = 0
    """Of every random draw."""
    logs: Annotated[Logs, Group] = Logs()

    def __post_init__(self) -> None:
        ranges.check(self)

    def __call__(self) -> None:
        """Runs it."""
        self.recipe.check()  # before images are read
        with self.machines.joined() as devices:
            self._distil(devices)

    def _distil(self, devices: Any) -> None:
        import jax

        from infoutil_jax.app.accounts import account_of, labels_in_words, tiles_in_words
        from infoutil_jax.app.budget import budget_of
        from infoutil_jax.app.command_line import source_flags
        from infoutil_jax.app.figures import overview
        from infoutil_jax.app.pipeline import choose_teachers
        from infoutil_jax.app.sets import found_or_distilled
        from infoutil_jax.data.streamed import Streamed, fingerprint
        from infoutil_jax.progress import note
        from infoutil_jax.training.checkpoint import read_config
        from infoutil_jax.training.teacher import load_teachers

        teachers = load_teachers(self.teacher)
        source = self.data.open(shape_of(teachers["converged"]))
        images, labels = source.train.labelled()
        # A streamed split that is not known yet would be decoded once more for this alone.
        known = not isinstance(images, Streamed) or images.fingerprint is not None
        if known and read_config(self.teacher).get("data") != fingerprint(images, labels):
            note(
                f"the teacher in {self.teacher} was trained on other images than the training "
                f"images of {source.spec} as it is opened here: it may have seen test images",
                shown=jax.process_index() == 0,
            )
        recipe = self.stages.scored(self.recipe.build(source, self.images_per_class))
        source, budget, text, by_class = budget_of(
            source, recipe.tiles, self.images_per_class, self.rare_classes
        )
        teacher, labeller = choose_teachers(teachers, self.stages, budget)
        print(text + tiles_in_words(recipe))
        print(account_of(teachers, labeller, source)[0])
        distilled = found_or_distilled(
            source,
            (teacher, labeller),
            recipe,
            images_per_class=budget,
            workdir=self.workdir,
            seed=self.seed,
            config=DistillConfig(
                pool=self.pool,
                batch_size=self.batch_size,
                devices=devices,
                engine=self._engine(),
                overwrite=self.overwrite,
                licence=self.licence,
                by_class=by_class,
            ),
        )
        if jax.process_index():
            return
        picture = self.workdir.with_name(self.workdir.name + ".png")
        overview(distilled, source, picture)
        print(labels_in_words(distilled))
        print(f"{distilled}\ndigest: {distilled.digest}\nwhat was kept and why: {picture}")
        words = [
            str(self.workdir),
            source.spec,
            *source_flags(source),
            "--teacher",
            str(self.teacher),
        ]
        print(f"next: infoutil {shlex.join(['student', *words])}")

    def _engine(self) -> Engine | None:
        """What spreads the pool over machines; None for this one."""
        address = self.machines.ray
        return None if address is None else Ray(None if address == "local" else address)


def shape_of(teacher: Teacher) -> tuple[int, int, int] | None:
    """Height, width and channels of a teacher's images, where it is made for one size."""
    return (*teacher.image_size, teacher.channels) if teacher.image_size else None


say_defaults(Distill)
