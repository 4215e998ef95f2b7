"""Files that are whole or not there, and reading that neither waits nor fills the memory (host)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infoutil_jax.errors import InputError

SMALL = 2**24
"""Bytes of a file of settings or figures; of a larger one nothing is parsed."""
LARGE = 2**28
"""Likewise of results, which hold a confusion of classes for every recipe."""
OF_THE_MACHINE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENXIO),
    *(errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.EBUSY),
}
"""Errors of the machine and its disks, not of this program."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Has an error of the machine's name the file: of one that is open already, none does."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise


@contextmanager
def writing(path: Path, part: Path) -> Iterator[None]:
    """Has a file that is written under the name `part` be whole under its own, or not there."""
    try:
        with naming(path):
            yield
            part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def write(path: Path, content: bytes | str) -> None:
    """Writes a file that is whole or not there; where that fails, what was there stays."""
    part = path.with_name(path.name + ".part")
    with writing(path, part):
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def find_room(folder: Path, size: int) -> None:
    """Takes and returns the room that files need, for those who fail badly where there is none.

    Raises:
        OSError: there is none.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except (AttributeError, OSError) as error:  # not every system and disk can
            number = getattr(error, "errno", errno.EOPNOTSUPP)
            if number not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise OSError(number, os.strerror(number), str(folder)) from None


def read(path: Path, most: int) -> bytes:
    """The bytes of a regular file of at most `most` bytes.

    Raises:
        InputError: it is a folder, a FIFO, a socket or a device, or larger.
        OSError: it cannot be read.
    """
    try:  # a FIFO would be waited for
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, a FIFO that nobody reads
            raise InputError(f"{path} is not a regular file; it should be one") from None
        raise
    with os.fdopen(opened, "rb") as file:
        about = os.fstat(opened)
        if not stat.S_ISREG(about.st_mode):
            raise InputError(f"{path} is not a regular file; it should be one")
        if about.st_size > most:
            raise InputError(f"{path} has {about.st_size} bytes; it should have at most {most}")
        return file.read(about.st_size + 1)  # not `most`, for which memory would be set aside


def parse(content: bytes, path: Path) -> Any:
    """What JSON says, without NaN and infinities.

    Raises:
        InputError: it is no JSON, or nested too deeply to be read.
    """
    try:
        return json.loads(content, parse_constant=_refuse)
    except RecursionError:
        raise InputError(f"{path} is not JSON that can be read: it is nested too deeply") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def real(path: str | os.PathLike[str]) -> Path:
    """The path with every link followed; what it leads to need not be there.

    Raises:
        InputError: links that loop, or a name that no disk takes.
    """
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            Path(path).stat()
        return Path(path).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{Path(path)} leads nowhere: {reason}") from None


def beside(place: Path) -> Path:
    """A new name next to a folder, for what is going to take its place."""
    return place.with_name(f".{place.name}.{secrets.token_hex(4)}.partial")


_HERE, _SWAP = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


def exchanged(one: Path, other: Path) -> bool:
    """Swaps the names of two folders in one step; False where system or disk cannot do that."""
    try:
        swap = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):
        return False
    swap.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    status: int = swap(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _SWAP)
    return status == 0


def move(source: Path, place: Path) -> None:
    """Puts a finished folder, named by `beside`, in its place.

    Where the kernel swaps two names in one step, one of the two is there at every moment. Elsewhere
    what was there comes back if the move fails; where the process dies meanwhile, `recover` brings
    it.
    """
    if not place.exists():
        source.rename(place)
        return
    if exchanged(source, place):
        shutil.rmtree(source, ignore_errors=True)  # what was there; the next run removes the rest
        return
    old = source.with_suffix(".old")
    place.rename(old)
    try:
        source.rename(place)
    except BaseException:
        old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)  # what is left of it, the next run removes


def recover(place: Path) -> None:
    """Brings back a folder that a dead run has moved aside, and removes what such runs have left.

    Args:
        place: the folder, without links, which the caller has locked.
    """
    if not place.parent.is_dir():
        return
    left = re.compile(rf"\.{re.escape(place.name)}\.[0-9a-f]{{8}}\.(old|partial)")
    for folder in sorted(place.parent.iterdir()):
        kind = left.fullmatch(folder.name)
        if kind is None or folder.is_symlink():
            continue
        if kind[1] == "old" and not place.exists():
            folder.rename(place)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def told(error: OSError) -> str:
    """A sentence about an error of the machine's."""
    where = error.filename2 or error.filename
    place = f"{os.fsdecode(where)}: " if isinstance(where, str | bytes) else ""
    return f"{place}{error.strerror}; what was there before is as it was"
