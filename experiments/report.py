"""Renders the stored results: tables in Markdown, figures, and the README's results.

    python -m experiments.report

A cell without a result is shown as "not run". A table compares results under one teacher only:
those of another teacher, another machine's for instance, get a table of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import tyro

from experiments.cells import METHODS, ROWS
from experiments.datasets import DATASETS
from experiments.figures import accuracy
from experiments.store import Key, Result
from experiments.store import cells as stored
from experiments.tables import TABLES, Table
from infoutil_jax.training.ranking import augmentation_robust_score, label_robust_score

HERE = Path(__file__).parent
RESULTS = HERE / "results"
README = HERE.parent / "README.md"
README_SETTING = "cifar10_convnet3"
README_ROWS = ("infoutil_kernel", "rded", "random", "k_means", "infoutil_paper_gp")
OURS = "infoutil_kernel"
RIVALS = ("infoutil_paper_gp", "rded", "random", "herding", "k_means", "forgetting", "grad_cam")
ONE_TEACHER = "rded-by-early"  # up to 10 images a class the early teacher labels, and scores here
FIGURE_ROWS = (
    *("infoutil_paper_gp", "infoutil_clear", "infoutil_kernel", "rded", ONE_TEACHER, "random"),
    *("herding", "k_means", "forgetting", "grad_cam", "sre2l", "everything"),
)
REDUCED = "_reduced"
FAIR = ("online", "stored", "hard", "plain views", "LRS", "ARS", "images", "labels")


def load(folder: Path) -> list[Result]:
    """The results of a setting's folder, by teacher, the teacher with the most results first."""
    found = list(stored(folder).values())
    teachers = [_teacher(result) for result in found]
    return sorted(found, key=lambda r: (-teachers.count(_teacher(r)), _teacher(r)))


def _teacher(result: Result) -> str:
    digest: str = result["teacher_digest"]["converged"]
    return digest


def by_teacher(results: Iterable[Result]) -> list[dict[tuple[str, int], Result]]:
    """For each teacher (row, budget) -> result, where several sets of a cell are pooled."""
    groups: dict[str, dict[tuple[str, int], list[Result]]] = {}
    for result in results:
        key = Key.of(result)[:2]
        groups.setdefault(_teacher(result), {}).setdefault(key, []).append(result)
    return [{key: _pooled(sets) for key, sets in group.items()} for group in groups.values()]


def _pooled(sets: list[Result]) -> Result:
    """The first set's result, with the students of all sets."""
    first = min(sets, key=Key.of)
    if len(sets) == 1:
        return first
    top1 = np.array([value for result in sets for value in result["student"]["top1"]])
    student = {"top1": top1.tolist(), "top1_mean": top1.mean(), "top1_std": top1.std(ddof=1)}
    student = {**first["student"], **student}
    return {**first, "student": student, "sets": len(sets), "first": first, "each": sets}


def top1(result: Result | None, step: int = -1) -> str:
    """Mean and standard deviation over students, as text; "not run" where there is no result."""
    if result is None:
        return "not run"
    student = result["student"] if step == -1 else result["steps"][step]
    deviation = "" if student["top1_std"] is None else f" ± {student['top1_std']:.1f}"
    sets = f" ({result['sets']} sets)" if "sets" in result else ""
    return f"{student['top1_mean']:.1f}{deviation}{sets}"


def heading(group: dict[tuple[str, int], Result]) -> str:
    """Tells under which conditions the group's figures were measured."""
    first = next(iter(group.values()))
    teacher = ", ".join(f"{stage} {value:.1f}" for stage, value in first["teacher_top1"].items())
    student = first["teacher_options"]["backbone"]
    text = (
        f"{first['dataset']}, {student} teacher and student. Top-1 in percent, mean ± standard "
        f"deviation over students, one student where no deviation stands, of one distilled set "
        f"where no number stands; the paper's figure in brackets. Teacher: {teacher}."
    )
    pool = first["arguments"]["pool"]
    less = f", {pool} of which compete" if pool < 300 else ""
    text += f" Reduced: {first['reduced']}{less}." if first["reduced"] else ""
    counts = Counter(r["hardware"]["device"] for r in group.values()).most_common()
    return text + " Cells by device: " + ", ".join(f"{d} {n}" for d, n in counts) + "."


def teachers(group: dict[tuple[str, int], Result]) -> list[str]:
    """Table of the teachers' accuracy and calibration."""
    first = next(iter(group.values()))
    lines = ["| teacher | top-1 | calibration error | entropy, nats |", "|" + " --- |" * 4]
    for stage, measured in first["teacher_calibration"].items():
        lines.append(
            f"| {stage} | {first['teacher_top1'][stage]:.1f} | {measured['ece']:.3f} | "
            f"{measured['entropy']:.2f} |"
        )
    return lines


def cost(group: dict[tuple[str, int], Result]) -> list[str]:
    """Seconds from trained teacher to files, by method and budget (the paper's Figure 3)."""
    return _by_budget(group, METHODS, "distill_seconds", "{:.0f}")


def agreement(group: dict[tuple[str, int], Result]) -> list[str]:
    """Share of the kept crops that the labelling teacher assigns to their class."""
    rows = [*METHODS, *(row for row in TABLES["why"].rows if row not in METHODS)]
    return _by_budget(group, rows, "labels_agree", "{:.2f}")


def _by_budget(
    group: dict[tuple[str, int], Result], rows: Iterable[str], what: str, shown: str
) -> list[str]:
    budgets = sorted({budget for _, budget in group if budget})
    lines = _header(f"{b} / class" for b in budgets)
    for row in rows:
        cells = [group.get((row, budget)) for budget in budgets]
        if any(cells):
            texts = ["not run" if c is None else shown.format(c[what]) for c in cells]
            lines.append(f"| {row} | " + " | ".join(texts) + " |")
    return lines


def _header(titles: Iterable[str]) -> list[str]:
    names = list(titles)
    return ["| | " + " | ".join(names) + " |", "|" + " --- |" * (len(names) + 1)]


def render(
    table: Table, dataset: str, backbone: str, group: dict[tuple[str, int], Result]
) -> list[str]:
    """Lines of a Markdown table, with the paper's figures beside ours.

    A column is a budget or, for rows of several steps, a step at the table's first budget. Rows
    without any figure, ours or the paper's, are listed below the table.
    """
    budgets = sorted({b for _, b in group if b} | set(table.budgets))
    columns = [(f"{budget} / class", budget, budget, -1) for budget in budgets]
    steps = ROWS[table.rows[0]].steps
    if steps > 1:
        first = table.budgets[0]
        columns = [(f"step {step + 1}", first, step, step) for step in range(steps)]
    lines = _header(title for title, *_ in columns)
    bare = []
    for row in table.rows:
        if row == "everything":
            cells = [top1(group.get((row, 0))), *[""] * (len(columns) - 1)]
        else:
            cells = []
            for _, budget, published, step in columns:
                paper = table.paper(dataset, backbone, row, published)
                beside = "" if paper is None else f" [{paper}]"
                cells.append(top1(group.get((row, budget)), step) + beside)
        if set(cells) <= {"not run", ""}:
            bare.append(row)
        else:
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return [*lines, "", f"Not run: {', '.join(bare)}."] if bare else lines


def fairness(group: dict[tuple[str, int], Result], budget: int) -> list[str]:
    """Table that separates the images' merit from that of labels and augmentation.

    It has top-1 by label policy, DD-Ranking's label- and augmentation-robust scores (LRS and ARS,
    Li et al. 2025), where the accuracies that they compare are known, and the bytes stored. Of
    several distilled sets it shows the first, the only one with every policy.
    """
    group = {cell: result.get("first", result) for cell, result in group.items()}
    ends = {"online": "", "stored": "-stored", "hard": "-hard", "plain views": "-plain-views"}

    def mean(row: str, end: str) -> float | None:
        result = group.get((row + end, 0 if row == "everything" else budget))
        return None if result is None else result["student"]["top1_mean"]

    full = mean("everything", "")
    methods = sorted({row for row, _ in group if (row + "-hard", budget) in group})
    lines = _header(FAIR)
    for method in methods:
        mine = {what: mean(method, end) for what, end in ends.items()}
        chance = {what: mean("random", end) for what, end in ends.items()}
        lrs = _if_known(label_robust_score, full, mine["hard"], mine["online"], chance["online"])
        pairs = [who[what] for what in ("online", "plain views") for who in (mine, chance)]
        ars = _if_known(augmentation_robust_score, *pairs)
        cells = [top1(group.get((method + end, budget))) for end in ends.values()]
        cells += ["not run" if score is None else f"{score:.1f}" for score in (lrs, ars)]
        storage = group[method + "-hard", budget]["storage"]
        stored = group.get((method + "-stored", budget))
        cells.append(f"{storage['images'] / 1e3:.0f} kB")
        cells.append("not run" if stored is None else f"{stored['storage']['labels'] / 1e3:.1f} kB")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines if methods else []


def lead(group: dict[tuple[str, int], Result]) -> list[str]:
    """Our best recipe's accuracy and its lead over the best rival, by label policy and budget.

    The lead is that on the first distilled set, which every recipe has; where ours has several, a
    second one compares means over them with those of the rivals that have the same sets.
    """
    budgets = sorted({b for _, b in group if b})
    lines = _header(f"{b} / class" for b in budgets)
    for policy in ("online", "stored", "hard"):
        end, cells = "" if policy == "online" else f"-{policy}", []
        for budget in budgets:
            rivals = RIVALS if budget > 10 else (*RIVALS, ONE_TEACHER)
            by_set = {
                row: {
                    Key.of(one).set_seed: one["student"]["top1_mean"]
                    for one in found.get("each", [found])
                }
                for row in (OURS, *rivals)
                if (found := group.get((row + end, budget)))
            }
            ours = by_set.pop(OURS, {})
            if 0 not in ours or not by_set:
                cells.append("not run")
                continue
            shown = group[OURS + end, budget]
            of = f", of {len(by_set)}" if len(by_set) < len(rivals) else ""
            leads = [_ahead(ours, by_set, [0]) + of]
            known = {row: sets for row, sets in by_set.items() if ours.keys() <= sets.keys()}
            if len(ours) > 1 and known:
                leads.append(f"of {len(ours)} sets {_ahead(ours, known, list(ours))}")
            cells.append(f"{top1(shown.get('first', shown))} ({'; '.join(leads)})")
        lines.append(f"| {policy} | " + " | ".join(cells) + " |")
    return lines


def _ahead(ours: dict[int, float], by_set: dict[str, dict[int, float]], sets: list[int]) -> str:
    """Our mean over the sets minus the best rival's, and the rival's name."""
    means = {row: np.mean([found[s] for s in sets]) for row, found in by_set.items()}
    rival = max(means, key=lambda row: means[row])
    return f"{np.mean([ours[s] for s in sets]) - means[rival]:+.1f}, {rival}"


def _if_known(score: Callable[..., float], *accuracies: float | None) -> float | None:
    known = [value / 100 for value in accuracies if value is not None]
    return 100 * score(*known) if len(known) == len(accuracies) else None


def page(results: Path) -> str:
    """One Markdown page of all tables of all settings that have results."""
    lines = [
        "# Results",
        "",
        "Rendered by `python -m experiments.report` from the JSON lines here.",
    ]
    for folder in settings(results):
        dataset, backbone = named(folder)
        title = f"## {DATASETS[dataset].title}, {backbone}" + ", reduced" * folder.endswith(REDUCED)
        groups = by_teacher(load(results / folder))
        for group in groups:
            lines += ["", title, "", heading(group), ""]
            lines += teachers(group)
            if group is groups[0]:
                lines += ["", f"![Top-1 by images a class]({folder}/accuracy.png)"]
            main = TABLES["table1"]
            for name, table in TABLES.items():
                # `experiments.leads` renders the one, docs/sharp_edges.md shows the other.
                if name in ("recommended", "dsa"):
                    continue
                # Show another table only if it has results in rows that the main one lacks.
                rows = set(table.rows) - (set(main.rows) if table is not main else set())
                if any((row, b) in group for row in rows for b in (0, *table.budgets)):
                    lines += ["", f"### {table.title}", ""]
                    lines += render(table, dataset, backbone, group)
            if any(row == OURS for row, _ in group):
                lines += ["", f"### {OURS}, and its lead over the best of the others"]
                lines += ["", *lead(group)]
            lines += ["", "### Seconds to distil, from a trained teacher (Figure 3)"]
            lines += ["", *cost(group)]
            lines += ["", "### Share of kept crops that the teacher takes for their class"]
            lines += ["", *agreement(group)]
            for budget in sorted({b for _, b in group if b}):
                if fair := fairness(group, budget):
                    lines += ["", f"### Fairness at {budget} images a class", "", *fair]
    return "\n".join(lines) + "\n"


def settings(results: Path) -> list[str]:
    """Names of the folders that have results of cells."""
    folders = sorted({path.parent.name for path in results.glob("*_*/*.jsonl")})
    return [folder for folder in folders if named(folder)[0] in DATASETS]


def named(folder: str) -> tuple[str, str]:
    """(dataset, backbone) of a setting's folder."""
    dataset, _, backbone = folder.removesuffix(REDUCED).rpartition("_")
    return dataset, backbone


def summary(results: Path) -> str:
    """The table in the project's README: the main rows of one setting."""
    dataset, backbone = named(README_SETTING)
    main = TABLES["table1"]
    table = Table(main.title, main.settings, README_ROWS, main.budgets, main.paper)
    lines: list[str] = []
    for group in by_teacher(load(results / README_SETTING))[:1]:
        lines += [heading(group), "", *render(table, dataset, backbone, group), ""]
    return "\n".join(lines)


def write_reports(results: Path) -> None:
    """Write `README.md` and a figure for each setting into `results`.

    The committed results go into the project's README, too.
    """
    (results / "README.md").write_text(page(results))
    for folder in settings(results):
        for group in by_teacher(load(results / folder))[:1]:
            drawn = accuracy(group, FIGURE_ROWS)
            drawn.savefig(results / folder / "accuracy.png", dpi=110)
    if results.resolve() == RESULTS.resolve():
        before, start, rest = README.read_text().partition("<!-- results -->\n")
        _, end, after = rest.partition("<!-- /results -->")
        README.write_text(before + start + summary(results) + end + after)


def main(results: Path = RESULTS) -> None:
    """Render the results of a folder."""
    write_reports(results)


if __name__ == "__main__":
    tyro.cli(main)
