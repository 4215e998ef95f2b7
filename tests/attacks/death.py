"""Processes of their own, and the death of one at every disk operation of a write in turn.

It imports little: a test starts it, and forks from it.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infoutil_jax import files
from infoutil_jax.data import layout


def forked(work: Callable[[], int], log: Path | int, limit: int | None = None) -> int:
    """Starts `work` in a process of its own, and returns its id.

    Args:
        work: returns the exit status.
        log: where what is printed goes, a file or an open pipe.
        limit: of the bytes of each file.
    """
    if process := os.fork():
        return process
    status = 70
    try:
        said = log if isinstance(log, int) else os.open(log, os.O_WRONLY | os.O_CREAT, 0o666)
        for stream in (1, 2):
            os.dup2(said, stream)
        # Streams of before take what is now a pipe for the file that may have been there.
        sys.stdout, sys.stderr = (open(n, "w", closefd=False) for n in (1, 2))  # noqa: SIM115
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        status = work()
    except SystemExit as stopped:
        status = int(stopped.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def ended(process: int) -> int:
    """The exit status of a process; of one that a signal has ended, its number below zero."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


CALLS = ("mkdir", "rename", "replace", "unlink", "open")
READING = ("r", "rb")


def crashes(folder: Path, write: Callable[[Path, bool], Any]) -> Counter[str]:
    """Has the replacing of a set die before each of its disk operations in turn.

    Args:
        folder: to work in.
        write: writes a set to a place; if its second argument is true, another one over it.
    """
    found, number = Counter[str](), 0
    write(folder / "old" / "set", False)
    while True:
        place = folder / f"{number:03d}" / "set"
        shutil.copytree(folder / "old", place.parent)
        died = ended(
            forked(
                lambda place=place, n=number: dying(lambda: write(place, True), n), folder / "log"
            )
        )
        if died == 0:
            return found
        there = (place / layout.MANIFEST).exists()
        found["crashes"] += 1
        found["without a set meanwhile"] += not there
        again = ended(forked(lambda place=place: _finishing(write, place), folder / "log"))
        left = sorted(path.name for path in place.parent.iterdir())
        found["recovered"] += again == 0 and left == ["set"]
        number += 1


def dying(work: Callable[[], Any], number: int) -> int:
    """Works, and dies at once before the disk operation of this number."""
    count, opened = 0, Path.open

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            mode = arguments[1] if len(arguments) > 1 else options.get("mode", "r")
            reads = call is opened and mode in READING
            count += not reads
            if not reads and count > number:
                os._exit(9)
            return call(*arguments, **options)

        return operation

    for name in CALLS:
        setattr(Path, name, counted(getattr(Path, name)))
    shutil.rmtree = counted(shutil.rmtree)
    files.exchanged = counted(files.exchanged)
    work()
    return 0


def _finishing(write: Callable[[Path, bool], Any], place: Path) -> int:
    write(place, True).verify()
    return 0
