"""`infoutil stream`, as `cli.VERBS` describes it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from infoutil_jax import ranges
from infoutil_jax.app.config import RecipeConfig, Stages
from infoutil_jax.app.flags import Group, say_defaults
from infoutil_jax.app.options import Logs, SourceOptions
from infoutil_jax.distillation.config import StreamConfig


@dataclass(frozen=True)
class StreamImages:
    """Options of `infoutil stream`."""

    data: Annotated[SourceOptions, Group]
    teacher: Path
    """Folder of `infoutil teacher`; it knows all classes that may come, and the source may have
    fewer."""
    workdir: Path
    """Where the set goes, or lies: a new or empty folder, or that of an earlier infoutil stream."""
    images_per_class: int = 10
    """The budget."""
    arriving: int = 256
    """Images of an update, after each of which the set on disk is that of all images so far."""
    judges: int = 250
    """Of infoutil and infoutil_kernel: whole images of each class that are kept, to judge by."""
    recipe: Annotated[RecipeConfig, Group] = RecipeConfig()
    stages: Annotated[Stages, Group] = Stages()
    batch_size: int = StreamConfig.batch_size
    """Images in flight at once."""
    licence: str | None = None
    """Under which the set may be used, such as cc-by-4.0: for its manifest and README.md."""
    seed: int = 0
    """Of the order in which a source's images are taken in, and of every other random draw."""
    logs: Annotated[Logs, Group] = Logs()

    def __post_init__(self) -> None:
        ranges.check(self)

    def __call__(self) -> None:
        """Runs it."""
        self.recipe.check()  # before images are read

        from infoutil_jax.app.arrivals import followed
        from infoutil_jax.app.command_line import source_flags
        from infoutil_jax.app.pipeline import choose_teachers
        from infoutil_jax.app.verbs.distill import shape_of
        from infoutil_jax.distillation import Stream
        from infoutil_jax.method.selection import MostUseful
        from infoutil_jax.training.teacher import load_teachers

        teachers = load_teachers(self.teacher)
        data = self.data if self.data.in_memory is not None else replace(self.data, in_memory=False)
        source = data.open(shape_of(teachers["converged"]))
        recipe = self.recipe.build(source, self.images_per_class, arriving=True)
        recipe = self.stages.scored(recipe)
        if isinstance(recipe.select, MostUseful):
            recipe = replace(recipe, select=replace(recipe.select, judges=self.judges))
        teacher, labeller = choose_teachers(teachers, self.stages, self.images_per_class)
        stream = Stream.open(
            self.workdir,
            teacher,
            recipe,
            images_per_class=self.images_per_class,
            label_teacher=labeller,
            seed=self.seed,
            config=StreamConfig(source.name, self.batch_size, self.licence),
        )
        before = stream.images
        stream = followed(stream, source, self.arriving)
        print(f"{stream}\ntaken in now: {stream.images - before} images")
        distilled = stream.distilled
        if distilled is None:
            needed = stream.plan.per_class
            print(f"there is no set yet: two classes need {needed} image{'s' * (needed > 1)} each")
            return
        print(f"{distilled}\ndigest: {distilled.digest}")
        words = [
            str(self.workdir),
            source.spec,
            *source_flags(source),
            "--teacher",
            str(self.teacher),
        ]
        if distilled.class_names == source.class_names:
            print(f"next: infoutil {shlex.join(['student', *words])}")


say_defaults(StreamImages)
