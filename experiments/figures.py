"""The report's figure: accuracy against the budget (Matplotlib)."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure


def accuracy(group: Mapping[tuple[str, int], Any], rows: Sequence[str]) -> Figure:
    """Draws top-1 against images a class, one line per row, with bars of a standard deviation.

    A second plot shows the lead over random images, on the scale on which methods differ.
    """
    drawn = Figure(figsize=(10, 3.8), layout="constrained")
    absolute, ahead = drawn.subplots(1, 2)
    chance = {b: r["student"]["top1_mean"] for (name, b), r in group.items() if name == "random"}
    for number, row in enumerate(rows):
        look = {"color": f"C{number}", "marker": "o", "ms": 4, "capsize": 3}  # in every setting
        budgets = sorted(b for name, b in group if name == row and b)
        students = {b: group[row, b]["student"] for b in budgets}
        for axis, base in ((absolute, dict.fromkeys(budgets, 0.0)), (ahead, chance)):
            seen = [b for b in budgets if b in base]
            means = [students[b]["top1_mean"] - base[b] for b in seen]
            bars = [students[b]["top1_std"] or 0.0 for b in seen]
            if seen:
                axis.errorbar(seen, means, bars, label=row, **look)
    for axis, label in ((absolute, "top-1, %"), (ahead, "top-1, ahead of random images")):
        axis.set(xscale="log", xlabel="images a class", ylabel=label)
        axis.set_xticks(sorted({b for _, b in group if b}))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    absolute.legend(fontsize=8)
    return drawn
