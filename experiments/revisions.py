"""An earlier revision of the repository beside the working tree, to compare the two."""

from __future__ import annotations

import os
import subprocess
import sys
import time
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


def seconds_of(tree: Path, words: list[str], cache: Path) -> float:
    """How long `infoutil WORDS` of a tree takes, in a process of its own.

    Args:
        tree: the working tree, or a checkout.
        words: verb and options.
        cache: folder of what is compiled, or found out of a source's images.
    """
    places = {
        "PYTHONPATH": str(tree),
        "XDG_CACHE_HOME": str(cache),
        "JAX_COMPILATION_CACHE_DIR": str(cache / "jax"),
    }
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "infoutil_jax.app.cli", *words],
        cwd=tree,
        env={**os.environ, **places},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - started


def _git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, stdout=subprocess.DEVNULL)
