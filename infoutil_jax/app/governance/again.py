"""A set made again, by what its manifest says (host)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any

from infoutil_jax import files, kinds
from infoutil_jax.app.governance.recalled import recalled, said
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.layout import MANIFEST, wrong
from infoutil_jax.data.manifest import read_manifest
from infoutil_jax.data.renumbered import renumbered
from infoutil_jax.data.sources import Source
from infoutil_jax.distillation import DistillConfig, score_pool
from infoutil_jax.distillation.checks import check_budget, check_teacher
from infoutil_jax.distillation.distill import Contents, contents_of
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.ranges import MOST_SEED
from infoutil_jax.training.teacher import Teacher, load_teachers

TRIES = 300
"""Choices of forgotten images that may be missing from a source, of which one is looked for."""


@dataclass(frozen=True, eq=False)
class Again:
    """What a set is made of.

    Attributes:
        distilled: the set.
        source: its images have the numbers that they had when the set was made.
        recipe: the method.
        scorer: the teacher that attributed and scored.
        labeller: the teacher that labelled.
    """

    distilled: DistilledDataset
    source: Source
    recipe: Recipe
    scorer: Teacher
    labeller: Teacher

    def contents(
        self, config: DistillConfig, forgotten: Iterable[int], folder: Path | None = None
    ) -> Contents:
        """What the set holds by its recipe.

        Args:
            config: how it is computed: batches, devices, progress.
            forgotten: training images, by number, that take no part.
            folder: where parts of the scored pool are kept, to go on after a stop.
        """
        budget, pool, seed = numbers_of(self.distilled)
        licence = self.distilled.manifest.get("licence")
        by_class = self.distilled.manifest.get("images_by_class")
        forgotten = tuple(sorted(set(forgotten)))
        config = replace(
            config,
            pool=pool,
            licence=licence,
            forgotten=forgotten,
            by_class=None if by_class is None else tuple(by_class),
        )
        check_budget(self.source, self.recipe, budget, pool, forgotten)
        scored = score_pool(
            self.source,
            self.scorer,
            self.recipe,
            seed=seed,
            per_class=budget * self.recipe.tiles,
            folder=folder,
            config=config,
        )
        same = self.labeller is self.scorer
        labeller = scored.teacher if same else check_teacher(self.labeller, self.source)
        return contents_of(scored, labeller, budget)


def made_with(
    path: Path, open_source: Callable[[tuple[int, int, int]], Source], teacher: Path | None
) -> tuple[Source, dict[str, Teacher]]:
    """The source and the teachers of a set on disk, for the command line.

    Args:
        path: folder of the set.
        open_source: opens the source for height, width and channels of the set's images.
        teacher: folder of the teachers; None for teacher/ beside the set.

    Raises:
        InputError: there is no set, no such folder, or what cannot be opened.
    """
    if not (path / MANIFEST).is_file():
        raise InputError(f"{path} is no distilled set: it has no {MANIFEST}")
    beside = files.real(path).with_name("teacher")
    if teacher is None and not beside.is_dir():
        raise InputError(f"there is no {beside}: give the folder of the teachers, --teacher DIR.")
    teachers = load_teachers(teacher or beside)
    shape = read_manifest(path)["image_shape"]
    return open_source((shape[0], shape[1], shape[2])), teachers


def numbers_of(distilled: DistilledDataset) -> tuple[int, int | None, int]:
    """Images a class, images of a class that competed, and the seed.

    Raises:
        InputError: the manifest does not say them.
    """
    budget, pool, seed = (
        distilled.said("images_per_class"),
        distilled.manifest.get("pool"),
        distilled.manifest.get("seed"),
    )
    if not kinds.optional(kinds.count)(pool):
        wrong(distilled.path / MANIFEST, f"has pool {kinds.short(pool)}; it should be a count")
    if type(seed) is not int or not 0 <= seed <= MOST_SEED:
        wrong(distilled.path / MANIFEST, f"has seed {kinds.short(seed)}; it should be one")
    return budget, pool, seed


def forgotten_of(distilled: DistilledDataset) -> list[int]:
    """The numbers of the training images that the set was told to forget."""
    about = distilled.manifest.get("forgotten") or {}
    return list(about.get("examples", ()))


def recipe_of(distilled: DistilledDataset, given: Recipe | None) -> Recipe:
    """The recipe of a set: as its manifest describes it, or the one that is given.

    Raises:
        InputError: the manifest describes another one, or none that can be run again.
    """
    described = distilled.said("recipe")
    if "stream" in distilled.manifest:
        raise InputError(
            f"{distilled.path} is a stream's, which keeps no image but those in it: it can be "
            "verified and explained, but not made again"
        )
    if isinstance(described, Mapping) and "crop" not in described:
        raise InputError(
            f"{distilled.path} was painted from a network by {described.get('name')}: no image of "
            "a source is in it, and none is known to have shaped one of its own"
        )
    if given is None:
        return recalled(described)
    if said(given) != described:
        raise InputError(
            f"recipe {given.name!r} is not the one of {distilled.path}: give that, with the same "
            "options"
        )
    return given


def source_of(distilled: DistilledDataset, source: Source) -> Source | None:
    """The source that a set was made of, numbered as it was then; None where it is another one.

    A source from which some or all of the images that the set has forgotten were removed is still
    the same: without all of them it has the fingerprint that the manifest says. Of one whose rare
    classes were filled it says none.

    Raises:
        InputError: the manifest names no source.
    """
    then = distilled.said("source", "fingerprint")
    about_source = distilled.manifest["source"]
    if about_source.get("filled_classes"):
        each = distilled.said("images_per_class") * int(distilled.manifest["tiles"])
        source = source.fill(about_source.get("filled_to", each))
    now = source.fingerprint()
    if now == then:
        return source
    about, examples = distilled.manifest.get("forgotten") or {}, forgotten_of(distilled)
    lost = about_source.get("train_images", 0) - len(source.train)
    if (
        about.get("fingerprint") is None
        or not 0 < lost <= len(examples)
        or comb(len(examples), lost) > TRIES
    ):
        return None
    for missing in combinations(examples, lost):
        found = renumbered(source, missing, then)
        if found.fingerprint_without(examples) == about.get("fingerprint"):
            return found
    return None


def opened(distilled: DistilledDataset, source: Source) -> Source:
    """The source that a set was made of, numbered as it was then.

    Raises:
        InputError: it is another one.
    """
    numbered = source_of(distilled, source)
    if numbered is None:
        raise InputError(
            f"{distilled.path} was not distilled from {source.spec} as it is now: open the source "
            "that its manifest names, with the same options, and all images that it had then"
        )
    return numbered


def teacher_of(
    distilled: DistilledDataset, role: str, teachers: Teacher | Mapping[str, Teacher], channels: int
) -> Teacher | None:
    """The teacher that had a role in making a set; None where it is not there.

    Args:
        distilled: the set.
        role: "teacher" or "label_teacher", as the manifest calls it.
        teachers: one, or several by any names.
        channels: of the images.

    Raises:
        InputError: the manifest does not say which teacher that was.
    """
    about = distilled.said(role)
    wanted = [about.get(name) for name in ("digest", "mean", "std")]
    for one in (teachers,) if isinstance(teachers, Teacher) else teachers.values():
        teacher = one.of_channels(channels)
        if [teacher.digest(), list(teacher.mean), list(teacher.std)] == wanted:
            return one
    return None


def told_of(teachers: Teacher | Mapping[str, Teacher]) -> str:
    """Which teachers there are, with the beginning of their digests."""
    every: list[Any] = [teachers] if isinstance(teachers, Teacher) else [*teachers.values()]
    return ", ".join(f"{one.stage} {one.name} ({one.digest()[:12]})" for one in every)
