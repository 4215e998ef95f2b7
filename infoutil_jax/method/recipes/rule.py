"""The rule of a recipe in one sentence, from what a manifest says of its parts (host)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SCORES = {
    "GradientNorm": "gradient norm",
    "cross_entropy": "loss",
    "el2n": "EL2N error",
}
"""What crops are scored by, by the names of recipes' parts; each is the teacher's."""
MAPS = {"ShapleyMaps": "Shapley values", "GradCam": "Grad-CAM values"}
"""Likewise what the patches of an image are valued by."""
COUNTS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}


def rule_of(recipe: Mapping[str, Any]) -> str:
    """What decides which crops are kept: "infoutil_paper cuts five crops of each image ...".

    Args:
        recipe: as `provenance.describe` tells it; of other keys and values as much as is known.
    """
    name = recipe.get("name", "the recipe")
    if "crop" not in recipe:
        return f"{name} paints each image by gradient until the teacher sees its class in it."
    cut = _cut(recipe["crop"], name_of(recipe.get("attribute")))
    score = SCORES.get(name_of(recipe.get("score")), name_of(recipe.get("score")))
    refined = ", then changes their pixels by gradient" if recipe.get("refine") else ""
    return f"{name} {cut}, and keeps {_kept(recipe.get('select'), score)}{refined}."


def name_of(part: Any) -> str:
    """The name of a recipe's part."""
    about = part if isinstance(part, Mapping) else {}
    return str(about.get("kind") or about.get("function") or "unknown")


def _cut(crop: Any, maps: str) -> str:
    name, about = name_of(crop), crop if isinstance(crop, Mapping) else {}
    values = MAPS.get(maps, maps)
    count = about.get("num_crops", 1)
    crops = f"{COUNTS[count] if count in [*COUNTS] else count} crop{'s' * (count != 1)}"
    match name:
        case "ShapleyBoxes":
            return f"cuts {crops} of each image around the patches of the highest {values}"
        case "MassBoxes":
            share = f"a share of {about.get('mass')}"
            return f"cuts the smallest window of each image that holds {share} of its {values}"
        case "RandomResizedBoxes":
            return f"cuts {crops} of each image at random"
        case "WholeImage":
            return "takes each image whole"
        case "Union":
            return " and ".join(_cut(one, maps) for one in _parts(about.get("croppers")))
    return f"cuts each image by {name}"


def _kept(select: Any, measured: str) -> str:
    name, about = name_of(select), select if isinstance(select, Mapping) else {}
    keep, score = about.get("keep", "highest"), f"{measured} at the teacher"
    match name:
        case "TopK" | "ByStatistic":
            by = score if name == "TopK" else "statistic that was given"
            return f"those of each class {_with(keep, by)}"
        case "RandomK":
            return "some of each class that are drawn at random"
        case "MostUseful":
            return f"of those {_with(keep, score)} the ones that teach a kernel student most"
        case "Shortlist":
            times = f"{about.get('times')} times as many as are needed"
            return f"{times}, those of each class with the {keep} {score}"
        case "Coreset":
            return f"those of each class that {_spaced(about.get('choose'))} chooses"
        case "Stratified":
            return f"some of each class, of every {score} but the highest"
        case "Chain":
            links = [_kept(one, measured) for one in _parts(about.get("selectors"))]
            return ", and of these ".join(links)
    return f"those of each class that {name} chooses by the {score}"


def _with(keep: str, score: str) -> str:
    if keep == "middle":
        return f"whose {score} is nearest to their class's median"
    return f"with the {keep} {score}"


def _spaced(part: Any) -> str:
    return name_of(part).replace("k_", "k-").replace("_", " ")


def _parts(value: Any) -> Sequence[Any]:
    """The parts that a part is made of; those that are made of others in turn are left out."""
    parts = value if isinstance(value, list | tuple) else []
    return [one for one in parts if name_of(one) not in ("Union", "Chain")]
