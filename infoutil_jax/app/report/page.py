"""Sets and their figures as one HTML page that needs nothing else (host)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
from jaxtyping import Float
from markupsafe import Markup, escape

from infoutil_jax.app.accounts import own_class_share
from infoutil_jax.app.report import charts
from infoutil_jax.app.report.gather import Folder, Shown
from infoutil_jax.app.report.thumbnails import data_uri
from infoutil_jax.data.manifest import labels_are_learnt

MANY = 1500
"""Images above which their pictures are smaller."""
SIDES = 160, 80
"""Pixels of pictures of few and of many images."""
SCORES = {
    "GradientNorm": "gradient norm",
    "cross_entropy": "loss of the teacher",
    "el2n": "length of the error vector",
}
"""Scores of crops, by the names of recipes' parts."""
ATTRIBUTES = {"ShapleyMaps": "cut by Shapley values;", "GradCam": "cut by Grad-CAM;"}
"""Likewise what crops are cut by, where that is a map."""
COLUMNS = "recipe", "students", "storage", "labels", "own class", "scoring", "training"
"""Facts of sets that are shown side by side."""
OPEN_AMONG = 2
"""Of the first two sets, a budget each in the quickstart, the larger one is open at first."""
CLASSES_SHOWN = 5
"""The most probable classes of a teacher that are shown."""
FLAG = re.compile(r"(\(?)(--[\w.-]*\w(?: \d+)*)([).,;]*)")
"""A flag and its values in a sentence."""


def page(folders: Sequence[Folder]) -> str:
    """The page of one folder or several, side by side.

    Args:
        folders: as gathered.
    """
    shown = [one for folder in folders for one in folder.sets]
    side = SIDES[sum(len(one.distilled) for one in shown) > MANY]
    sets = [_set(one, number, side) for number, one in enumerate(shown)]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("infoutil_jax.app.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["with_flags_whole"] = with_flags_whole
    return environment.get_template("page.html.j2").render(
        title=", ".join(folder.path.resolve().name for folder in folders),
        folders=folders,
        sets=sets,
        columns=[name for name in COLUMNS if any(name in one["facts"] for one in sets)],
        opened=max(sets[:OPEN_AMONG], key=lambda one: one["count"])["id"],
    )


def with_flags_whole(text: str) -> Markup:
    """HTML of a text; a flag, its values and the brackets around them stay on one line."""
    return Markup(FLAG.sub(r'<span class="whole">\1<code>\2</code>\3</span>', str(escape(text))))


def _set(shown: Shown, number: int, side: int) -> dict[str, Any]:
    """What the page says of a set."""
    distilled, labelled = shown.distilled, next(iter(shown.opinions))
    probabilities = {stage: _softmax(logits) for stage, logits in shown.opinions.items()}
    origins = _origins(shown, side)
    items = [_item(shown, index, probabilities, origins, side) for index in range(len(distilled))]
    recipe, student = distilled.manifest.get("recipe") or {}, shown.student
    scores = [tile["score"] for record in distilled.records for tile in record["tiles"]]
    return {
        "id": f"set{number}",
        "name": shown.name,
        "count": len(distilled),
        "recipe": recipe.get("name", "unknown"),
        "facts": _facts(shown),
        "classes": [
            {"name": name, "items": [item for item in items if item["label"] == label]}
            for label, name in enumerate(distilled.class_names)
        ],
        "data": {
            "classes": list(distilled.class_names),
            "size": list(distilled.images.shape[1:3]),
            "origins": list(origins.values()),
            "items": [item["data"] for item in items],
        },
        "scores": charts.histogram(scores, "score"),
        "entropy": charts.histogram(
            _entropy(probabilities[labelled]).ravel(), "entropy of soft labels, share of the most"
        ),
        "loss": charts.curve(student["loss"], "students' loss") if "loss" in student else None,
        "reliability": charts.reliability(student["reliability"])
        if "reliability" in student
        else None,
        "confusion": _confusion(student.get("confusion"), distilled.class_names),
    }


def _item(
    shown: Shown,
    index: int,
    probabilities: Mapping[str, np.ndarray],
    origins: Mapping[int, str],
    side: int,
) -> dict[str, Any]:
    """A distilled image: its card, and what is shown of it when it is chosen."""
    distilled = shown.distilled
    label, tiles = int(distilled.labels[index]), distilled.records[index]["tiles"]
    numbers = {example: place for place, example in enumerate(origins)}
    own = probabilities[next(iter(probabilities))][index]
    agrees = bool((own.argmax(-1) == label).all())
    return {
        "index": index,
        "label": label,
        "picture": data_uri(distilled.images[index], side),
        "rank": min(tile["rank"] for tile in tiles),
        "score": float(np.mean([tile["score"] for tile in tiles])),
        "entropy": float(_entropy(own).mean()),
        "own": float(own[:, label].mean()),
        "agrees": agrees,
        "sources": " ".join(str(tile["source"]) for tile in tiles),
        "data": {
            "label": label,
            "tiles": [
                {
                    "source": tile["source"],
                    "origin": numbers.get(tile["example"]),
                    "box": tile["box"],
                    "map": _short(tile["map"]) if np.size(tile["map"]) > 1 else None,
                    "score": float(f"{tile['score']:.4g}"),
                    "rank": tile["rank"],
                    "opinions": {
                        stage: _most_probable(rows[index, place])
                        for stage, rows in probabilities.items()
                    },
                }
                for place, tile in enumerate(tiles)
            ],
        },
    }


def _origins(shown: Shown, side: int) -> dict[int, str]:
    """Every image that a tile was cut from, once."""
    if shown.source is None:
        return {}
    examples = {
        tile["example"]
        for record in shown.distilled.records
        for tile in record["tiles"]
        if tile["example"] is not None
    }
    return {one: data_uri(shown.source.train.image(one), side) for one in sorted(examples)}


def _facts(shown: Shown) -> dict[str, str]:
    """What the table at a set's head says."""
    distilled, manifest, student = shown.distilled, shown.distilled.manifest, shown.student
    height, width, channels = distilled.images.shape[1:]
    source, labelled = manifest.get("source", {}), manifest.get("label_teacher", {})
    learnt = labels_are_learnt(manifest)
    chosen_by = "the largest that was learnt" if learnt else "the teacher's choice"
    teacher = f"{labelled.get('name', '')} teacher, {labelled.get('stage', '')}"
    if labelled.get("accuracy"):
        teacher += f", {labelled['accuracy']:.1f}% top-1"
    facts = {
        "recipe": (manifest.get("recipe") or {}).get("name", "unknown"),
        "chosen by": _chosen_by(manifest.get("recipe") or {}),
        "images": f"{len(distilled)} of {height}×{width} pixels, {_many(channels, 'channel')}, "
        f"{_many(distilled.soft_labels.shape[1], 'crop')} each",
        "out of": f"{source.get('train_images', 'unknown')} training images",
        "storage": f"{shown.bytes / 1e6:.2f} MB",
        "labels": "learnt with the pixels" if learnt else teacher,
        "own class": f"{chosen_by} for {own_class_share(distilled):.0f}% of the crops",
        "seed": str(manifest.get("seed", "unknown")),
        "sha256": str(manifest["sha256"])[:16],
    }
    if shown.scoring:
        facts["scoring"] = f"{shown.scoring['seconds']:.0f} s"
    if "top1" in student:
        values = student["top1"]
        deviation = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
        facts["students"] = f"{np.mean(values):.1f}{deviation}% top-1 ({len(values)})"
        facts["training"] = f"{student['seconds']:.0f} s"
    return facts


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _chosen_by(recipe: Mapping[str, Any]) -> str:
    """What decides which crops of a recipe are kept, in words."""
    score = _name(recipe.get("score"))
    select = recipe.get("select") or {}
    parts = [ATTRIBUTES.get(_name(recipe.get("attribute")), "")]
    if _name(select) == "MostUseful":
        parts.append(
            f"crops of the {select['keep']} {SCORES.get(score, score)} come to choice, and"
        )
        parts.append("those that teach a kernel student most are taken, in the order of their rank")
    elif _name(select) == "RandomK":
        parts.append("drawn at random")
    elif _name(select) == "TopK":
        parts.append(f"{select['keep']} {SCORES.get(score, score)} first")
    else:
        parts.append(f"{_name(select)} of {SCORES.get(score, score)}")
    return " ".join(part for part in parts if part) or "unknown"


def _name(part: Any) -> str:
    return str((part or {}).get("kind") or (part or {}).get("function") or "unknown")


def _confusion(counts: Any, names: Sequence[str]) -> list[tuple[str, list[tuple[int, float]]]]:
    """Rows of a class and how often its images were taken for each; empty without counts."""
    if counts is None or len(names) > 30:
        return []
    rows = np.asarray(counts, np.float64)
    shares = rows / np.maximum(rows.sum(1, keepdims=True), 1)
    return [
        (name, [(round(100 * share), round(float(share), 3)) for share in line])
        for name, line in zip(names, shares, strict=True)
    ]


def _softmax(logits: Float[np.ndarray, "*rows classes"]) -> Float[np.ndarray, "*rows classes"]:
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))


def _entropy(probabilities: Float[np.ndarray, "*rows classes"]) -> Float[np.ndarray, "*rows"]:
    """As a share of the entropy of equal probabilities, 0 to 1."""
    summands = probabilities * np.log(np.maximum(probabilities, 1e-30))
    return np.asarray(-summands.sum(-1) / np.log(probabilities.shape[-1]))


def _most_probable(row: Float[np.ndarray, " classes"]) -> list[tuple[int, float]]:
    order = np.argsort(-row, kind="stable")[:CLASSES_SHOWN]
    return [(int(label), round(float(row[label]), 3)) for label in order]


def _short(values: Any) -> Any:
    if isinstance(values, list):
        return [_short(one) for one in values]
    return float(f"{values:.3g}")
