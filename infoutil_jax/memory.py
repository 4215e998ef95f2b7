"""How much memory this machine has for arrays, by the kernel and by a container's limit (host)."""

from __future__ import annotations

import os
from pathlib import Path

from infoutil_jax.errors import InputError

_ROOT = Path("/")
UNLIMITED = 2**60
"""Bytes from which on a control group's limit is none."""


def total() -> int | None:
    """Bytes that programs can have at all, swap included; None where no system tells."""
    about = _meminfo()
    limits = [limit for limit, _ in _groups()]
    if "MemTotal" in about:
        limits.append(about["MemTotal"] + about.get("SwapTotal", 0))
    else:
        try:
            limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        except (AttributeError, OSError, ValueError):
            return min(limits, default=None)
    return min(limits)


def available() -> int | None:
    """Bytes that programs can still take, swap included; None where no system tells."""
    about = _meminfo()
    left = [max(0, limit - used) for limit, used in _groups()]
    if "MemAvailable" in about:
        left.append(about["MemAvailable"] + about.get("SwapFree", 0))
    return min(left) if left else total()


def left() -> tuple[int | None, str]:
    """Bytes that arrays can still take where JAX computes, or None; and where that is."""
    import jax  # what only asks for this machine's memory does without

    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0), "the device"
    return available(), "this machine"


def short(
    what: str, needed: int, instead: str, where: tuple[int | None, str] | None = None
) -> list[str]:
    """A sentence where arrays may not fit; none where they do, or where no system tells.

    Args:
        what: their name and its verb.
        needed: bytes, about.
        instead: what would need less.
        where: bytes that are left, and where; None for where JAX computes.
    """
    there, place = where or left()
    if there is None or needed <= there:
        return []
    return [
        f"memory may not suffice: {what} about {size(needed)} and {place} has {size(there)} "
        f"left; {instead} needs less"
    ]


def size(count: int) -> str:
    """Bytes as people read them: "1.5 GiB"."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def check(what: str, needed: int, instead: str) -> None:
    """Checks that arrays which have to be held at once can be.

    Args:
        what: their name in the sentence.
        needed: bytes.
        instead: what to do where they cannot.

    Raises:
        InputError: they are larger than all the memory that this machine has.
    """
    most = total()
    if most is not None and needed > most:
        raise InputError(
            f"{what} would take {size(needed)} and this machine has {size(most)} of memory: "
            f"{instead}"
        )


def _meminfo() -> dict[str, int]:
    """What Linux tells, in bytes."""
    found = {}
    for line in _text("proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        amount = value.split()
        if amount and amount[0].isdigit():
            found[name] = int(amount[0]) * 1024
    return found


def _groups() -> list[tuple[int, int]]:
    """Limit and use of the control groups that have a limit, as containers do."""
    found = []
    for folder, most, now in (
        ("sys/fs/cgroup", "memory.max", "memory.current"),
        ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        limit, used = (_text(f"{folder}/{name}").strip() for name in (most, now))
        if limit.isdigit() and used.isdigit() and int(limit) < UNLIMITED:
            files = 0  # read from disk, and given back when memory is short
            for line in _text(f"{folder}/memory.stat").splitlines():
                name, _, value = line.partition(" ")
                if name in ("inactive_file", "total_inactive_file"):
                    files = int(value)
            found.append((int(limit), max(0, int(used) - files)))
    return found


def _text(name: str) -> str:
    try:
        return (_ROOT / name).read_text()
    except OSError:
        return ""
