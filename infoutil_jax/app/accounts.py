"""Teachers and accuracies, in words (host; runs once)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.manifest import labels_are_learnt
from infoutil_jax.data.sources import Source
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.training.config import StudentConfig
from infoutil_jax.training.teacher import Teacher


def account_of(
    teachers: Mapping[str, Teacher], labeller: Teacher, source: Source
) -> tuple[str, dict[str, float]]:
    """What is to be known of the teachers before hours are spent.

    Returns:
        Sentences, and the figures in them, percent: accuracies by stage, the share of the test
        images that are of the largest class.
    """
    majority = 100 * float(np.bincount(source.test.labels).max()) / len(source.test)
    accuracies = {s: t.accuracy for s, t in teachers.items() if t.accuracy is not None}
    said = ", ".join(f"{stage} {accuracy:.1f}%" for stage, accuracy in accuracies.items())
    text = (
        f"teachers: {said} top-1 on test images, of which the largest class is {majority:.1f}%; "
        f"the {labeller.stage} one labels"
    )
    if labeller.accuracy is not None and labeller.accuracy < majority + (100 - majority) / 5:
        text += (
            f"\nwarning: the teacher that labels is near chance ({labeller.accuracy:.1f}% against "
            f"{majority:.1f}%), and students learn no more than it knows: train it longer, "
            "or give it more images, or larger ones"
        )
    return text, accuracies | {"majority": majority}


def tiles_in_words(recipe: Recipe) -> str:
    """A line on what an image's tiles are to students, where there are several."""
    if recipe.tiles == 1:
        return ""
    alone = ", each an image of its own to students" if recipe.parted else ""
    return f"\ntiles: {recipe.tiles} an image{alone}"


def protocol_in_words(student: StudentConfig) -> str:
    """A line on how students learn, where it is not RDED's way: labels on each view, and CutMix."""
    labels = {"stored": "stored labels", "hard": "classes alone"}.get(student.labels or "", "")
    parts = [f"learn {labels}"] if labels else []
    parts += ["see no mixed images"] if student.cutmix is False else []
    return f"students {' and '.join(parts)}" if parts else ""


def own_class_share(distilled: DistilledDataset) -> float:
    """Percent of a set's crops that are taken for their own class, by the teacher or as learnt."""
    return 100 * float(np.mean(distilled.teacher_logits.argmax(-1) == distilled.labels[:, None]))


def labels_in_words(distilled: DistilledDataset) -> str:
    """What the teacher takes a set's crops for, with a warning of classes that it never names."""
    count, named = distilled.soft_labels[..., 0].size, distilled.teacher_logits.argmax(-1)
    share = f"at the crop's own class for {own_class_share(distilled):.1f}% of {count} crops"
    if labels_are_learnt(distilled.manifest):
        return f"the labels were learnt with the pixels, and are largest {share}"
    text = f"the teacher's logits are largest {share}"
    own = np.bincount(distilled.labels, (named == distilled.labels[:, None]).any(1))
    never = [name for name, known in zip(distilled.class_names, own, strict=True) if not known]
    if never:
        shown = ", ".join(never[:5]) + (f" and {len(never) - 5} more" if len(never) > 5 else "")
        text += (
            f"\nwarning: the teacher takes every crop of {shown} for another class, and its labels "
            "teach students as little: give it more such images, or students hard labels"
        )
    return text


def mean_interval(
    values: Sequence[float | int], *, confidence: float = 0.95
) -> tuple[float, float | None]:
    """The mean, and half the width of its interval by Student's t; None of one value alone.

    Args:
        values: one of each independent draw.
        confidence: that the interval holds the true mean, 0 to 1.
    """
    count = len(values)
    if count < 2:
        return float(np.mean(values)), None
    quantile = stats.t.ppf((1 + confidence) / 2, count - 1)
    return float(np.mean(values)), float(quantile * np.std(values, ddof=1) / count**0.5)


def accuracy_table(results: Mapping[str, Mapping[int, Sequence[float]]]) -> str:
    """`accuracy_rows` as a Markdown table."""
    return markdown(accuracy_rows(results))


def accuracy_rows(results: Mapping[str, Mapping[int, Sequence[float]]]) -> list[list[str]]:
    """A table: a row a method, a column a budget, mean and standard deviation in percent.

    Args:
        results: method -> images per class -> top-1 of each seed, in percent.
    """
    budgets = sorted({budget for row in results.values() for budget in row})
    names = [str(name) for name in results]
    cells = [
        [_mean_std(row[budget]) if budget in row else "not run" for budget in budgets]
        for row in results.values()
    ]
    header = ["top-1, %", *(f"{budget} / class" for budget in budgets)]
    return [header, *([name, *line] for name, line in zip(names, cells, strict=True))]


def markdown(table: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its columns aligned; the first row is the header."""
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = [_line(table[0], widths), "|".join(["", *("-" * (w + 2) for w in widths), ""])]
    return "\n".join(lines + [_line(line, widths) for line in table[1:]])


def _mean_std(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [f" {cell:<{width}} " for cell, width in zip(cells, widths, strict=True)]
    return "|".join(["", *padded, ""])
