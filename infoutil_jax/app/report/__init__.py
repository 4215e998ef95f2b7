"""One self-contained HTML page about distilled sets: what was kept, why, and what it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from infoutil_jax import files
from infoutil_jax.app.report.gather import gather
from infoutil_jax.app.report.page import page
from infoutil_jax.data.sources import Source


def report(
    folders: Sequence[str | Path], path: str | Path | None = None, *, source: Source | None = None
) -> Path:
    """Writes the page.

    It asks nothing of any network and runs from a file: send it by mail.

    Args:
        folders: of `infoutil run`, `compare`, `quickstart` or `distill`; several are side by side.
        path: of the page; by default `report.html` in the first folder, or beside it where that is
            a set, which holds nothing else.
        source: what the sets were distilled from; by default what the folders say.

    Returns:
        Where the page is.

    Raises:
        InputError: a folder without a set, or a set that cannot be read.

    Examples:
        >>> report(["runs/digits"])  # doctest: +SKIP
    """
    places = [Path(folder) for folder in folders]
    text = page([gather(place, source) for place in places])
    first = places[0]
    beside = first.with_name(f"{first.resolve().name}-report.html")
    is_set = (first / "manifest.json").is_file()
    target = Path(path) if path is not None else beside if is_set else first / "report.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    files.write(target, text)
    return target
