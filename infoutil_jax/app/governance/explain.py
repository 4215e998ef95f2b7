"""Why an image is in a distilled set, from the set's own records (host)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from infoutil_jax import kinds
from infoutil_jax.app.governance.again import forgotten_of, opened
from infoutil_jax.data.card import printable
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.layout import METADATA, wrong
from infoutil_jax.data.sources import Source
from infoutil_jax.errors import InputError
from infoutil_jax.image import mosaic
from infoutil_jax.image.grid import edges
from infoutil_jax.method.recipes.rule import MAPS, SCORES, name_of, rule_of

CLASSES_SHOWN = 3
"""The most probable classes of a teacher that are told."""


def explain(
    distilled: DistilledDataset, image: int | str, *, source: Source | None = None
) -> dict[str, Any]:
    """Why an image is in a set: where its tiles come from, and what made the recipe keep them.

    Args:
        distilled: the set, whose own records say it all.
        image: number from 0, or file name, with or without its folders.
        source: what the set was distilled from; then it is said how many images of the class there
            are.

    Returns:
        What JSON can hold: `file`, `number`, `class`, `recipe`, `rule`, `score_is` (what scores
        are), `map_is` (None where nothing was attributed), `teacher` (the one that labelled),
        `pool` (images of a class that competed; None for all), `refined` (as in the records, in
        grey levels; None where pixels are the source's), and `tiles`: each with `source`,
        `example` and `crop` (None where it comes from no image), `class_images` (None without
        `source`), `box` (top, left, height, width in pixels), `box_share` (of the image's area),
        `map` (`in_box` and `whole`, the sums of its values, and `share`, None where the whole is
        not positive), `score`, `rank` (from 1) `of` how many tiles of the class, and
        `teacher_says` (classes and probabilities, the most probable first).

    Raises:
        InputError: no such image, records that do not say it, or another source.

    Examples:
        >>> explain(DistilledDataset.load("SET"), 0)["rule"]  # doctest: +SKIP
    """
    from infoutil_jax.app.report.gather import checked_records

    checked_records(distilled)
    counts = None if source is None else _counts(distilled, source)
    names = sorted(name for name in distilled.manifest["files"] if name.startswith("images/"))
    number = _number(distilled, names, image)
    manifest, record = distilled.manifest, distilled.records[number]
    recipe, label = manifest.get("recipe"), int(distilled.labels[number])
    recipe = recipe if isinstance(recipe, Mapping) else {"name": recipe, "crop": None}
    attribute = name_of(recipe.get("attribute"))
    useful = name_of(recipe.get("select")) == "MostUseful"
    score = SCORES.get(name_of(recipe.get("score")), name_of(recipe.get("score")))
    teacher = manifest.get("label_teacher") or {}
    return {
        "file": names[number],
        "number": number,
        "class": distilled.class_names[label],
        "recipe": str(recipe.get("name", "unknown")),
        "rule": str(manifest.get("rule") or rule_of(recipe)),
        "score_is": "nats of a kernel student's loss that it saves" if useful else score,
        "map_is": MAPS.get(attribute),
        "teacher": {name: teacher.get(name) for name in ("name", "stage", "accuracy")},
        "pool": pool if kinds.count(pool := manifest.get("pool")) else None,
        "refined": _refined(distilled, record.get("refined")),
        "tiles": [
            _tile(distilled, counts, label, tile, logits)
            for tile, logits in zip(
                record["tiles"], distilled.teacher_logits[number].astype(np.float64), strict=True
            )
        ],
    }


def _counts(distilled: DistilledDataset, source: Source) -> np.ndarray:
    """How many training images of each class can take part.

    Raises:
        InputError: another source.
    """
    numbered = opened(distilled, source)
    labels = np.delete(numbered.train.labels, forgotten_of(distilled))
    counts = np.bincount(labels, minlength=len(distilled.class_names))
    for name, own in numbered.filled.items():  # copies are no images of their own
        label = numbered.class_names.index(name)
        counts[label] = min(counts[label], own)
    return counts


def _refined(distilled: DistilledDataset, about: Any) -> Any:
    """How far an image was refined, as the records say it.

    Raises:
        InputError: they say something else there.
    """
    right = isinstance(about, Mapping) and all(kinds.number(about.get(n)) for n in ("rms", "most"))
    if about is not None and not right:
        wrong(distilled.path / METADATA, f"has refined {kinds.short(about)}; it should be a change")
    return about


def _number(distilled: DistilledDataset, names: Sequence[str], image: int | str) -> int:
    """Which row of the set is meant.

    Raises:
        InputError: none, or several.
    """
    text = str(image)
    if text.isascii() and text.isdigit():
        found = [int(text)] if int(text) < len(names) else []
    else:
        found = [
            i
            for i, name in enumerate(names)
            if f"/{name}".endswith(f"/{text}") or f"/{text}".endswith(f"/{name}")
        ]
    if len(found) != 1:
        raise InputError(
            f"{distilled.path} has {'several images' if found else 'no image'} {text}: give a "
            f"number from 0 to {len(names) - 1}, or a file such as {names[0]}"
        )
    return found[0]


def _tile(
    distilled: DistilledDataset,
    counts: np.ndarray | None,
    label: int,
    tile: Mapping[str, Any],
    logits: np.ndarray,
) -> dict[str, Any]:
    """What is known of one tile."""
    size = (distilled.images.shape[1], distilled.images.shape[2])
    probabilities = softmax(logits)
    first = np.argsort(-probabilities, kind="stable")[:CLASSES_SHOWN]
    box = tile["box"]
    count = None if counts is None else int(counts[label])
    mine = distilled.labels == label
    return {
        **{name: tile[name] for name in ("source", "example")},
        "crop": tile.get("crop"),
        "class_images": count,
        "box": box,
        "box_share": None if box is None else box[2] * box[3] / (size[0] * size[1]),
        "map": _map(distilled, tile, size),
        "score": tile["score"],
        "rank": tile["rank"] + 1,
        "of": int(mine.sum()) * distilled.soft_labels.shape[1],
        "teacher_says": [
            {"class": distilled.class_names[i], "probability": float(probabilities[i])}
            for i in first
        ],
    }


def _map(
    distilled: DistilledDataset, tile: Mapping[str, Any], size: tuple[int, int]
) -> dict[str, float | None] | None:
    """The sum of a map in a box, each patch by the share of it that is inside."""
    values, box = tile["map"], tile["box"]
    if values is None or box is None:
        return None
    if len({len(line) for line in values}) > 1:
        wrong(distilled.path / METADATA, "has a map whose lines differ in length")
    if np.size(values) < 2:
        return None
    grid = np.asarray(values, np.float64)
    if grid.shape[0] > size[0] or grid.shape[1] > size[1]:
        wrong(distilled.path / METADATA, "has a map that is no grid of patches of an image")
    inside = np.outer(
        *(_shares(size[axis], grid.shape[axis], box[axis], box[axis + 2]) for axis in (0, 1))
    )
    whole, in_box = float(grid.sum()), float((grid * inside).sum())
    return {"in_box": in_box, "whole": whole, "share": in_box / whole if whole > 0 else None}


def _shares(size: int, parts: int, start: float | int, length: float | int) -> np.ndarray:
    """How much of each of an axis's patches lies in a box."""
    border = edges(size, parts)
    shared = np.minimum(border[1:], start + length) - np.maximum(border[:-1], start)
    return np.asarray(np.maximum(shared, 0) / np.diff(border))


def in_words(told: Mapping[str, Any]) -> str:
    """What `explain` has returned, for people."""
    tiles = told["tiles"]
    lines = [f"{told['file']}, class {told['class']!r}", f"rule: {told['rule']}"]
    for number, tile in enumerate(tiles, 1):
        lines += [f"tile {number} of {len(tiles)}, by rows"] if len(tiles) > 1 else []
        indent = "  " * (len(tiles) > 1)
        lines += [indent + line for line in (_origin(tile), *_why(told, tile))]
    about = told["refined"]
    if about is not None:
        lines.append(
            f"refined: its pixels were changed since, by {about['most']:g} grey levels of 255 at "
            f"most, {about['rms']:g} in the root of the mean square"
        )
    return "\n".join(printable(line) for line in lines)


def _origin(tile: Mapping[str, Any]) -> str:
    if None in (tile["source"], tile["example"], tile["box"]):
        return "from: no image of a source"
    top, left, height, width = tile["box"]
    where = f"rows {top} to {top + height - 1}, columns {left} to {left + width - 1}"
    what = "all of it" if tile["box_share"] == 1 else f"{where} ({tile['box_share']:.0%} of it)"
    return f"from: {tile['source']} (training image {tile['example']}), {what}"


def _why(told: Mapping[str, Any], tile: Mapping[str, Any]) -> list[str]:
    lines, about = [], tile["map"]
    if about is not None and told["map_is"]:
        share = "" if about["share"] is None else f", {about['share']:.0%} of the whole"
        whole = f"{about['whole']:.3g}"
        lines.append(
            f"map: the {told['map_is']} in the box sum to {about['in_box']:.3g}{share} ({whole})"
        )
    competed = told["pool"]
    if tile["class_images"] is not None:
        competed = min(competed or tile["class_images"], tile["class_images"])
    among = f"up to {competed}" if tile["class_images"] is None else f"{competed}"
    pool = "all images" if competed is None else f"{among} images"
    lines.append(f"score: {tile['score']:.4g}, {told['score_is']}")
    lines.append(f"rank: {tile['rank']} of the {tile['of']} kept, from {pool} of its class")
    said = ", ".join(f"{one['class']} {one['probability']:.1%}" for one in tile["teacher_says"])
    teacher = " ".join(str(told["teacher"][n]) for n in ("stage", "name") if told["teacher"][n])
    lines.append(f"the teacher that labels{f' ({teacher})' if teacher else ''} says: {said}")
    return lines


def picture(distilled: DistilledDataset, number: int, source: Source, path: Path) -> None:
    """Draws an image, and of each tile its origin with the map and the box.

    Args:
        distilled: the set.
        number: of the image.
        source: what it was distilled from.
        path: where the picture goes, as PNG, PDF or SVG by its ending.

    Raises:
        InputError: another source, or an image that comes from none.
    """
    from infoutil_jax.app.figures import origins

    tiles = distilled.records[number]["tiles"]
    if any(tile["example"] is None for tile in tiles):
        raise InputError(f"image {number} of {distilled.path} comes from no image of a source")
    cut = mosaic.split(distilled.images[number : number + 1], len(tiles))[0]
    origins(opened(distilled, source), list(zip(tiles, cut, strict=True)), path)
