"""What the attacks do to files and options, and how the outcome is told: pure functions."""

from __future__ import annotations

import copy
import hashlib
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from infoutil_jax.data import layout
from infoutil_jax.errors import InputError

SECONDS = 10
"""That nothing may take longer than, below the sizes that are announced."""
HOSTILE: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 7, 2**31, 2**70, -0.5, 1e308, 1e-320),
    *("", "x", "..", "../x", "/", "a/b", "C:/x", "\ud800", "x" * 5000, "\u202e", "<b>", "\0"),
    *([], {}, [[]], [1, 2], [0.5, "a"], {"a": 1}, {"mean": [1]}, [[1e308] * 4] * 4),
)
"""Values that JSON can hold, in the place of any other."""
DEEP = b"[" * 100_000


class Hangs(BaseException):
    """Something has taken longer than `SECONDS`."""


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Ends what takes longer; in the main thread."""

    def stop(number: int, frame: Any) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(attempt: Callable[[], Any]) -> str:
    """What an attempt ends in: "told" in one line, "accepted", "hang", or what was raised."""
    try:
        with at_most(SECONDS):
            attempt()
    except InputError as error:
        return "told" if "\n" not in str(error) else "told in several lines"
    except Hangs:
        return "hang"
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]
    return "accepted"


def flipped(rng: np.random.Generator, content: bytes) -> bytes:
    """The content with one byte changed."""
    changed = bytearray(content)
    changed[int(rng.integers(len(changed)))] ^= int(rng.integers(1, 256))
    return bytes(changed)


def damaged(rng: np.random.Generator, content: bytes) -> bytes:
    """The content flipped, cut, lengthened, emptied, or other bytes."""
    match int(rng.integers(6)):
        case 0:
            return content[: int(rng.integers(len(content) + 1))]
        case 1:
            return content + rng.bytes(int(rng.integers(1, 64)))
        case 2:
            return b""
        case 3:
            return rng.bytes(len(content))
        case 4:
            return DEEP
    return flipped(rng, content)


def mutated(rng: np.random.Generator, tree: Any) -> Any:
    """A copy of a JSON value with something in it replaced, removed or added."""
    tree = copy.deepcopy(tree)
    places = list(_places(tree))
    if not places:
        return HOSTILE[int(rng.integers(len(HOSTILE)))]
    holder, key = places[int(rng.integers(len(places)))]
    value = copy.deepcopy(HOSTILE[int(rng.integers(len(HOSTILE)))])
    match int(rng.integers(4)):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, list):
            holder.insert(key, value)
        case 2 if isinstance(holder, dict):
            holder[f"{key}2"] = value
        case _:
            holder[key] = value
    return tree


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(tree, dict | list):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from _places(tree[key])


def sign(path: Path, manifest: Any) -> None:
    """Writes a manifest with a digest that fits, and the sha256 of each file that it lists."""
    if isinstance(manifest, dict):
        listed = manifest.get("files")
        for name in list(listed) if isinstance(listed, dict) else ():
            if isinstance(listed[name], str) and _is_file(path, name):
                listed[name] = hashlib.sha256((path / name).read_bytes()).hexdigest()
        manifest["sha256"] = layout.digest(manifest)
    (path / layout.MANIFEST).write_bytes(layout.text_of(manifest))


def _is_file(path: Path, name: str) -> bool:
    try:
        file = path / name
        inside = ".." not in name and not name.startswith("/")
        return inside and file.is_file() and file.stat().st_size < 2**20
    except (OSError, ValueError):
        return False


def obstruct(rng: np.random.Generator, file: Path) -> None:
    """Puts what is no regular file in a file's place, or what has an absurd size."""
    file.unlink()
    match int(rng.integers(6)):
        case 0:
            os.mkfifo(file)
        case 1:
            file.symlink_to(file.name)
        case 2:
            file.symlink_to("/dev/zero")
        case 3:
            file.mkdir()
        case 4:
            with socket.socket(socket.AF_UNIX) as one, _in(file.parent):
                one.bind(file.name)
        case _:
            with file.open("wb") as huge:
                huge.truncate(2**40)  # sparse: it takes no room


@contextmanager
def _in(folder: Path) -> Iterator[None]:
    """A socket's whole path has some 100 bytes at most."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


class Counts(Counter[str]):
    """Outcomes of one kind of attack, and how long the slowest took."""

    slowest = 0.0

    def add(self, attempt: Callable[[], Any]) -> str:
        """Makes an attempt and counts its outcome."""
        started = time.perf_counter()
        found = outcome(attempt)
        self.slowest = max(self.slowest, time.perf_counter() - started)
        self[found] += 1
        return found

    @property
    def wrong(self) -> dict[str, int]:
        """What is neither told nor accepted."""
        return {name: n for name, n in self.items() if name not in ("told", "accepted")}
