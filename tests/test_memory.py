"""What a machine says of its memory: the kernel's files and a container's limit."""

import pytest

from infoutil_jax import memory
from infoutil_jax.errors import InputError

GIB = 2**30
MEMINFO = """MemTotal:       16777216 kB
MemFree:         1048576 kB
MemAvailable:    8388608 kB
SwapTotal:       2097152 kB
SwapFree:        1048576 kB
HugePages_Total:       0
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_ROOT", tmp_path)

    def write(name, text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    return write


def test_linux_counts_swap_and_what_it_can_give_back(machine):
    machine("proc/meminfo", MEMINFO)
    assert memory.total() == 18 * GIB
    assert memory.available() == 9 * GIB


@pytest.mark.parametrize(
    ("folder", "most", "now", "cached"),
    [
        ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
        (
            *("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
            "total_inactive_file",
        ),
    ],
)
def test_a_container_has_no_more_than_its_limit(machine, folder, most, now, cached):
    machine("proc/meminfo", MEMINFO)
    machine(f"{folder}/{most}", f"{4 * GIB}\n")
    machine(f"{folder}/{now}", f"{3 * GIB}\n")
    machine(f"{folder}/memory.stat", f"anon {2 * GIB}\n{cached} {GIB}\n")
    assert memory.total() == 4 * GIB
    assert memory.available() == 2 * GIB, "what is read from disk is given back"


@pytest.mark.parametrize("limit", ["max", "9223372036854771712"])
def test_no_limit_is_none(machine, limit):
    machine("proc/meminfo", MEMINFO)
    machine("sys/fs/cgroup/memory.max", limit)
    machine("sys/fs/cgroup/memory.current", "0")
    assert memory.total() == 18 * GIB and memory.available() == 9 * GIB


def test_without_linux_it_is_all_that_is_built_in(machine, monkeypatch):
    known = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(memory.os, "sysconf", known.__getitem__)
    assert memory.total() == memory.available() == 4_096_000

    def unknown(name):
        raise ValueError(name)

    monkeypatch.setattr(memory.os, "sysconf", unknown)
    assert memory.total() is None and memory.available() is None
    memory.check("whatever", 2**80, "nothing is refused")


def test_this_machine_has_some():
    assert 2**27 < memory.available() <= memory.total()


def test_what_cannot_fit_is_refused(machine):
    machine("proc/meminfo", MEMINFO)
    memory.check("the set", 18 * GIB, "take fewer")
    with pytest.raises(InputError) as told:
        memory.check("the set", 18 * GIB + 1, "take fewer")
    assert str(told.value) == (
        "the set would take 18.0 GiB and this machine has 18.0 GiB of memory: take fewer"
    )
    assert memory.size(3 * 2**29) == "1.5 GiB" and memory.size(5 * 2**20) == "5 MiB"
