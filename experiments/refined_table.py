"""Writes the table of refined sets, of the lines of `experiments.refined`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.leads import lead, spread
from infoutil_jax import provenance
from infoutil_jax.app.config import tiling
from infoutil_jax.refine import REFINERS
from infoutil_jax.refine.recipes import infoutil_refined

TITLES = {
    "validation": "a fifth of the training images, by which refiners are chosen",
    "test": "test images",
}
SOFT = ("learnt", "stored")
"""Kinds of labels that end a student's name in a line."""
CROPS = ("hard", "stored")
"""Labels of crops that are not refined."""
BEST = "the best"
"""Student of each set."""
REFINER = REFINERS["frepo"]
HELD = "statistics held"
"""Lines from before a set was improved for how real images are normalised by its statistics."""
CLASSES, SIDE = 10, 32
"""Of CIFAR-10; pixels."""

Drawn = tuple[int, tuple[float, ...]]
"""A set: its seed, and by which teachers it was chosen, as their top-1 tells. The same seed and
another teacher are other crops."""
Sets = dict[Drawn, float]
"""Mean top-1 of each set's students."""


def write_tables(results: Path) -> None:
    """`table.md` of all lines in a folder."""
    text = ["# Refined sets", "", "Made by `python -m experiments.refined --tables`."]
    for where, title in TITLES.items():
        for file in sorted(results.glob(f"*_{where}.jsonl")):
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            text += ["", f"## {lines[0]['dataset']}: {title}", "", _about(lines[0]), ""]
            text += [*_table(lines), *_leads(lines)]
    (results / "table.md").write_text("\n".join(text) + "\n")


def _about(line: dict[str, Any]) -> str:
    return (
        f"Reduced: {line['reduced']}; {line['source']['train_images']:,} training and "
        f"{line['source']['test_images']:,} test images. "
        "Top-1 in percent: mean ± standard deviation over students of one set. Students "
        "learn hard labels, or where it says so those that were learnt with the pixels, or the "
        "teacher's, as a set that is not refined stores them; no teacher "
        "helps them while they train. Of several tiles each is an image of its own. Seconds are "
        "of refining; a line that takes up a set which another has refined says few."
    )


def _table(lines: list[dict[str, Any]]) -> list[str]:
    rows = ["| images a class | start | refiner | steps | labels | student | top-1 | seconds |"]
    rows.append("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for line in sorted(lines, key=_order):
        arguments, refiner = line["arguments"], line.get("refiner", {})
        extra = [
            f"{what} {arguments[what]:g}"
            for what in ("total_variation", "distance")
            if arguments[what]
        ]
        if refiner.get("labels") == "learnt":
            extra.append("learnt labels")
        if arguments.get("norm"):
            extra.append(f"{arguments['norm']} norm")
        if "greatest_age" in (objective := refiner.get("objective", {})):
            extra.append(f"greatest age {objective['greatest_age']}")
        usual = getattr(REFINERS.get(arguments["refiner"]), "batch_size", None)
        if refiner.get("batch_size", usual) != usual:
            extra.append(f"{refiner['batch_size']} real images a step")
        usually = provenance.describe(REFINER)["objective"]
        for what in ("error", "normalised_by"):
            found = objective.get(what, usually[what])
            if arguments["refiner"] == "frepo" and found != usually[what]:
                extra.append(f"{what} {found}")
        if refiner and not refiner.get("mirrored"):
            extra.append("none mirrored")
        if _held(line):
            extra.append(HELD)
        tiles = arguments.get("tiles", 1)
        start = arguments["start"] + (f", {tiles} tiles" if tiles > 1 else "")
        name = ", ".join([arguments["refiner"], *extra]).replace("_", " ")
        for student, found in line["students"].items():
            who, kind = _named(student)
            steps = refiner.get("steps", "")
            seconds = line.get("seconds", "")
            rows.append(
                f"| {arguments['budget']} | {start} | {name} | {steps} | {kind} | "
                f"{who} | {_mean(found['top1'])} | {seconds} |"
            )
    return rows


def _leads(lines: list[dict[str, Any]]) -> list[str]:
    """What `infoutil_refined` is ahead of crops by, set by set."""
    found: dict[tuple[int, str, str], Sets] = {}
    for budget, kind, student, drawn, top1 in _measured(lines):
        for name in (student, BEST):
            sets = found.setdefault((budget, kind, name), {})
            sets[drawn] = max(top1, sets.get(drawn, 0.0))
    rows = []
    for (budget, kind, name), ours in sorted(found.items()):
        if kind not in CROPS:
            leads = [_lead(ours, found.get((budget, other, name), {})) for other in CROPS]
            figures = f"{len(ours)} | {spread(list(ours.values()))}"
            rows.append(f"| {budget} | {name} | {figures} | {' | '.join(leads)} |")
    head = [
        "",
        "`infoutil_refined` beside `infoutil`'s crops of the same sets: mean ± "
        "standard deviation over sets, and leads with their 95% intervals over sets. Crops are of "
        "one tile an image or four, whichever these very images say is better. So is the best "
        "student, of those that were run, which are not always the same of both: such rows say "
        "what the best could be, and choose nothing.",
        "",
        "| images a class | student | sets | refined | over crops, their classes | "
        "over crops, the teacher's labels |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    return head + rows if rows else []


def _lead(ours: Sets, theirs: Sets) -> str:
    both = len(ours.keys() & theirs.keys())
    return lead(ours, theirs) + (f" (sets: {both})" if 0 < both < len(ours) else "")


def _measured(lines: list[dict[str, Any]]) -> Iterator[tuple[int, str, str, Drawn, float]]:
    """Budget, kind of labels, student, set and mean top-1."""
    for line in lines:
        arguments = line["arguments"]
        ours, crops = _is_recipes(line), arguments["refiner"] == "none"
        if arguments["start"] != "infoutil" or not (ours or crops):
            continue
        drawn = arguments["set_seed"], tuple(sorted(line["teacher_top1"].values()))
        for student, one in line["students"].items():
            name, kind = _named(student)
            if crops or kind == "learnt":
                top1 = statistics.mean(one["top1"])
                yield arguments["budget"], kind, name, drawn, top1


def _is_recipes(line: dict[str, Any]) -> bool:
    """Whether a line's set is refined as `infoutil_refined` does it, for students of any width."""
    budget = line["arguments"]["budget"]
    tiles = tiling(infoutil_refined, (SIDE, SIDE), budget, fewest=1000)["tiles"]
    ours = REFINER.sized(budget * CLASSES * tiles)
    found, described = line.get("refiner", {}), provenance.describe(ours)
    network = {**found.get("network", {}), "width": described["network"]["width"]}
    same = line["arguments"].get("tiles", 1) == tiles and {**found, "network": network} == described
    return same and not _held(line)


def _held(line: dict[str, Any]) -> bool:
    return line["arguments"].get("statistics") == "held"


def _named(student: str) -> tuple[str, str]:
    """A student's name in a line, without its kind of labels, and that kind."""
    kind = next((one for one in SOFT if student.endswith(f", {one} labels")), "hard")
    return student.removesuffix(f", {kind} labels"), kind


def _order(line: dict[str, Any]) -> tuple[Any, ...]:
    arguments = line["arguments"]
    steps = line.get("refiner", {}).get("steps", 0)
    return (arguments["budget"], arguments["refiner"], arguments["start"], steps, line["name"])


def _mean(values: list[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"
