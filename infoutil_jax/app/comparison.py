"""Which recipe suits a source: several, under one teacher, set by set (host)."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from infoutil_jax import files, kinds, provenance
from infoutil_jax.app.accounts import account_of, mean_interval
from infoutil_jax.app.budget import budget_of
from infoutil_jax.app.command_line import command_of
from infoutil_jax.app.config import CompareConfig, RecipeConfig
from infoutil_jax.app.forecast import forecast, parts_of
from infoutil_jax.app.pipeline import choose_teachers, train_teachers
from infoutil_jax.app.sets import found_or_distilled
from infoutil_jax.app.students import STUDENTS, details, summarise, train_students
from infoutil_jax.data.sources import Source
from infoutil_jax.distillation import DistillConfig, ScoredPool, score_pool, scorer_of
from infoutil_jax.distillation.checks import check_budget, check_by_class
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.parallel import Devices
from infoutil_jax.training.teacher import Teacher

RECIPES = ("infoutil", "rded", "random")
RANDOM = "random"


@dataclass(frozen=True)
class Comparison:
    """Accuracies of students, percent, on the test images.

    Attributes:
        top1: recipe -> top-1 of each seed's student on that seed's set.
        images_per_class: of each set.
        majority: share of the test images that are of the largest class.
        everything: top-1 of the better teacher, which has seen all training images; None if it is
            not known.
        images: how many training images there are.
    """

    top1: Mapping[str, Sequence[float]]
    images_per_class: int
    majority: float
    everything: float | None
    images: int

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Comparison:
        """What a `comparison.json` holds."""
        return cls(
            {name: one["student"]["top1"] for name, one in content["recipes"].items()},
            content["images_per_class"],
            content["teacher"]["majority"],
            max((v for name, v in content["teacher"].items() if name != "majority"), default=None),
            content["training_images"],
        )

    def lead(self, name: str, confidence: float = 0.95) -> tuple[float, float | None]:
        """Mean lead over random images, seed by seed, and half of its interval's width."""
        pairs = zip(self.top1[name], self.top1[RANDOM], strict=True)
        return mean_interval([ours - theirs for ours, theirs in pairs], confidence=confidence)

    def rows(self) -> list[list[str]]:
        """A table: accuracy with its deviation over sets, and the lead over random images."""
        rows = [["", f"top-1, %, {self.images_per_class} a class", "lead over random images"]]
        for name, values in self.top1.items():
            spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
            mean, half = self.lead(name)
            lead = "" if name == RANDOM else f"{mean:+.1f}" + (f" ± {half:.1f}" if half else "")
            rows.append([name, f"{np.mean(values):.1f}{spread}", lead])
        rows.append(["the largest class alone", f"{self.majority:.1f}", ""])
        if self.everything is not None:
            everything = f"all {self.images} images (the best teacher)"
            rows.append([everything, f"{self.everything:.1f}", ""])
        return rows

    def advice(self) -> str:
        """What to take, and how far a set is from all images: two sentences.

        A recipe is called better where the interval of its lead is above zero, at a confidence
        that holds for all rivals of random images together (Bonferroni).
        """
        means = {name: float(np.mean(values)) for name, values in self.top1.items()}
        best = max(means, key=lambda name: (means[name], name == RANDOM))
        return f"{self._choice(best)} {self._distance(means[best])}".strip()

    def _choice(self, best: str) -> str:
        if best == RANDOM:
            return "No recipe is ahead of random images here: take random images, or more a class."
        mean, half = self.lead(best, 1 - 0.05 / (len(self.top1) - 1))
        if half is not None and mean > half:
            return (
                f"Take {best}: it leads random images by {mean:.1f} ± {half:.1f} points. (It was "
                "chosen on these test images; report a figure from others.)"
            )
        of = len(self.top1) - 1
        wider = f", wider than in the table since it is the best of {of}" if of > 1 else ""
        sure = "one seed cannot tell" if half is None else f"± {half:.1f}{wider}"
        return (
            f"Take {best} if you have to choose now: it is ahead of random images by {mean:.1f} "
            f"points, which may be chance ({sure}). More seeds tell (--student.seeds 0 1 2 3 4 5)."
        )

    def _distance(self, mean: float) -> str:
        room = None if self.everything is None else self.everything - self.majority
        if room is None or room <= 0:
            return ""
        share = float(np.clip((mean - self.majority) / room, 0, 1))
        return (
            f"The best students come {share:.0%} of the way from the largest class to what the "
            "best teacher knows"
            + ("; more images a class would bring them further." if share < 0.9 else ".")
        )


def compare(
    source: Source,
    workdir: str | Path,
    recipes: Sequence[str | Recipe] = RECIPES,
    config: CompareConfig = CompareConfig(),
    *,
    devices: Devices | None = None,
    overwrite: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> Comparison:
    """Distils a source by several recipes under one teacher, and trains students on the sets.

    For every seed each recipe draws a set of its own, and one student is trained on it. Recipes
    that examine the same crops share one scored pool. Writes `teacher/`, a folder for each recipe
    and seed, and `comparison.json` under `workdir`; what is there already, made by the same
    arguments, is used.

    Args:
        source: raw images.
        workdir: where everything is written.
        recipes: by name, or your own; random images are always among them.
        config: what they have in common.
        devices: that share all the work; None for the first.
        overwrite: replace sets that were made by other arguments.
        progress: show progress lines.
        say: where the text goes.

    Raises:
        InputError: a budget, tiles or settings that the source cannot fill, two recipes of one
            name, or a set that is there and was made by other arguments.

    Examples:
        >>> compare(open_source("folder:PATH"), "runs/mine").advice()  # doctest: +SKIP
    """
    # One protocol for all, whatever a set asks for.
    workdir, student = Path(workdir), config.student.like({})
    chosen = _built(recipes, config, source)
    tiles = max(recipe.tiles for recipe in chosen)
    whole = source
    source, budget, text, by_class = budget_of(
        source, tiles, config.images_per_class, config.rare_classes
    )
    say(text)
    pool = max(DistillConfig.pool or 0, budget * tiles)
    for recipe in chosen:
        check_budget(source, recipe, budget, pool)
        check_by_class(by_class, source, budget, recipe)
    shared: dict[str, Any] = {"devices": devices, "progress": progress}
    shown = budget * max(parts_of(recipe, student) for recipe in chosen)
    refining = [recipe.refine for recipe in chosen for _ in student.seeds]
    what = whole, shown, len(chosen), config.teacher, student
    say(forecast(*what, refining=refining, own_sets=True))
    teachers = train_teachers(
        whole, workdir / "teacher", config.teacher, seed=config.seed, **shared
    )
    teacher, labeller = choose_teachers(teachers, config.stages, budget)
    text, figures = account_of(teachers, labeller, source)
    say(text)
    how = DistillConfig(pool=pool, overwrite=overwrite, by_class=by_class, **shared)
    pools = _Pools(source, chosen, how)
    about = {
        "command": command_of("compare", source, config, "--recipes", *(r.name for r in chosen)),
        "source": source.spec,
        "source_options": dict(source.options),
        "training_images": len(whole.train),
        "images_per_class": budget,
        "teacher": figures,
    }
    results = _Results(workdir / "comparison.json", about)
    started = time.perf_counter()
    for number, recipe in enumerate(chosen):
        sets = [
            found_or_distilled(
                source,
                (teacher, labeller),
                recipe,
                images_per_class=budget,
                workdir=workdir / f"{recipe.name}-{seed}",
                seed=seed,
                config=pools.config,
                pool=pools.of(recipe, scorer_of(recipe, teacher, labeller), seed),
            )
            for seed in student.seeds
        ]
        made_from = {
            "sets": [one.manifest["sha256"] for one in sets],
            "student": provenance.describe(student.resolve(source)),
            "teacher": labeller.digest(),
            "versions": provenance.versions(),
        }
        if not results.has(recipe.name, made_from):
            kept = workdir / STUDENTS
            result = train_students(sets, source, labeller, student, folder=kept, **shared)
            results.add(recipe.name, made_from, {**summarise(result), **details(result)})
            shutil.rmtree(kept, ignore_errors=True)
        if number == 0 and len(chosen) > 1:
            minutes = (time.perf_counter() - started) / 60 * (len(chosen) - 1)
            say(f"{recipe.name} is done; the other recipes take about {minutes:.0f} minutes more")
    return Comparison.of(results.content)


def _built(recipes: Sequence[str | Recipe], config: CompareConfig, source: Source) -> list[Recipe]:
    """The recipes, random images first: the others are measured by them, and they are soon done."""
    names = [one if isinstance(one, str) else one.name for one in recipes]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two recipes are called {name!r}: name each once, or replace a name")
    wanted: list[str | Recipe] = [*recipes, *([RANDOM] if RANDOM not in names else [])]
    built = [
        RecipeConfig(one, tiles=config.tiles).build(source, config.images_per_class)
        if isinstance(one, str)
        else one
        for one in wanted
    ]
    built = [config.stages.scored(recipe) for recipe in built]
    return sorted(built, key=lambda recipe: recipe.name != RANDOM)


class _Pools:
    """Pools that several recipes share, scored when the first of them asks."""

    def __init__(self, source: Source, recipes: Sequence[Recipe], config: DistillConfig):
        self.source, self.config = source, config
        self.users = Counter(recipe.examined_by for recipe in recipes)
        self.scored: dict[Any, ScoredPool] = {}

    def of(self, recipe: Recipe, scorer: Teacher, seed: int) -> Callable[[], ScoredPool] | None:
        """What scores the pool of a recipe; None where no other examines the same crops."""
        if self.users[recipe.examined_by] == 1:
            return None
        same = recipe.examined_by, scorer.stage, seed

        def pool() -> ScoredPool:
            if same not in self.scored:
                self.scored[same] = score_pool(
                    self.source, scorer, recipe, seed=seed, config=self.config
                )
            return replace(self.scored[same], recipe=recipe)

        return pool


class _Results:
    """Students' results on disk, with what they were made from, to go on after a stop.

    Those of an earlier comparison are kept apart until they turn out to be made from the same.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]):
        self.path = path
        there = files.parse(files.read(path, files.LARGE), path) if path.exists() else {}
        if not kinds.having(earlier=kinds.mapping, recipes=kinds.mapping)(there):
            raise InputError(f"{path} is not a comparison's file: remove it, or choose another")
        earlier = {**there.get("earlier", {}), **there.get("recipes", {})}
        self.content = {**about, "recipes": {}, "earlier": earlier}

    def has(self, name: str, made_from: Mapping[str, Any]) -> bool:
        """Whether there is a result of this recipe, made from the same; it then counts."""
        wanted = json.loads(json.dumps(made_from, default=str))
        found = self.content["earlier"].pop(name, None)
        if not isinstance(found, dict) or found.get("made_from") != wanted:
            return False
        self._save(name, found)
        return True

    def add(self, name: str, made_from: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Writes a recipe's result."""
        self._save(name, {"made_from": made_from, "student": result})

    def _save(self, name: str, result: Mapping[str, Any]) -> None:
        self.content["recipes"][name] = result
        self.content["hardware"] = provenance.hardware()
        files.write(self.path, json.dumps(self.content, indent=1, default=str) + "\n")
