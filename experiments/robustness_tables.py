"""Writes the tables of `docs/robustness.md`, of the lines of `experiments.robustness`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments import store
from experiments.small import SMALL
from infoutil_jax.app.accounts import mean_interval

PAGE = Path(__file__).parents[1] / "docs" / "robustness.md"
FAMILIES = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    "blur": ("defocus_blur", "gaussian_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness", "spatter"),
    "the rest": ("contrast", "saturate", "elastic_transform", "pixelate", "jpeg_compression"),
}
TEACHERS = {
    "own": "the set's own",
    "other_half": "of the other half of the images",
    "tenth": "of a tenth of the images",
    "validation_images": "of the validation images",
    "other_labels": "of labels at random",
    "untrained": "none: at random",
}
MISSING = {"mean": "mean colour", "blur": "the image, blurred", "dark": "its lowest values"}
POLICIES = {
    "cap": "as many as the rarest class",
    "own": "as many as a class has",
    "fill": "filled with other crops",
    "proportional": "in proportion",
}
Line = dict[str, Any]


def write_tables(results: Path, page: Path = PAGE) -> None:
    """Puts the tables of all lines between the marks of a page."""
    page.write_text(filled(page.read_text(), results))


def filled(text: str, results: Path) -> str:
    """A page's text with the tables of the lines in a folder between its marks."""
    for study in re.findall(r"<!-- end of (\w+) -->", text):
        lines = list(store.read(results / f"{FILES.get(study, study)}.jsonl", _name).values())
        rows = "\n".join(TABLES[study](lines))
        mark = rf"(<!-- {study} -->\n).*?(\n?<!-- end of {study} -->)"
        text = re.sub(mark, partial(_between, rows), text, flags=re.S)
    return text


def _between(rows: str, marks: re.Match[str]) -> str:
    return f"{marks[1]}\n{rows}\n\n{marks[2].lstrip()}"


def _name(line: Line) -> str:
    return str(line["name"])


def _table(head: str, rows: Iterator[Sequence[Any]]) -> list[str]:
    columns = head.count("|") + 1
    return [
        f"| {head} |",
        "|" + " --- |" * columns,
        *(f"| {' | '.join(map(str, r))} |" for r in rows),
    ]


def _mean(values: Sequence[float]) -> str:
    mean, half = mean_interval(list(values))
    return f"{mean:.1f}" if half is None else f"{mean:.1f} ± {half:.1f}"


def _lead(ours: Sequence[float], theirs: Sequence[float]) -> str:
    mean, half = mean_interval([a - b for a, b in zip(ours, theirs, strict=True)])
    return f"{mean:+.1f}" if half is None else f"{mean:+.1f} ± {half:.1f}"


def _title(line: Line) -> str:
    return SMALL[line["dataset"]].title


def _over(kinds: Line, names: Sequence[str]) -> np.ndarray:
    """Each set's mean over kinds and severities."""
    found = [values for name in names if name in kinds for values in kinds[name].values()]
    return np.mean(found, axis=0)


def _shift(lines: list[Line]) -> list[str]:
    def rows() -> Iterator[Sequence[Any]]:
        for line in lines:
            found = line["corrupted"]
            families = [_mean(_over(found, names).tolist()) for names in FAMILIES.values()]
            every = _mean(_over(found, list(found)).tolist())
            yield _title(line), line["recipe"], _mean(line["clean"]), every, *families

    return _table("dataset | set | clean | corrupted | " + " | ".join(FAMILIES), rows())


def _attacked(lines: list[Line]) -> list[str]:
    def rows() -> Iterator[Sequence[Any]]:
        for line in lines:
            shown = [_mean(line["attacked"][how][size]) for how, size in SHOWN]
            yield _title(line), line["recipe"], _mean(line["clean"]), *shown

    heads = " | ".join(f"{how.upper()}, {size} of 255" for how, size in SHOWN)
    return _table(f"dataset | set | clean | {heads}", rows())


SHOWN = (("fgsm", "2"), ("fgsm", "8"), ("pgd", "2"), ("pgd", "8"))


def _noise(lines: list[Line]) -> list[str]:
    drawn = {(one["dataset"], one["rate"]): one for one in lines if one["recipe"] == "random"}

    def rows() -> Iterator[Sequence[Any]]:
        for line in lines:
            top1, rival = line["top1"], drawn[line["dataset"], line["rate"]]["top1"]
            shown = [_mean(one) for one in (line["wrong_kept"], top1["online"], top1["hard"])]
            over = "" if rival is top1 else _lead(top1["hard"], rival["hard"])
            yield _title(line), f"{line['rate']}%", line["recipe"], *shown, over

    lines = sorted(lines, key=lambda line: (line["dataset"], line["rate"], line["recipe"]))
    head = "dataset | wrong in the source | set | wrong in the set, % | top-1, online | top-1, hard"
    return _table(f"{head} | over random, hard", rows())


def _doubts(lines: list[Line]) -> list[str]:
    def share(part: int, whole: int) -> str:
        return f"{100 * part / whole:.0f}%" if whole else ""

    def rows() -> Iterator[Sequence[Any]]:
        for line in lines:
            for stage in ("early", "converged"):
                told, right = line["doubted"][stage]["3"]
                found = share(right, told), share(right, line["wrong"])
                name = f"{line['rate']}%"
                counts = line["kept"], line["wrong"], told
                yield _title(line), name, line["recipe"], stage, *counts, *found

    lines = sorted(lines, key=lambda line: (line["dataset"], line["rate"], line["recipe"]))
    head = "dataset | wrong in the source | set | teacher asked | kept | of these wrong | doubted"
    return _table(f"{head} | precision | recall", rows())


def _teachers(lines: list[Line]) -> list[str]:
    by = {(line["dataset"], line["teacher"], line["recipe"]): line for line in lines}

    def rows() -> Iterator[Sequence[Any]]:
        for dataset in dict.fromkeys(line["dataset"] for line in lines):
            for teacher, title in TEACHERS.items():
                ours, drawn = (by.get((dataset, teacher, one)) for one in ("infoutil", "random"))
                if not ours or not drawn:
                    continue
                stage = ours["labelled_by"]
                accuracy = f"{ours['accuracy'][stage]:.1f}"
                figures = [
                    shown
                    for policy in ("online", "hard")
                    for shown in (
                        _mean(ours["top1"][policy]),
                        _lead(ours["top1"][policy], drawn["top1"][policy]),
                    )
                ]
                yield SMALL[dataset].title, title, accuracy, *figures

    head = "dataset | teacher | its accuracy | infoutil, online | over random"
    return _table(f"{head} | infoutil, hard | over random", rows())


def _missing(lines: list[Line]) -> list[str]:
    order = list(MISSING)
    lines = sorted(lines, key=lambda line: (line["dataset"], order.index(line["missing"])))
    colour = {line["dataset"]: line for line in lines if line["missing"] == "mean"}

    def rows() -> Iterator[Sequence[Any]]:
        for line in lines:
            cells = []
            for labels in ("online", "hard"):
                found, rival = (one["top1"][labels] for one in (line, colour[line["dataset"]]))
                cells += [_mean(found), "" if found is rival else _lead(found, rival)]
            crops = f"{line['same_window']:.0f}%", _mean(line["own_class"])
            yield _title(line), MISSING[line["missing"]], *crops, *cells

    head = "dataset | an absent patch shows | same window as with the mean colour"
    head = f"{head} | crops of their class, % | top-1, online | over the mean colour"
    return _table(f"{head} | top-1, hard | over the mean colour", rows())


def _views(lines: list[Line]) -> list[str]:
    mirrored = {line["dataset"]: line for line in lines if line["views"] == "mirrored"}

    def rows() -> Iterator[Sequence[Any]]:
        for line in lines:
            cells = []
            for labels in ("online", "hard"):
                found, rival = (one["top1"][labels] for one in (line, mirrored[line["dataset"]]))
                cells += [_mean(found), "" if found is rival else _lead(found, rival)]
            yield _title(line), line["views"], f"{line['teacher']:.1f}", *cells

    head = "dataset | images are | teacher | top-1, online | over mirrored"
    return _table(f"{head} | top-1, hard | over mirrored", rows())


def _where(line: Line) -> tuple[str, str]:
    return line["dataset"], line["recipe"]


def _imbalance(lines: list[Line]) -> list[str]:
    capped = {_where(line): line for line in lines if line["policy"] == "cap"}

    def rows() -> Iterator[Sequence[Any]]:
        for line in lines:
            cells = []
            for labels in ("online", "hard"):
                found, rival = (one["students"][labels] for one in (line, capped[_where(line)]))
                over = "" if found is rival else _lead(found["balanced"], rival["balanced"])
                cells += [_mean(found["balanced"]), over, _mean(found["rare"])]
            policy = POLICIES[line["policy"]]
            yield _title(line), line["recipe"], policy, line["images"], *cells

    order = list(POLICIES)
    lines = sorted(lines, key=lambda line: (*_where(line), order.index(line["policy"])))
    head = "dataset | set | budget of a class | images | online: balanced | over the first"
    return _table(f"{head} | rare classes | hard: balanced | over the first | rare classes", rows())


FILES = {"attacked": "shift"}
"""Where lines of another study make a table."""
TABLES: dict[str, Callable[[list[Line]], list[str]]] = {
    "shift": _shift,
    "attacked": _attacked,
    "noise": _noise,
    "doubts": _doubts,
    "teachers": _teachers,
    "missing": _missing,
    "views": _views,
    "imbalance": _imbalance,
}
