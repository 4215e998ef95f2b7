"""An earlier revision of the repository beside the working tree, to compare the two."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


@contextmanager
def checkout(revision: str, place: Path) -> Iterator[Path]:
    """The tree of a revision at `place`, for as long as the context lasts."""
    _git("worktree", "add", "--detach", str(place), revision)
    try:
        yield place
    finally:
        _git("worktree", "remove", "--force", str(place))


def _git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, stdout=subprocess.DEVNULL)
