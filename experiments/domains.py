"""Images that are no photographs of objects, and classes of few images.

Studies of `experiments.robustness`: `missing`, `views` and `imbalance`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from experiments.small import LABELS, Cell, Study, figures
from infoutil_jax import attribution
from infoutil_jax.app.accounts import own_class_share
from infoutil_jax.app.budget import budget_of
from infoutil_jax.data.sources import Source
from infoutil_jax.method.recipes import RECIPES, infoutil_paper
from infoutil_jax.method.shapley_maps import ShapleyConfig
from infoutil_jax.training.evaluation import balanced_of

VIEWS = {
    "as they are": {"flip": False, "turn": False},
    "mirrored": {"flip": True, "turn": False},
    "turned": {"flip": False, "turn": True},
    "mirrored and turned": {"flip": True, "turn": True},
}
POLICIES = ("cap", "own", "fill", "proportional")
RARE = 5
"""Images of every second class."""
BUDGET = 10


def missing(study: Study, recipes: tuple[str, ...]) -> Iterator[Cell]:
    """What an absent patch shows in the patch game."""
    for name in attribution.BASELINES:
        yield f"{study.dataset}, {name}", partial(_missing, study, name)


def _missing(study: Study, name: str) -> dict[str, Any]:
    teachers = study.teachers(study.source, "own")
    converged = teachers["converged"]
    shapley = ShapleyConfig(baseline=attribution.BASELINES[name], pilot=0)
    sets, labeller = study.sets(study.source, teachers, infoutil_paper(shapley=shapley), BUDGET)
    some = np.linspace(0, len(study.source.train) - 1, 128).astype(int)
    images = converged.normalise(np.stack([study.source.train.image(i) for i in some]))
    labels = study.source.train.labels[some]

    def windows(which: str) -> np.ndarray:
        maps = attribution.patch_shapley(
            converged.predict,
            converged.variables,
            images,
            labels,
            ShapleyConfig().design(),
            grid=4,
            baseline=attribution.BASELINES[which],
        )
        return best_windows(np.asarray(maps))

    return {
        "missing": name,
        "same_window": round(100 * float((windows(name) == windows("mean")).mean()), 1),
        "own_class": figures(own_class_share(one) for one in sets),
        "top1": study.trained(sets, labeller),
    }


def best_windows(maps: np.ndarray) -> np.ndarray:
    """The window of two by two patches with the largest sum, by number."""
    sums = maps[:, :-1, :-1] + maps[:, 1:, :-1] + maps[:, :-1, 1:] + maps[:, 1:, 1:]
    return np.asarray(sums.reshape(len(maps), -1).argmax(1))


def views(study: Study, recipes: tuple[str, ...]) -> Iterator[Cell]:
    """Mirrored and turned images, for teacher and students."""
    for name in VIEWS:
        yield f"{study.dataset}, {name}", partial(_views, replace(study, flips=VIEWS[name]), name)


def _views(study: Study, name: str) -> dict[str, Any]:
    teachers = study.teachers(study.source, name.replace(" ", "_"))
    sets, labeller = study.sets(study.source, teachers, RECIPES["infoutil"](), BUDGET)
    return {
        "views": name,
        "teacher": round(teachers["converged"].accuracy or 0, 2),
        "labelled_by": labeller.stage,
        "top1": study.trained(sets, labeller),
    }


def imbalance(study: Study, recipes: tuple[str, ...]) -> Iterator[Cell]:
    """Every second class has few images: what each policy makes of that."""
    for recipe in recipes:
        for policy in POLICIES:
            yield f"{study.dataset}, {policy}, {recipe}", partial(_policy, study, policy, recipe)


def with_rare(study: Study) -> Source:
    """The source with few training images of every second class, and all validation images."""
    labels = study.source.train.labels
    place = np.array([np.count_nonzero(labels[:i] == label) for i, label in enumerate(labels)])
    return study.of_images(np.flatnonzero((labels % 2 == 0) | (place < RARE)))


def _policy(study: Study, policy: Any, recipe: str) -> dict[str, Any]:
    source = with_rare(study)
    teachers = study.teachers(source, "rare")
    made = RECIPES[recipe]()
    budget = budget_of(source, made.tiles, BUDGET, policy)
    sets, labeller = study.sets(
        budget.source, teachers, made, budget.images, by_class=budget.by_class
    )
    found: dict[str, Any] = {}
    for policy_of_labels in LABELS:
        confusions = study.students(sets, labeller, policy_of_labels).confusion
        shares = [one.diagonal() / one.sum(1) for one in confusions]
        found[policy_of_labels] = {
            "balanced": figures(balanced_of(one) for one in confusions),
            "rare": figures(100 * share[1::2].mean() for share in shares),
            "common": figures(100 * share[::2].mean() for share in shares),
        }
    return {
        "recipe": recipe,
        "policy": policy,
        "images": len(sets[0].labels),
        "by_class": np.bincount(sets[0].labels).tolist(),
        "training_images": np.bincount(source.train.labels).tolist(),
        "teacher": round(teachers["converged"].accuracy or 0, 2),
        "students": found,
    }
