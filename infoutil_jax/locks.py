"""One run a place: a lock beside a folder, which ends with the process that holds it (host).

The kernel keeps the lock, so that of a process that is killed nothing has to be cleaned. A file
system that offers none, as some networks' do, gets a file that names its owner instead.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infoutil_jax.errors import InputError
from infoutil_jax.files import naming, real

NONE_HERE = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}
"""Errors of a file system without locks."""
_mine: dict[Path, int] = {}  # what this process has locked, and in which of its threads


@contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Keeps other runs from writing to `path` meanwhile; within one run it may be nested.

    Raises:
        InputError: another run has locked it; the sentence names it.
    """
    place, thread = real(path), threading.get_ident()
    if _mine.get(place) == thread:
        yield
        return
    if not place.name:
        raise InputError(f"{path} is the whole disk; name a folder on it")
    file = place.with_name(f".{place.name}.lock")
    missing = [folder for folder in file.parents if not folder.exists()]
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _held(file, Path(path)):
            _mine[place] = thread
            try:
                yield
            finally:
                _mine.pop(place, None)
    finally:
        for folder in missing:  # those that nothing was written to
            with contextlib.suppress(OSError):
                folder.rmdir()


def sweep(path: str | os.PathLike[str]) -> None:
    """Removes what a dead run's lock has left beside a folder that needs no lock any more."""
    place = real(path)
    if place.with_name(f".{place.name}.lock").exists():
        with contextlib.suppress(InputError, OSError), locked(place):
            pass


@contextmanager
def _held(file: Path, path: Path) -> Iterator[None]:
    """Holds the lock file, and removes it in the end."""
    marked = None
    while True:
        opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(opened)
            raise InputError(_refusal(path, _owner(file))) from None
        except OSError as error:
            if error.errno not in NONE_HERE:
                os.close(opened)
                raise
            marked = _marked(file.with_suffix(".owner"), path)
        if marked or _is_still(opened, file):
            break
        os.close(opened)  # whoever had it has just removed it
    try:
        with naming(file):
            os.ftruncate(opened, 0)
            os.write(opened, _me().encode())
        yield
    finally:
        for one in (file, marked):
            if one is not None:
                one.unlink(missing_ok=True)
        os.close(opened)


def _is_still(opened: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(opened), file.stat())
    except FileNotFoundError:
        return False


def _marked(file: Path, path: Path) -> Path:
    """Makes `file`, which names its owner, where the file system has no locks."""
    if _is_dead(_owner(file)):
        file.unlink(missing_ok=True)
    try:
        with file.open("x") as made:
            made.write(_me())
    except FileExistsError:
        again = f"; if that has ended, remove {file}"
        raise InputError(_refusal(path, _owner(file)) + again) from None
    return file


def _me() -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]])
    about = {"pid": os.getpid(), "host": platform.node(), "since": since, "command": command}
    return json.dumps(about)


def _owner(file: Path) -> dict[str, Any]:
    """Who has written the lock file; empty if that is not known, or nobody has."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_dead(owner: dict[str, Any]) -> bool:
    """Whether the owner was a process of this machine that is gone."""
    if owner.get("host") != platform.node():
        return False
    try:
        os.kill(int(owner["pid"]), 0)
    except ProcessLookupError:
        return True
    except (KeyError, TypeError, ValueError, OSError):
        return False
    return False


def _refusal(path: Path, owner: dict[str, Any]) -> str:
    who = "another process"
    if {"pid", "host", "since", "command"} <= owner.keys():
        who = "process {pid} on {host} ({command}) since {since}".format_map(owner)
    return f"{path} is in use by {who}: wait until that has ended, or choose another folder"
