"""What of a pool's table is kept while it grows: what the selector can still choose (host)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from infoutil_jax import progress
from infoutil_jax.distillation.examine import SELECT, Examined, stream
from infoutil_jax.method.recipes import Recipe

Keep = Callable[[Examined], Examined]


def keeping(recipe: Recipe, seed: int, per_class: int | None, shown: bool) -> Keep:
    """Makes the function that reduces a table for the selector; tells once if there is none."""
    reduce, key = recipe.selector.reduce, stream(seed, SELECT)
    if per_class is None:
        return lambda rows: rows
    if reduce is None:
        said = f"{recipe.name} chooses among all crops at once: more images need more memory"
        progress.note(said, shown=shown)
        return lambda rows: rows
    return lambda rows: rows.follow(reduce(key, rows.candidates, per_class))


def folded(tables: Iterator[Examined], keep: Keep) -> Examined:
    """Joins tables, reducing whenever as many new rows as kept rows have arrived."""
    rows: list[Examined] = []
    waiting: list[Examined] = []
    for table in tables:
        waiting.append(table)
        # Reducing costs a sort: it waits until there are as many new rows as old ones.
        if not rows or sum(len(t.boxes) for t in waiting) >= len(rows[0].boxes):
            rows, waiting = [keep(Examined.joined(*rows, *waiting))], []
    return keep(Examined.joined(*rows, *waiting)).in_order()
