"""Every image below a folder, and a count of everything that is passed over. On the host."""

import errno
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infoutil_jax.data.formats import suffixes

# What archivers and file systems leave behind; some of it looks like images.
LITTER = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")
Identity = tuple[int, int]


@dataclass
class Found:
    """What lies below a folder.

    Attributes:
        images: paths, sorted.
        passed: how many things of each kind were passed over.
        loops: links that lead back to where they lie.
    """

    images: list[str] = field(default_factory=list)
    passed: Counter[str] = field(default_factory=Counter)
    loops: list[str] = field(default_factory=list)


def is_passed(name: str) -> str | None:
    """The kind of thing that is passed over whatever it is; None for any other."""
    if name in LITTER:
        return name
    return "hidden" if name.startswith(".") else None


def below(top: Path, above: frozenset[Identity] = frozenset()) -> Found:
    """Walks everything below `top`, which itself lies below the folders `above`.

    Links are followed, and a folder or file that links lead to several times is taken once. Nothing
    raises: a folder that cannot be read is counted, too.
    """
    found = Found()
    linked_files: list[str] = []
    seen: set[Identity] = set()
    folders: list[tuple[str, frozenset[Identity]]] = [(os.fspath(top), above)]
    links: list[tuple[str, frozenset[Identity]]] = []
    while folders or links:
        path, parents = folders.pop() if folders else links.pop()
        try:
            here = identity(Path(path))
            if here in parents:
                found.loops.append(path)
                continue
            if here in seen:
                found.passed["repeated by a link"] += 1
                continue
            seen.add(here)
            with os.scandir(path) as listing:
                entries = sorted(listing, key=lambda entry: entry.name, reverse=True)
        except OSError:
            found.passed["folder that cannot be read"] += 1
            continue
        for entry in entries:
            if kind := is_passed(entry.name):
                found.passed[kind] += 1
                continue
            try:
                if entry.is_dir():
                    (links if entry.is_symlink() else folders).append(
                        (entry.path, parents | {here})
                    )
                elif not entry.name.lower().endswith(suffixes()):
                    found.passed[kind_of(entry.name)] += 1
                elif not entry.is_file():
                    broken = entry.is_symlink() and not Path(entry.path).exists()
                    found.passed["broken link" if broken else "special file"] += 1
                else:
                    (linked_files if entry.is_symlink() else found.images).append(entry.path)
            except OSError as error:
                if error.errno == errno.ELOOP:  # a link to itself, in however many steps
                    found.loops.append(entry.path)
                else:
                    found.passed["that cannot be read"] += 1
    if linked_files:
        _add_once(found, sorted(linked_files))
    found.images.sort()
    return found


def identity(path: Path) -> Identity:
    """What two paths of one folder or file have in common."""
    status = path.stat()
    return status.st_dev, status.st_ino


def and_above(path: Path) -> frozenset[Identity]:
    """The folder `path` and all that it lies in."""
    place = path.resolve()
    return frozenset(identity(folder) for folder in (place, *place.parents))


def _add_once(found: Found, links: list[str]) -> None:
    taken = {identity(Path(path)) for path in found.images}
    for path in links:
        here = identity(Path(path))
        if here in taken:
            found.passed["repeated by a link"] += 1
        else:
            taken.add(here)
            found.images.append(path)


def kind_of(name: str) -> str:
    """How a file that is no image is counted: by its ending."""
    return Path(name).suffix.lower() or "without an ending"


def in_words(passed: Mapping[str, int]) -> str:
    """The counts: "3 .txt, 1 hidden"; "" for none."""
    return ", ".join(f"{count} {kind}" for kind, count in sorted(passed.items()))
