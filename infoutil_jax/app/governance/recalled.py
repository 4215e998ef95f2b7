"""The recipe that a manifest describes, made of this package's parts again (host)."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import fields
from types import ModuleType
from typing import Any

from infoutil_jax import refine
from infoutil_jax.distillation.manifest import LATER, parts_of
from infoutil_jax.errors import InputError
from infoutil_jax.method import attribution, cropping, features, scores, selection, shapley_maps
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.training import config

PLACES: tuple[ModuleType, ...] = (
    *(attribution, cropping, features, scores, selection, shapley_maps, refine, config),
)
"""Where recipes' parts are."""
OF_PARTS = {"Union": "croppers", "Chain": "selectors"}
"""Parts that are made of others, in the order of one field."""
NO_NUMBERS = ("inf", "-inf", "nan")
"""How JSON tells what it has no numbers for."""


def recalled(described: Any) -> Recipe:
    """The recipe that a manifest tells of.

    Args:
        described: as a manifest has it (`distillation.manifest.parts_of`).

    Raises:
        InputError: it has parts that this package does not know, or that JSON cannot hold.
    """
    told = described if isinstance(described, Mapping) else {}
    names = [one.name for one in fields(Recipe)]
    if any(name not in told for name in names if name not in LATER):
        raise InputError("the manifest's recipe is none of parts: only such a recipe runs again")
    if told["version"] is not None:
        raise _unknown(f"parts of your own, version {told['version']!r}")
    try:
        recipe = Recipe(**{name: _part(told[name]) for name in names if name in told})
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        if isinstance(error, InputError) and "in Python" in str(error):
            raise
        raise _unknown(f"parts that cannot be made: {error}") from error
    if said(recipe) != told:
        raise _unknown("parts that its manifest does not tell in full")
    return recipe


def said(recipe: Recipe) -> Any:
    """What a manifest that was written says of a recipe."""
    return json.loads(json.dumps(parts_of(recipe)))


def _part(told: Any) -> Any:
    if isinstance(told, list):
        return tuple(map(_part, told))
    if isinstance(told, str) and told in NO_NUMBERS:
        return float(told)
    if not isinstance(told, Mapping):
        return told
    name = str(told.get("kind") or told.get("function"))
    found = next((vars(place)[name] for place in PLACES if name in vars(place)), None)
    if name == "ByStatistic":  # whose array a manifest spells out only where it is short
        raise _unknown("a statistic of each image")
    public = not name.startswith("_") and inspect.getmodule(found) is not None
    if not public or not (inspect.isclass(found) or inspect.isfunction(found)):
        raise _unknown(f"a part {name!r}")
    options = {key: _part(value) for key, value in told.items() if key not in ("kind", "function")}
    if not inspect.isclass(found):
        return found
    return found(*options[OF_PARTS[name]]) if name in OF_PARTS else found(**options)


def _unknown(what: str) -> InputError:
    return InputError(
        f"the recipe of this set has {what}, which is not of this package: give the recipe itself, "
        "in Python"
    )
